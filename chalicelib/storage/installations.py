"""The installations table: foreign installations that may ask our central service for codes.

Of a key only its hash is here. It must not issue anything.
"""

from dataclasses import dataclass, field
from datetime import datetime

from pynamodb.attributes import UnicodeAttribute, UTCDateTimeAttribute

from chalicelib.storage import audit
from chalicelib.storage.connection import Item, Refused, Transaction, batch_get
from chalicelib.storage.lists import Page, Span, query

_ALL = "installations"


@dataclass(frozen=True)
class Installation:
    """A foreign installation.

    Args:
        installation_id: ULID, the first part of its key.
        key_hash: SHA-256 of its key.
        domain: of who made it, whose audit trail tells of its codes; empty for older ones.
    """

    installation_id: str
    name: str
    key_hash: str = field(repr=False)
    created_by: str
    created_at: datetime
    domain: str = ""


class InstallationItem(Item):
    """One installation; docs/data-model.md, installations."""

    concept = "installations"
    directory = UnicodeAttribute(hash_key=True)
    installation_id = UnicodeAttribute(range_key=True)
    name = UnicodeAttribute()
    key_hash = UnicodeAttribute()
    created_by = UnicodeAttribute()
    created_at = UTCDateTimeAttribute()
    domain = UnicodeAttribute(null=True)


def put(installation: Installation, entry: audit.Entry) -> None:
    """Write a new installation, and who made it."""
    item = InstallationItem.of(installation)
    item.directory = _ALL
    transaction = Transaction()
    transaction.put("installation", item)
    audit.add(transaction, entry)
    transaction.commit()


def find(installation_id: str) -> Installation | None:
    """Read an installation consistently."""
    key = (_ALL, installation_id)
    found = batch_get((InstallationItem, [key]))[InstallationItem]
    return found[0].to(Installation) if found else None


def list_all(limit: int, after: str | None) -> Page[Installation]:
    """List installations, newest first, consistently."""
    page = query(InstallationItem, _ALL, Span("", limit, after, newest_first=True))
    found = [InstallationItem.from_raw_data(item).to(Installation) for item in page.items]
    return Page(found, page.next_after)


def delete(installation_id: str, entry: audit.Entry) -> bool:
    """Delete an installation, and write down who did; tells whether it was there."""
    is_there = InstallationItem.installation_id.exists()
    transaction = Transaction()
    transaction.delete("installation", InstallationItem(_ALL, installation_id), is_there)
    audit.add(transaction, entry)
    try:
        transaction.commit()
    except Refused:
        return False
    return True
