"""What a Users instance that has logged in asks of Devices: the service `com.innovaphone.devices`.

An instance sees its own domain and those that it was granted; one of the instance's domain sees
all. It must not know what a message looks like.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import quote, urlsplit

from chalicelib import settings
from chalicelib.core.codes import Code, Entry, Lifetime, State
from chalicelib.core.devices import Device
from chalicelib.core.errors import NotFoundError, StoreUnavailableError
from chalicelib.roles import analogue_phones, issuing
from chalicelib.roles.asking import UPDATE_PATH
from chalicelib.storage import audit, codes, connections, devices, domains, notifications, vault
from chalicelib.storage.connection import Refused, Transaction
from chalicelib.storage.connections import Connection, Role
from chalicelib.storage.domains import Category, Domain

_PAGE = 100
_MARK_LENGTH = 32
"""What of a session's key proves that it is ours; the rest says whose it is."""


@dataclass(frozen=True)
class Instance:
    """A Users instance that asks for something.

    Args:
        connection: the one that it has logged in over.
        src: of its message, empty for none.
    """

    connection: Connection
    src: str
    now: datetime

    @property
    def is_admin(self) -> bool:
        """Tell whether it administers all domains."""
        return self.connection.domain == settings.current().instance_domain


@dataclass(frozen=True)
class CodeOrder:
    """What a Users instance asks a code for.

    Args:
        domain_number: None for its own domain.
        category: by name.
        sip: the user's, empty for none.
        is_rollout: whether it is valid for 7 days, not 10 minutes.
    """

    domain_number: int | None
    category: str
    sip: str
    is_rollout: bool


@dataclass(frozen=True)
class Reached:
    """A device whose pages are asked for.

    Args:
        is_of_device: whether the key opens this device alone.
    """

    device: Device
    is_of_device: bool


def session_key(asking: Instance) -> str:
    """Tell the key of this connection: hex digits that open its devices' pages while it lasts."""
    return _key_of(asking.connection.connection_id)


def find_reached(key: str, domain: str, hw_id: str, now: datetime) -> Reached:
    """Find the device whose pages are asked for with a session's key.

    Args:
        key: of the session that asks.
        domain: whose address was asked.
        hw_id: 12 lower-case hex digits.

    Raises:
        NotFoundError: the key is none, or of a session that has ended, or that may not see this
            device: one answer for all.
        StoreUnavailableError: throttled or unreachable.
    """
    known = _session_of(key, hw_id, now)
    if known is None:
        raise NotFoundError("device")
    device = _device(Instance(known, "", now), hw_id)
    if device.domain != domain:
        raise NotFoundError("device")
    return Reached(device, vault.is_same(_key_of(known.connection_id, hw_id), key))


def passthrough_url(asking: Instance, device: Device) -> str:
    """Tell where an instance reaches the pages of a device that is connected, else empty."""
    public = urlsplit(settings.current().public_url)
    if not device.connection or not public.netloc:
        return ""
    domain = quote(device.domain, safe="")
    key = _key_of(asking.connection.connection_id, device.hw_id)
    path = f"/{domain}/devices/passthrough/{device.hw_id}/{key}/"
    return f"{public.scheme}://{public.netloc}{path}"


def _key_of(connection_id: str, hw_id: str = "") -> str:
    """Make a session's key, for one device or for all that it may see."""
    mark = vault.mark(f"session {connection_id} {hw_id}")
    return f"{mark}{connection_id.encode().hex()}"


def _session_of(key: str, hw_id: str, now: datetime) -> Connection | None:
    """Find the Users instance that holds a key, None if there is none any more."""
    try:
        connection_id = bytes.fromhex(key[_MARK_LENGTH:]).decode()
    except ValueError:
        return None
    keys = [_key_of(connection_id), _key_of(connection_id, hw_id)]
    if not any(vault.is_same(one, key) for one in keys):
        return None
    known = connections.find(connection_id)
    # its row may be left behind: API Gateway ends a connection after two hours, and may not say so
    ends_at = known.opened_at + timedelta(seconds=connections.KEEP_SECONDS) if known else now
    is_there = known is not None and known.role is Role.USERS_INSTANCE and now < ends_at
    return known if is_there else None


