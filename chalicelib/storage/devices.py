"""The devices table: phones by hardware id.

It must not decide who may take a device over or which jobs it gets (core/).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from pynamodb.attributes import (
    MapAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UTCDateTimeAttribute,
)
from pynamodb.exceptions import UpdateError
from pynamodb.expressions.condition import Condition

from chalicelib.core.devices import Device, Failure, PbxState, State
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.loading import on_use
from chalicelib.storage.connection import (
    EnumAttribute,
    Item,
    Refused,
    Transaction,
    batch_get,
    plain,
)

if TYPE_CHECKING:
    from pynamodb.expressions.update import Action

    from chalicelib.storage import lists
    from chalicelib.storage.lists import Index, Page
else:
    # a phone asks for no list
    lists = on_use("chalicelib.storage.lists")

_T = TypeVar("_T")

MAX_COUNTED = 1_000
"""Where counting stops that only asks whether there are any."""

_MAX_RACES = 3


class DeviceItem(Item):
    """One device; docs/data-model.md, devices."""

    concept = "devices"
    hw_id = UnicodeAttribute(hash_key=True)
    state = EnumAttribute(State)
    domain = UnicodeAttribute(null=True)
    listing = UnicodeAttribute(null=True)
    standing = UnicodeAttribute(null=True)
    category = UnicodeAttribute(null=True)
    app = UnicodeAttribute(null=True)
    user = UnicodeAttribute(null=True)
    name = UnicodeAttribute(null=True)
    product = UnicodeAttribute(null=True)
    version = UnicodeAttribute(null=True)
    device_type = UnicodeAttribute(null=True)
    prot = UnicodeAttribute(null=True)
    boot = UnicodeAttribute(null=True)
    local_ip = UnicodeAttribute(null=True)
    code_id = UnicodeAttribute(null=True)
    code_fingerprint = UnicodeAttribute(null=True)
    rollout_id = UnicodeAttribute(null=True)
    registration_id = UnicodeAttribute(null=True)
    registered_at = UTCDateTimeAttribute(null=True)
    registered_from = UnicodeAttribute(null=True)
    token_hash = UnicodeAttribute(null=True)
    token_version = NumberAttribute(null=True)
    token_used_at = UTCDateTimeAttribute(null=True)
    last_seen_at = UTCDateTimeAttribute(null=True)
    offered_at = UTCDateTimeAttribute(null=True)
    stuck_at = UTCDateTimeAttribute(null=True)
    confirmed: MapAttribute[str, str] = MapAttribute(null=True)  # type: ignore[no-untyped-call]
    failures: MapAttribute[str, Any] = MapAttribute(null=True)  # type: ignore[no-untyped-call]
    connection = UnicodeAttribute(null=True)
    disconnected_at = UTCDateTimeAttribute(null=True)
    pbx = EnumAttribute(PbxState, null=True)
    pbx_reason = UnicodeAttribute(null=True)

    @classmethod
    def of(cls, facts: object) -> Self:
        """Make the item of a device, with the places in which lists find it."""
        device, item = cast("Device", facts), super().of(facts)
        item.failures = {job: _stored(failure) for job, failure in device.failures.items()}
        item.listing, item.standing = _listing(device), _standing(device)
        return item

    def to(self, kind: type[_T]) -> _T:
        """Make the device of this item."""
        device = super().to(kind)
        if not isinstance(device, Device) or not device.failures:
            return device
        failures = {job: _failure(plain(kept)) for job, kept in device.failures.items()}
        return replace(device, failures=failures)


def find(hw_id: str) -> Device | None:
    """Read a device consistently."""
    return next(iter(find_all([hw_id])), None)


def find_all(hw_ids: Iterable[str]) -> list[Device]:
    """Read devices consistently, in no order; those that are not there are left out."""
    keys = [(hw_id,) for hw_id in hw_ids]
    return [item.to(Device) for item in batch_get((DeviceItem, keys))[DeviceItem]]


def assign(write: Transaction, device: Device, seen: Device | None) -> None:
    """Add an assignment to a transaction.

    Args:
        device: as it shall be.
        seen: as it was when core/devices.py allowed it; if what that rule looked at has changed
            since, the transaction is refused (docs/decisions/0004).
    """
    condition = _unchanged(seen) if seen else DeviceItem.hw_id.does_not_exist()
    write.put("device", DeviceItem.of(device), condition)


def demand(write: Transaction, gateway: Device) -> None:
    """Add to a transaction that a gateway must be where it was, by the same registration."""
    condition = _is_registered_as(gateway) & (DeviceItem.domain == gateway.domain)
    write.check("gateway", DeviceItem, (gateway.hw_id,), condition)


def release(write: Transaction, device: Device) -> None:
    """Add to a transaction the end of an assignment; what the device is stays known."""
    released = DeviceItem.of(
        Device(
            hw_id=device.hw_id,
            state=State.RELEASED,
            product=device.product,
            version=device.version,
            device_type=device.device_type,
            prot=device.prot,
            boot=device.boot,
            local_ip=device.local_ip,
            last_seen_at=device.last_seen_at,
        )
    )
    write.put("device released", released, _is_registered_as(device))


def remove(write: Transaction, device: Device) -> None:
    """Add to a transaction that a device is forgotten altogether."""
    write.delete("device", DeviceItem(device.hw_id), _is_registered_as(device))


def disconnect(hw_id: str, connection: str, at: datetime) -> bool:
    """Keep that a device's websocket has ended, unless it has a newer one by now.

    Returns:
        Whether it was this one.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    ended: list[Action] = [DeviceItem.connection.remove(), DeviceItem.disconnected_at.set(at)]
    return _is_written(DeviceItem(hw_id), ended, DeviceItem.connection == connection, None)


