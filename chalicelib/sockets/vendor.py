"""The vendor's own shapes: the Device, domain and category objects of its messages."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chalicelib.core.devices import Device
    from chalicelib.storage.domains import Category, Domain
    from chalicelib.storage.notifications import Pending

ONLINE_SECONDS = 1_200
"""A poll is written down every ten minutes at most; who missed two of them counts as away."""


def device(
    known: "Device | Pending", domain_number: int, *, is_online: bool, uri: str = ""
) -> dict[str, Any]:
    """Write a Device object; its number is its hardware id, which has 48 bits.

    Args:
        uri: where its own pages are reached, empty if they are not.
    """
    return {
        "id": int(known.hw_id, 16),
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
