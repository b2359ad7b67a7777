"""The holdings table: which codes and phones a user has, and which phones are at a gateway.

A pointer each. What a code or a phone is now stands in its own table; here is only that it is
somebody's, or at an interface; or that a domain's PBX had it at a user when it was read.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from pynamodb.attributes import TTLAttribute, UnicodeAttribute

from chalicelib.core.codes import KEEP_REDEEMED_SECONDS, Code
from chalicelib.core.devices import Device
from chalicelib.storage.connection import Item, Transaction, batch_get, batch_put
from chalicelib.storage.lists import Page, Span, query

_CODE = "code#"
_PHONE = "phone#"
_INTERFACE = "interface#"
_AT_PBX = "hw#"
_KEEP_AT_PBX_SECONDS = 30 * 86_400
_MAX_PAGE = 1_000


class HoldingItem(Item):
    """A code or phone of a user, a phone of a gateway or a PBX; docs/data-model.md, holdings."""

    concept = "holdings"
    owner = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True)
    fingerprint = UnicodeAttribute(null=True)
    user = UnicodeAttribute(null=True)
    purge_at = TTLAttribute(null=True)


def put_code(write: Transaction, code: Code) -> None:
    """Add a pointer to a code to a transaction; it goes when the code, redeemed, would go."""
    write.put(
        "holding",
        HoldingItem(
            _owner(code.domain, code.owner),
            f"{_CODE}{code.code_id}",
            fingerprint=code.fingerprint,
            purge_at=code.expires_at + timedelta(seconds=KEEP_REDEEMED_SECONDS),
        ),
    )


def put_phone(write: Transaction, device: Device) -> None:
    """Add a pointer to a user's phone to a transaction."""
    key = _owner(device.domain, device.user), f"{_PHONE}{device.hw_id}"
    write.put("holding", HoldingItem(*key))


def drop_phone(write: Transaction, device: Device) -> None:
    """Add to a transaction that a phone is not its user's any more."""
    key = _owner(device.domain, device.user), f"{_PHONE}{device.hw_id}"
    write.delete("holding dropped", HoldingItem(*key))


def put_interface(write: Transaction, phone: Device) -> None:
    """Add a pointer from a gateway to an analogue phone to a transaction."""
    write.put("interface", HoldingItem(_gateway(phone.gateway), f"{_INTERFACE}{phone.interface}"))


def drop_interface(write: Transaction, phone: Device) -> None:
    """Add to a transaction that an analogue phone is not at its gateway any more."""
    key = _gateway(phone.gateway), f"{_INTERFACE}{phone.interface}"
    write.delete("interface dropped", HoldingItem(*key))


def put_at_pbx(domain: str, there: Mapping[str, str], now: datetime) -> None:
    """Keep at which users a domain's PBX has phones; what is kept of others goes after 30 days.

    Args:
        there: hw_id → SIP name of the user.

    Raises:
        StoreUnavailableError: throttled or unreachable; what was written stays.
    """
    # most is as it was an hour ago, and reading that costs a fraction of writing it
    fresh_until = now + timedelta(seconds=_KEEP_AT_PBX_SECONDS / 2)
    fresh = {
        hw_id: sip
        for hw_id, (sip, purge_at) in _list_at_pbx(domain).items()
        if purge_at > fresh_until
    }
    purge_at = now + timedelta(seconds=_KEEP_AT_PBX_SECONDS)
    batch_put(
        [
            HoldingItem(_pbx(domain), f"{_AT_PBX}{hw_id}", user=sip, purge_at=purge_at)
            for hw_id, sip in there.items()
            if fresh.get(hw_id) != sip
        ]
    )


def find_at_pbx(domain: str, hw_ids: Iterable[str]) -> dict[str, str]:
    """Tell at which users a domain's PBX had phones when it was read, hw_id → SIP name.

    It may be otherwise by now.
    """
    keys = [(_pbx(domain), f"{_AT_PBX}{hw_id}") for hw_id in hw_ids]
    found = batch_get((HoldingItem, keys))[HoldingItem]
    return {item.item.removeprefix(_AT_PBX): str(item.user) for item in found}


def _list_at_pbx(domain: str) -> dict[str, tuple[str, datetime]]:
    found: dict[str, tuple[str, datetime]] = {}
    after: str | None = None
    while True:
        page = query(HoldingItem, _pbx(domain), Span(_AT_PBX, _MAX_PAGE, after))
        for item in page.items:
            purge_at = datetime.fromtimestamp(int(item["purge_at"]["N"]), UTC)
            found[item["item"]["S"].removeprefix(_AT_PBX)] = (item["user"]["S"], purge_at)
        after = page.next_after
        if after is None:
            return found


def find_code(domain: str, sip: str, code_id: str) -> str | None:
    """Find the fingerprint of a user's code by its public handle, consistently."""
    key = _owner(domain, sip), f"{_CODE}{code_id}"
    found = batch_get((HoldingItem, [key]))[HoldingItem]
    return found[0].fingerprint if found else None


def list_codes(domain: str, sip: str, limit: int, after: str | None) -> Page[str]:
    """List the fingerprints of a user's codes, newest first, consistently."""
    span = Span(_CODE, limit, after, newest_first=True)
    page = query(HoldingItem, _owner(domain, sip), span)
    return Page([item["fingerprint"]["S"] for item in page.items], page.next_after)


def list_phones(domain: str, sip: str, limit: int, after: str | None) -> Page[str]:
    """List the hw_ids of a user's phones, in their order, consistently."""
    page = query(HoldingItem, _owner(domain, sip), Span(_PHONE, limit, after))
    return Page([item["item"]["S"].removeprefix(_PHONE) for item in page.items], page.next_after)


def list_interfaces(gateway: str) -> list[str]:
    """List all interfaces of a gateway that have a phone, by the alphabet, consistently.

    Args:
        gateway: its hardware id.
    """
    found: list[str] = []
    after: str | None = None
    while True:
        page = query(HoldingItem, _gateway(gateway), Span(_INTERFACE, _MAX_PAGE, after))
        found += [item["item"]["S"].removeprefix(_INTERFACE) for item in page.items]
        after = page.next_after
        if after is None:
            return found


def _owner(domain: str, sip: str) -> str:
    return f"{domain}#{sip}"


def _gateway(hw_id: str) -> str:
    # no domain has an empty name, so this is no user's
    return f"#gateway#{hw_id}"


def _pbx(domain: str) -> str:
    return f"#pbx#{domain}"
