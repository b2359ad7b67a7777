"""The vendor's own shapes: the Device, domain and category objects of its messages."""

import hashlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chalicelib.core.devices import Device
    from chalicelib.storage.domains import Category, Domain
    from chalicelib.storage.notifications import Pending

ONLINE_SECONDS = 1_200
"""A poll is written down every ten minutes at most; who missed two of them counts as away."""


_HW_IDS = 2**48
_NUMBERS = 2**53
"""What every reader of JSON can count to."""


def device(
    known: "Device | Pending", domain_number: int, *, is_online: bool, uri: str = ""
) -> dict[str, Any]:
    """Write a Device object.

    Args:
        uri: where its own pages are reached, empty if they are not.
    """
    return {
        "id": _number(known.hw_id),
        "hwId": known.hw_id,
        "name": known.name,
        "domainId": domain_number,
        "product": known.product,
        "version": known.version,
        "type": known.device_type or "PHONE",
        "pbxActive": False,
        "online": is_online,
        "hasLeaseLicenses": False,
        "uri": uri,
    }


def _number(hw_id: str) -> int:
    """Tell the number of a device: its hardware id, which has 48 bits.

    That of an analogue phone is longer: its number is a hash, which is above all others.
    """
    gateway, _, interface = hw_id.partition("-")
    if not interface:
        return int(gateway, 16)
    drawn = int.from_bytes(hashlib.sha256(hw_id.encode()).digest()[:8], "big")
    return _HW_IDS + drawn % (_NUMBERS - _HW_IDS)


def is_online(known: "Device", now: datetime) -> bool:
    """Tell whether a device was here lately; to register is to be here.

    One whose websocket has ended is away at once.
    """
    if known.disconnected_at is not None:
        return False
    last = known.last_seen_at or known.registered_at
    return last is not None and now - last < timedelta(seconds=ONLINE_SECONDS)


def category(known: "Category") -> dict[str, Any]:
    """Write a category, without its domain."""
    return {"id": known.number, "name": known.name, "config": known.provisioning}


def domain(known: "Domain", categories: "Iterable[Category]", instance: str) -> dict[str, Any]:
    """Write a domain with its categories."""
    return {
        "id": known.number,
        "name": known.domain,
        "deployAdminPasswords": False,
        "isInstanceDomain": known.domain == instance,
        "categories": [category(each) for each in categories],
    }
