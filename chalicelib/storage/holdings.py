"""The holdings table: which codes and phones a user has, a pointer each.

What a code or a phone is now stands in its own table; here is only that it is somebody's.
"""

from dataclasses import dataclass
from datetime import timedelta

from pynamodb.attributes import TTLAttribute, UnicodeAttribute

from chalicelib.core.codes import KEEP_REDEEMED_SECONDS, Code
from chalicelib.core.devices import Device
from chalicelib.storage.connection import Item, Transaction, batch_get

_CODE = "code#"
_PHONE = "phone#"


class HoldingItem(Item):
    """One code or phone of a user; docs/data-model.md, holdings."""

    concept = "holdings"
    owner = UnicodeAttribute(hash_key=True)
    item = UnicodeAttribute(range_key=True)
    fingerprint = UnicodeAttribute(null=True)
    purge_at = TTLAttribute(null=True)


@dataclass(frozen=True)
class Page:
    """A page of a list.

    Args:
        keys: fingerprints of codes, or hw_ids of phones.
        next_after: where the next page begins, None at the end.
    """

    keys: list[str]
    next_after: str | None


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


def find_code(domain: str, sip: str, code_id: str) -> str | None:
    """Find the fingerprint of a user's code by its public handle, consistently."""
    key = _owner(domain, sip), f"{_CODE}{code_id}"
    found = batch_get((HoldingItem, [key]))[HoldingItem]
    return found[0].fingerprint if found else None


def list_codes(domain: str, sip: str, limit: int, after: str | None) -> Page:
    """List the fingerprints of a user's codes, newest first, consistently."""
    return _page(domain, sip, _CODE, limit, after, newest_first=True)


def list_phones(domain: str, sip: str, limit: int, after: str | None) -> Page:
    """List the hw_ids of a user's phones, in their order, consistently."""
    return _page(domain, sip, _PHONE, limit, after, newest_first=False)


def _page(  # noqa: PLR0913 - one query, spelt out
    domain: str, sip: str, prefix: str, limit: int, after: str | None, *, newest_first: bool
) -> Page:
    owner = _owner(domain, sip)
    start = HoldingItem.key_of(owner, f"{prefix}{after}") if after else None
    found = HoldingItem.query(
        owner,
        HoldingItem.item.startswith(prefix),
        consistent_read=True,
        scan_index_forward=not newest_first,
        limit=limit,
        last_evaluated_key=start,
    )
    items = list(found)
    keys = [item.fingerprint or item.item.removeprefix(prefix) for item in items]
    is_more = found.last_evaluated_key is not None and len(items) == limit
    return Page(keys, items[-1].item.removeprefix(prefix) if is_more else None)


def _owner(domain: str, sip: str) -> str:
    return f"{domain}#{sip}"
