"""Users: a person's own codes and phones, as Profile shows them.

It must not know how a person signed in, nor what a phone does with its code.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chalicelib import observability, settings
from chalicelib.core.codes import Code, Lifetime, State
from chalicelib.core.errors import (
    ConflictError,
    NotAllowedError,
    NotFoundError,
    StoreUnavailableError,
)
from chalicelib.core.rate_limits import LimitName
from chalicelib.roles import analogue_phones, issuing
from chalicelib.storage import (
    audit,
    codes,
    devices,
    domains,
    holdings,
    limits,
    notifications,
    redemptions,
    users,
)
from chalicelib.storage.connection import Refused, Transaction
from chalicelib.storage.ids import ID_LENGTH

if TYPE_CHECKING:
    from chalicelib.core.devices import Device
    from chalicelib.identity import Person
    from chalicelib.roles.asking import Asking


@dataclass(frozen=True)
class Profile:
    """A signed-in person as the service knows them."""

    sip: str
    name: str
    domain: str
    roles: tuple[str, ...]
    may_add_phones: bool


@dataclass(frozen=True)
class OwnCode:
    """A code as its owner sees it, with the phone that redeemed it as long as that is theirs."""

    code: Code
    device: "Device | None"


def profile(asking: "Asking") -> Profile:
    """Tell a person who they are; at first sign-in they become a user of their domain.

    Raises:
        NotAllowedError: their domain is not served here.
        StoreUnavailableError: throttled or unreachable.
    """
    person = asking.person
    standing = users.find_standing(person.domain, person.sip)
    if standing.domain is None:
        raise NotAllowedError("the domain is not served here")
    if standing.user is None:
        newcomer = users.User(person.domain, person.sip, name=person.name)
        users.put_new(newcomer, asking.entry("user added", person.sip))
    return Profile(
        sip=person.sip,
        name=person.name,
        domain=person.domain,
        roles=tuple(sorted(person.roles)),
        may_add_phones=_may_add_phones(standing.user, standing.domain),
    )


def categories(person: "Person") -> list[domains.Category]:
    """List the categories into which a person can add a phone."""
    return [known for known in domains.categories(person.domain) if known.takes_phones]


def issue_code(asking: "Asking", category: str) -> issuing.IssuedCode:
    """Issue a code for a phone of this person, valid for ten minutes.

    Args:
        category: a provisioning category for phones of their domain.

    Raises:
        NotAllowedError: they may not add phones.
        NotFoundError: there is no such category for them.
        LimitReachedError: too many codes in this hour.
        CentralUnavailableError: the foreign central service did not answer as agreed.
        StoreUnavailableError: throttled or unreachable.
    """
    person = asking.person
    standing = users.find_standing(person.domain, person.sip, category)
    if standing.domain is None or not _may_add_phones(standing.user, standing.domain):
        raise NotAllowedError("this person may not add phones")
    if standing.category is None or not standing.category.takes_phones:
        raise NotFoundError("category")
    limit = settings.current().limits[LimitName.ISSUES]
    subject = f"{person.domain}#{person.sip}"
    limits.reserve(limit, subject, asking.now)
    order = issuing.Order(
        Lifetime.USER,
        devices_url=standing.domain.devices_url or asking.update_url,
        domain=person.domain,
        category=category,
        app=next(iter(standing.domain.phone_apps), ""),
        owner=person.sip,
    )

    def also(write: Transaction, code: Code) -> None:
        audit.add(write, asking.entry("code issued", code.code_id).of_code(code))

    try:
        return issuing.issue(order, asking.now, also)
    except StoreUnavailableError:
        limits.refund(limit, subject)
        raise


def list_codes(person: "Person", limit: int, after: str | None) -> tuple[list[OwnCode], str | None]:
    """List a person's codes, newest first.

    Returns:
        The codes, and where the next page begins.
    """
    page = holdings.list_codes(person.domain, person.sip, limit, after)
    found = {code.fingerprint: code for code in codes.find_all(page.items)}
    own = [found[key] for key in page.items if key in found and _is_own(found[key], person)]
    phones = {
        device.hw_id: device
        for device in devices.find_all([code.hw_id for code in own if code.hw_id])
        # one that has come to somebody else since is theirs to see
        if _has_phone(person, device)
    }
    return [OwnCode(code, phones.get(code.hw_id)) for code in own], page.next_after


def find_code(person: "Person", code_id: str) -> OwnCode:
    """Find one of a person's codes.

    Raises:
        NotFoundError: it is not theirs, or long gone.
    """
    code = _own_code(person, code_id)
    device = devices.find(code.hw_id) if code.hw_id else None
    return OwnCode(code, device if device and _has_phone(person, device) else None)


def revoke_code(asking: "Asking", code_id: str) -> None:
    """Revoke a code that is still open; revoking it again changes nothing.

    Raises:
        NotFoundError: it is not theirs, or long gone.
        ConflictError: it has been redeemed.
        StoreUnavailableError: throttled or unreachable.
    """
    code = _own_code(asking.person, code_id)
    if code.state is State.PENDING:
        transaction = Transaction()
        codes.revoke(transaction, code)
        fact = notifications.Fact(code.domain, code.owner, code.fingerprint)
        notifications.add_fact(transaction, fact, asking.now)
        audit.add(transaction, asking.entry("code revoked", code_id).of_code(code))
        try:
            transaction.commit()
        except Refused:
            code = _own_code(asking.person, code_id)
    if code.state is State.REDEEMED:
        raise ConflictError("the code has been redeemed")


def list_phones(
    person: "Person", limit: int, after: str | None
) -> tuple[list["Device"], str | None]:
    """List a person's phones by hardware id.

    Returns:
        The phones, and where the next page begins.
    """
    page = holdings.list_phones(person.domain, person.sip, limit, after)
    found = {device.hw_id: device for device in devices.find_all(page.items)}
    own = [found[key] for key in page.items if key in found and _has_phone(person, found[key])]
    return own, page.next_after


def release_phone(asking: "Asking", hw_id: str) -> None:
    """Give a phone up: its token dies, it shows the code form, and anybody with a code may have it.

    With a gateway go the analogue phones at it.

    Raises:
        NotFoundError: it is not theirs.
        ConflictError: it changed hands at this moment.
        StoreUnavailableError: throttled or unreachable.
    """
    device = devices.find(hw_id)
    if device is None or not _has_phone(asking.person, device):
        raise NotFoundError("device")
    entry = asking.entry("device released", hw_id)
    try:
        with analogue_phones.going_with(device, entry):
            redemptions.release(device, entry)
    except Refused:
        raise ConflictError("the device changed hands at this moment") from None
    observability.count("DeviceReleased")


def _may_add_phones(user: users.User | None, domain: domains.Domain) -> bool:
    if user is None or user.may_add_phones is None:
        return domain.may_add_phones
    return user.may_add_phones


def _own_code(person: "Person", code_id: str) -> Code:
    if len(code_id) != ID_LENGTH:
        raise NotFoundError("code")
    fingerprint = holdings.find_code(person.domain, person.sip, code_id)
    found = codes.find_all([fingerprint]) if fingerprint else []
    if not found or found[0].code_id != code_id:
        raise NotFoundError("code")
    return found[0]


def _is_own(code: Code, person: "Person") -> bool:
    return (code.domain, code.owner) == (person.domain, person.sip)


def _has_phone(person: "Person", device: "Device") -> bool:
    return (device.domain, device.user) == (person.domain, person.sip)