def domain_of(asking: Instance, number: int | None) -> Domain:
    """Find a domain that an instance may see.

    Args:
        number: the domain's, None for the instance's own.

    Raises:
        NotFoundError: there is none of this number for it.
    """
    own = domains.find(asking.connection.domain)
    if own is None:
        raise NotFoundError("domain")
    if number is None or number == own.number:
        return own
    name = domains.name_of(number)
    found = domains.find(name) if name and _may_see(asking, own, name) else None
    if found is None:
        raise NotFoundError("domain")
    return found


def domains_of(asking: Instance) -> Iterator[tuple[Domain, list[Category]]]:
    """List the domains that an instance may see, each with its categories."""
    for found in _visible(asking):
        yield found, domains.categories(found.domain)


def provisioning_categories(
    asking: Instance, number: int | None, device_type: str | None
) -> tuple[Domain, list[Category]]:
    """List the categories of a domain that codes can be asked for.

    Args:
        device_type: `PHONE` for those that have a configuration for phones or analog phones, None
            for all; there is none for any other type.

    Raises:
        NotFoundError: there is no such domain for it.
    """
    domain = domain_of(asking, number)
    known = [found for found in domains.categories(domain.domain) if found.provisioning]
    if device_type is None:
        return domain, known
    wanted = {"PHONE", "ANALOG_PHONE"} if device_type == "PHONE" else set()
    return domain, [found for found in known if wanted & set(found.device_types)]


def issue_code(asking: Instance, order: CodeOrder) -> issuing.IssuedCode:
    """Issue a code; the instance that asked for it hears of the phone that redeems it.

    Raises:
        NotFoundError: there is no such domain, or no such provisioning category.
        CentralUnavailableError: the foreign central service did not answer as agreed.
        StoreUnavailableError: throttled or unreachable, or our own URL is not known.
    """
    domain = domain_of(asking, order.domain_number)
    category = domains.find_category(domain.domain, order.category)
    if category is None or not category.provisioning:
        raise NotFoundError("category")
    lifetime = Lifetime.ROLLOUT if order.is_rollout else Lifetime.USER
    asker = asking.connection
    wanted = issuing.Order(
        lifetime,
        devices_url=domain.devices_url or _update_url(),
        domain=domain.domain,
        category=category.name,
        app=next(iter(domain.phone_apps), ""),
        owner=order.sip,
        asker=asker.domain,
        asking_connection=asker.connection_id,
        asking_src=asking.src,
    )

    def also(write: Transaction, code: Code) -> None:
        _will_hear(write, code, asking)
        entry = _entry(asking, code.domain, code.code_id, "code issued")
        audit.add(write, entry.of_code(code))

    return issuing.issue(wanted, asking.now, also)


def provisioned_device(asking: Instance, number: int | None, entry: Entry) -> Device | None:
    """Tell which device a code of its domains was redeemed for.

    If none has yet, this connection is the one that hears of it.

    Returns:
        None if the code is still open.

    Raises:
        NotFoundError: it is no code of a domain that it may see, or can no longer be redeemed.
        StoreUnavailableError: throttled or unreachable.
    """
    names = _names(asking, number)
    for _ in range(3):
        code = _find(entry)
        if code is None or not code.domain or not _is_among(code.domain, names):
            raise NotFoundError("code")
        state = code.state_at(asking.now)
        if state is State.REDEEMED:
            device = devices.find(code.hw_id)
            if device is None or (device.domain, device.code_id) != (code.domain, code.code_id):
                raise NotFoundError("code")
            return device
        if state is not State.PENDING:
            raise NotFoundError("code")
        connection = asking.connection
        asked = replace(
            code,
            asker=connection.domain,
            asking_connection=connection.connection_id,
            asking_src=asking.src,
        )
        transaction = Transaction()
        codes.ask_about(transaction, asked)
        _will_hear(transaction, asked, asking)
        try:
            transaction.commit()
        except Refused:
            continue
        return None
    raise StoreUnavailableError("code changed too often")


