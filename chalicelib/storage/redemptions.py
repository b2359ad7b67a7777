"""What a redemption reads and what it writes: code, device, holdings and audit, one call each.

It must not decide whether the redemption is allowed (core/codes.py, core/devices.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from chalicelib.core.codes import Code, State, hides
from chalicelib.core.devices import Device
from chalicelib.core.errors import Refusal
from chalicelib.storage import audit, codes, devices, holdings, notifications, registrations
from chalicelib.storage.connection import Refused, Transaction, batch_get
from chalicelib.storage.notifications import Change


def read(fingerprints: Sequence[str], hw_id: str) -> tuple[Code | None, Device | None]:
    """Read a code and the device that presents it, consistently, in one call.

    Args:
        fingerprints: of the code under all versions of the key, the current one first; empty to
            read the device alone.
    """
    found = batch_get(
        (codes.CodeItem, [(fingerprint,) for fingerprint in fingerprints]),
        (devices.DeviceItem, [(hw_id,)]),
    )
    by_fingerprint = {item.fingerprint: item for item in found[codes.CodeItem]}
    code = next((by_fingerprint[known] for known in fingerprints if known in by_fingerprint), None)
    device = next(iter(found[devices.DeviceItem]), None)
    return code and code.to(Code), device and device.to(Device)


def write(  # noqa: PLR0913 - what a redemption is made of
    code: Code,
    digits: str,
    device: Device,
    seen: Device | None,
    entry: audit.Entry,
    *,
    gateway: Device | None = None,
) -> None:
    """Redeem a code for a device, all or nothing.

    With it, whoever asked for the code is to hear of the device.

    Args:
        digits: of the code.
        device: as it shall be.
        seen: as it was when the rules allowed it, None if it was never seen.
        gateway: that an analogue phone is at, None for any other device.

    Raises:
        Refused: `code` was not pending any more, or `device` or `gateway` has changed since it was
            read.
        StoreUnavailableError: throttled, unreachable or in conflict for too long.
    """
    transaction = Transaction()
    if gateway is not None:
        devices.demand(transaction, gateway)
    codes.redeem(transaction, code, device.hw_id, device.registered_from, entry.at)
    assign(transaction, device, seen, entry.at, code.fingerprint)
    if code.asker:
        notifications.add_pending(transaction, code, digits, device, entry.at)
    if code.rollout_id:
        registrations.register(transaction, code, device.hw_id, entry.at)
    audit.add(transaction, entry.of_code(code))
    tell_former(transaction, device, seen, entry)
    transaction.commit()


def admit(device: Device, seen: Device | None, entry: audit.Entry) -> None:
    """Register a device by its domain's security token, all or nothing.

    Args:
        device: as it shall be.
        seen: as it was when the rules allowed it, None if it was never seen.

    Raises:
        Refused: `device` has changed since it was read.
        StoreUnavailableError: throttled, unreachable or in conflict for too long.
    """
    transaction = Transaction()
    assign(transaction, device, seen, entry.at)
    audit.add(transaction, entry)
    tell_former(transaction, device, seen, entry)
    transaction.commit()


def assign(
    write: Transaction, device: Device, seen: Device | None, now: datetime, fingerprint: str = ""
) -> None:
    """Add to a transaction that a device is assigned, and whose list it leaves and joins.

    Args:
        device: as it shall be.
        seen: as it was, None if it was never seen.
        fingerprint: of the code that does it, empty for none.
    """
    devices.assign(write, device, seen)
    came = _fact(device, fingerprint, Change.PROVISIONED)
    notifications.add_fact(write, came, now)
    if device.user:
        holdings.put_phone(write, device)
    if device.gateway:
        holdings.put_interface(write, device)
    if seen is not None and (seen.domain, seen.user) != (device.domain, device.user):
        drop(write, seen, now)


def tell_former(write: Transaction, device: Device, seen: Device | None, why: audit.Entry) -> None:
    """Add to a transaction what another domain's audit trail says of a device that it loses.

    It does not say to whom: that is nobody's business there.

    Args:
        device: as it shall be.
        seen: as it was, None if it was never seen.
        why: what the trail of its new domain says.
    """
    if seen is not None and seen.domain not in {"", device.domain}:
        hw_id = device.hw_id
        left = audit.Entry(seen.domain, why.at, "device left", hw_id, hw_id, why.source)
        audit.add(write, left.of_device(seen))


def release(device: Device, entry: audit.Entry) -> None:
    """Release a device: its token dies, and it is on nobody's list.

    Raises:
        Refused: it has changed hands since it was read.
        StoreUnavailableError: throttled, unreachable or in conflict for too long.
    """
    _end(device, entry, devices.release)


def remove(device: Device, entry: audit.Entry) -> None:
    """Forget a device altogether.

    Raises:
        Refused: it has changed hands since it was read.
        StoreUnavailableError: throttled, unreachable or in conflict for too long.
    """
    _end(device, entry, devices.remove)


def _end(device: Device, entry: audit.Entry, end: Callable[[Transaction, Device], None]) -> None:
    transaction = Transaction()
    leave(transaction, device, entry.at)
    end(transaction, device)
    audit.add(transaction, entry.of_device(device))
    transaction.commit()


def drop(write: Transaction, device: Device, now: datetime) -> None:
    """Add to a transaction that a device leaves its domain, or its user's list."""
    if device.user:
        holdings.drop_phone(write, device)
    # a phone that is only expected has never come
    change = Change.REMOVED if device.domain and device.registration_id else None
    notifications.add_fact(write, _fact(device, change=change), now)