def report(device: Device, seen: Device, also: Callable[[Transaction], None] | None = None) -> bool:
    """Keep what a device reported, or what an administrator changed of it.

    Args:
        device: as it shall be; only what differs from `seen` is written, maps entry by entry, so
            that two reports at once do not undo each other.
        also: adds what must happen with it to the same transaction.

    Returns:
        Whether it still has the registration under which it reported.

    Raises:
        StoreUnavailableError: throttled, unreachable, or moved by others again and again.
    """
    wanted = DeviceItem(device.hw_id)
    actions: list[Action] = []
    for member in fields(device):
        new, old = getattr(device, member.name), getattr(seen, member.name)
        attribute = getattr(DeviceItem, member.name)
        if isinstance(new, Mapping):
            changed = [key for key in new if new[key] != old.get(key)]
            actions += [attribute[key].set(_stored(new[key])) for key in changed]
            actions += [attribute[key].remove() for key in old if key not in new]
        elif new != old:
            actions.append(attribute.remove() if new in {"", None} else attribute.set(new))
    at = seen
    for _ in range(_MAX_RACES):
        places, condition = _places(device, seen, at)
        if _is_written(wanted, [*actions, *places], condition, also):
            return True
        now = find_all([device.hw_id])
        if not now or now[0].registration_id != seen.registration_id:
            return False
        at = now[0]
    raise StoreUnavailableError("device changed too often")


def _is_written(
    item: DeviceItem,
    actions: list["Action"],
    condition: Condition,
    also: Callable[[Transaction], None] | None,
) -> bool:
    """Write a report; tells whether what must still be so was."""
    try:
        if also is None:
            item.update(actions, condition)
        else:
            transaction = Transaction()
            transaction.update("device", item, actions, condition)
            also(transaction)
            transaction.commit()
    except Refused:
        return False
    except UpdateError as error:
        if error.cause_response_code != "ConditionalCheckFailedException":
            raise
        return False
    return True


def list_all(
    domain: str, category: str, state: State | None, limit: int, after: str | None
) -> "Page[Device]":
    """List a domain's devices by category and hw_id, or by state; the list may lag, its items not.

    Args:
        category: of one category alone, empty for every one.
        state: of one state alone, None for every one.
    """
    prefix = f"{state}#" if state else ""
    prefix += f"{category}#" if category else ""
    index = _index("by-state", "standing") if state else _index("by-domain", "listing")
    page = lists.query(DeviceItem, domain, lists.Span(prefix, limit, after), index)
    found = {device.hw_id: device for device in find_all(_hw_ids(page))}
    current = [found[hw_id] for hw_id in _hw_ids(page) if hw_id in found]
    return lists.Page(
        [
            device
            for device in current
            if device.domain == domain
            and (not category or device.category == category)
            and (not state or device.state is state)
        ],
        page.next_after,
    )


def count_in(domain: str, category: str = "") -> int:
    """Count the devices of a domain, or of one category of it, up to a bound; the count may lag."""
    prefix = f"{category}#" if category else ""
    index = _index("by-domain", "listing")
    return len(lists.query(DeviceItem, domain, lists.Span(prefix, MAX_COUNTED), index).items)


def _places(device: Device, seen: Device, at: Device) -> tuple[list["Action"], Condition]:
    """Say where lists find a device after a report, and what must still be so for that to hold.

    Its place is made of its state and category, which two may change at once: the phone that
    reports and the administrator who moves it.

    Args:
        device, seen: of the report.
        at: as it is when the report is written.
    """
    condition: Condition = _is_registered_as(seen)
    if (device.state, device.category) == (seen.state, seen.category):
        return [], condition
    placed = replace(
        at,
        state=device.state if device.state != seen.state else at.state,
        category=device.category if device.category != seen.category else at.category,
    )
    condition &= (DeviceItem.state == at.state) & (DeviceItem.category == at.category)
    actions: list[Action] = [
        DeviceItem.listing.set(str(_listing(placed))),
        DeviceItem.standing.set(str(_standing(placed))),
    ]
    return actions, condition


def _index(name: str, range_key: str) -> "Index":
    return lists.Index(name, "domain", range_key, lambda listing: listing.rpartition("#")[2])


def _hw_ids(page: "Page[dict[str, Any]]") -> list[str]:
    return [item["hw_id"]["S"] for item in page.items]


def _is_registered_as(seen: Device) -> Condition:
    registration = DeviceItem.registration_id
    if not seen.registration_id:
        is_expected: Condition = registration.does_not_exist() & DeviceItem.hw_id.exists()
        return is_expected
    is_same: Condition = registration == seen.registration_id
    return is_same


def _unchanged(seen: Device) -> Condition:
    condition = _is_registered_as(seen)
    if seen.token_used_at is None:
        condition &= DeviceItem.token_used_at.does_not_exist()
    return condition


def _listing(device: Device) -> str | None:
    return f"{device.category}#{device.hw_id}" if device.domain else None


def _standing(device: Device) -> str | None:
    return f"{device.state}#{_listing(device)}" if device.domain else None


def _stored(value: object) -> object:
    """Write a failure as a map; whatever else a map holds stays as it is."""
    if isinstance(value, Failure):
        return {"count": value.count, "at": value.at.isoformat(), "reason": value.reason}
    return value


def _failure(kept: Any) -> Failure:  # noqa: ANN401 - PynamoDB's map
    return Failure(int(kept["count"]), datetime.fromisoformat(kept["at"]), str(kept["reason"]))