def number_of(domain: str) -> int:
    """Tell a domain's number, 0 if it has gone."""
    found = domains.find(domain)
    return found.number if found else 0


def list_devices(
    asking: Instance, numbers: list[int] | None, category_numbers: list[int] | None
) -> Iterator[tuple[Domain, list[Device]]]:
    """List the devices of domains, page by page; the list may lag, its items not.

    Args:
        numbers: of domains, None for all that it may see.
        category_numbers: of these categories alone, None for every one.

    Raises:
        NotFoundError: there is no domain of one of these numbers for it.
    """
    found = (
        list(_visible(asking))
        if numbers is None
        else [domain_of(asking, number) for number in numbers]
    )
    for domain in found:
        wanted = [""]
        if category_numbers is not None:
            known = domains.categories(domain.domain)
            wanted = [each.name for each in known if each.number in category_numbers]
        for category in wanted:
            after = None
            while True:
                page = devices.list_all(domain.domain, category, None, _PAGE, after)
                yield domain, page.items
                after = page.next_after
                if after is None:
                    break


def interfaces_with_phones(asking: Instance, hw_id: str) -> list[str]:
    """Tell which interfaces of a gateway have an analogue phone, TEL2 before TEL10.

    Args:
        hw_id: of the gateway; any other device has none.

    Raises:
        NotFoundError: there is no such device in a domain that it may see.
        StoreUnavailableError: throttled or unreachable.
    """
    return [phone.interface for phone in analogue_phones.list_at(_device(asking, hw_id))]


def remove_phone_at(asking: Instance, hw_id: str, interface: str) -> None:
    """Forget the analogue phone at an interface of a gateway.

    Raises:
        NotFoundError: there is no such device in a domain that it may see, or no phone there.
        ConflictError: it changed hands at this moment.
        StoreUnavailableError: throttled or unreachable.
    """
    gateway = _device(asking, hw_id)
    entry = _entry(asking, gateway.domain, hw_id, "device removed")
    analogue_phones.remove(gateway, interface, entry)


def _device(asking: Instance, hw_id: str) -> Device:
    names = _names(asking, None)
    device = devices.find(hw_id)
    if device is None or not device.domain or not _is_among(device.domain, names):
        raise NotFoundError("device")
    return device


def _visible(asking: Instance) -> Iterator[Domain]:
    if not asking.is_admin:
        own = domain_of(asking, None)
        found = domains.find_all([own.domain, *own.granted_domains])
        yield from sorted(found, key=lambda known: known.domain)
        return
    after = None
    while True:
        page = domains.list_all(_PAGE, after)
        yield from page.items
        after = page.next_after
        if after is None:
            return


def _may_see(asking: Instance, own: Domain, name: str) -> bool:
    return asking.is_admin or own.may_see(name)


def _names(asking: Instance, number: int | None) -> set[str] | None:
    """Name the domains that a code may be of, None for all."""
    if number is not None:
        return {domain_of(asking, number).domain}
    if asking.is_admin:
        return None
    own = domain_of(asking, None)
    return {own.domain, *own.granted_domains}


def _is_among(name: str, names: set[str] | None) -> bool:
    return names is None or name in names


def _find(entry: Entry) -> Code | None:
    if entry.digits is None:
        return None
    prints = vault.fingerprints(entry.digits)
    found = {code.fingerprint: code for code in codes.find_all(prints)}
    return next((found[known] for known in prints if known in found), None)


def _will_hear(write: Transaction, code: Code, asking: Instance) -> None:
    if code.domain != asking.connection.domain:
        notifications.add_abroad(write, asking.connection.domain, code.domain, asking.now)


def _update_url() -> str:
    base_url = settings.current().public_url
    if not base_url:
        raise StoreUnavailableError("PUBLIC_URL is not set")
    return f"{base_url}{UPDATE_PATH}"


def _entry(asking: Instance, domain: str, subject: str, action: str) -> audit.Entry:
    connection = asking.connection
    actor = f"{connection.app} ({connection.domain})"
    return audit.Entry(domain, asking.now, action, actor, subject, connection.source)