def leave(write: Transaction, device: Device, now: datetime) -> None:
    """Add to a transaction that a device leaves every list: its user's, and its gateway's."""
    drop(write, device, now)
    if device.gateway:
        holdings.drop_interface(write, device)


def _fact(
    device: Device, fingerprint: str = "", change: Change | None = None
) -> notifications.Fact:
    return notifications.Fact(
        device.domain,
        device.user,
        fingerprint,
        device.hw_id,
        device.rollout_id,
        change=change,
        category=device.category,
        product=device.product,
        version=device.version,
    )


def refuse(code: Code, refusal: Refusal, entry: audit.Entry) -> None:
    """Tell the owner of a code, and the audit trail of its domain, why it was refused.

    A code that we issued to a foreign installation has neither here. The entry of a rollout hears
    only of the code that it has now; an attempt with the one before is written down all the same.

    Raises:
        Refused: the code has gone meanwhile.
        StoreUnavailableError: throttled, unreachable or in conflict for too long.
    """
    if not code.domain:
        return
    try:
        _refuse(code, refusal, entry, tells_entry=bool(code.rollout_id))
    except Refused as refused:
        if "code" in refused.items:
            raise
        _refuse(code, refusal, entry, tells_entry=False)


def _refuse(code: Code, refusal: Refusal, entry: audit.Entry, *, tells_entry: bool) -> None:
    transaction = Transaction()
    if not hides(code.reason, refusal):
        codes.note_refusal(transaction, code, refusal)
        if tells_entry:
            registrations.note_refusal(transaction, code, refusal, entry.at)
    fact = notifications.Fact(code.domain, code.owner, code.fingerprint, rollout_id=code.rollout_id)
    notifications.add_fact(transaction, fact, entry.at)
    audit.add(transaction, entry.of_code(code))
    transaction.commit()


def as_they_are(
    refused: Refused, code: Code, device: Device | None
) -> tuple[Code | None, Device | None]:
    """Tell what a refused redemption found instead, without another read."""
    if "code" in refused.items:
        item = refused.items["code"]
        code_now = codes.CodeItem.from_raw_data(item).to(Code) if item else None
    elif f"registration {code.owner}" in refused.items:
        # its entry has another: by the clock of whoever reissued it, this one had ended
        code_now = replace(code, state=State.REVOKED)
    else:
        code_now = code
    if "device" in refused.items:
        item = refused.items["device"]
        device = devices.DeviceItem.from_raw_data(item).to(Device) if item else None
    return code_now, device
