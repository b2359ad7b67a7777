"""What a redemption reads and what it writes: code, device, holdings and audit, one call each.

It must not decide whether the redemption is allowed (core/codes.py, core/devices.py).
"""

from collections.abc import Sequence
from datetime import datetime

from chalicelib.core.codes import Code
from chalicelib.core.devices import Device
from chalicelib.core.errors import Refusal
from chalicelib.storage import audit, codes, devices, holdings
from chalicelib.storage.connection import Refused, Transaction, batch_get


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


def write(
    code: Code, device: Device, seen: Device | None, entry: audit.Entry, now: datetime
) -> None:
    """Redeem a code for a device, all or nothing.

    Args:
        device: as it shall be.
        seen: as it was when the rules allowed it, None if it was never seen.

    Raises:
        Refused: `code` was not pending any more, or `device` has changed since it was read.
        StoreUnavailableError: throttled, unreachable or in conflict for too long.
    """
    transaction = Transaction()
    codes.redeem(transaction, code, device.hw_id, device.registered_from, now)
    devices.assign(transaction, device, seen)
    if device.user:
        holdings.put_phone(transaction, device)
    if seen is not None and seen.user and (seen.domain, seen.user) != (device.domain, device.user):
        holdings.drop_phone(transaction, seen)
    audit.add(transaction, entry)
    transaction.commit()


def refuse(code: Code, refusal: Refusal, entry: audit.Entry) -> None:
    """Tell the owner of a code, and the audit trail, why it was refused.

    Raises:
        StoreUnavailableError: throttled, unreachable or in conflict for too long.
    """
    transaction = Transaction()
    codes.note_refusal(transaction, code, refusal)
    audit.add(transaction, entry)
    transaction.commit()


def as_they_are(
    refused: Refused, code: Code, device: Device | None
) -> tuple[Code | None, Device | None]:
    """Tell what a refused redemption found instead, without another read."""
    if "code" in refused.items:
        item = refused.items["code"]
        code_now = codes.CodeItem.from_raw_data(item).to(Code) if item else None
    else:
        code_now = code
    if "device" in refused.items:
        item = refused.items["device"]
        device = devices.DeviceItem.from_raw_data(item).to(Device) if item else None
    return code_now, device
