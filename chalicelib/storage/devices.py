"""The devices table: phones by hardware id.

It must not decide who may take a device over or which jobs it gets (core/).
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from pynamodb.attributes import (
    MapAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UTCDateTimeAttribute,
)
from pynamodb.exceptions import UpdateError
from pynamodb.expressions.condition import Condition

from chalicelib.core.devices import Device, State
from chalicelib.storage.connection import EnumAttribute, Item, Transaction, batch_get

if TYPE_CHECKING:
    from pynamodb.expressions.update import Action


class DeviceItem(Item):
    """One device; docs/data-model.md, devices."""

    concept = "devices"
    hw_id = UnicodeAttribute(hash_key=True)
    state = EnumAttribute(State)
    domain = UnicodeAttribute(null=True)
    listing = UnicodeAttribute(null=True)
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
    registration_id = UnicodeAttribute(null=True)
    registered_at = UTCDateTimeAttribute(null=True)
    registered_from = UnicodeAttribute(null=True)
    token_hash = UnicodeAttribute(null=True)
    token_version = NumberAttribute(null=True)
    token_used_at = UTCDateTimeAttribute(null=True)
    last_seen_at = UTCDateTimeAttribute(null=True)
    offered_at = UTCDateTimeAttribute(null=True)
    stuck_since = UTCDateTimeAttribute(null=True)
    confirmed: MapAttribute[str, str] = MapAttribute(null=True)  # type: ignore[no-untyped-call]
    failures: MapAttribute[str, str] = MapAttribute(null=True)  # type: ignore[no-untyped-call]


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
    item = DeviceItem.of(device)
    item.listing = _listing(device)
    if seen is None:
        write.put("device", item, DeviceItem.hw_id.does_not_exist())
        return
    write.put("device", item, _unchanged(seen))


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
    write.put("device", released, DeviceItem.registration_id == device.registration_id)


def report(device: Device, seen: Device) -> bool:
    """Keep what a device reported.

    Args:
        device: as it shall be; only what differs from `seen` is written, maps entry by entry, so
            that two reports at once do not undo each other.

    Returns:
        Whether it still has the registration under which it reported.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    wanted = DeviceItem.of(device)
    actions: list[Action] = []
    for member in fields(device):
        new, old = getattr(device, member.name), getattr(seen, member.name)
        attribute = getattr(DeviceItem, member.name)
        if isinstance(new, Mapping):
            actions += [attribute[key].set(new[key]) for key in new if new[key] != old.get(key)]
            actions += [attribute[key].remove() for key in old if key not in new]
        elif new != old:
            actions.append(attribute.remove() if new in {"", None} else attribute.set(new))
    try:
        wanted.update(actions, DeviceItem.registration_id == seen.registration_id)
    except UpdateError as error:
        if error.cause_response_code != "ConditionalCheckFailedException":
            raise
        return False
    return True


def _unchanged(seen: Device) -> Condition:
    registration = DeviceItem.registration_id
    condition = (
        registration == seen.registration_id
        if seen.registration_id
        else registration.does_not_exist()
    )
    if seen.token_used_at is None:
        condition &= DeviceItem.token_used_at.does_not_exist()
    return condition


def _listing(device: Device) -> str:
    return f"{device.category}#{device.hw_id}"
