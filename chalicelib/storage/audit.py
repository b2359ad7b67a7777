"""The audit table: who did what, when, from where; one immutable item per event.

No code, token or password goes in: a code is named by its code_id.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pynamodb.attributes import TTLAttribute, UnicodeAttribute, UTCDateTimeAttribute

from chalicelib import settings
from chalicelib.storage.connection import Item, Transaction
from chalicelib.storage.ids import new_id
from chalicelib.storage.lists import Page, Span, query


@dataclass(frozen=True)
class Entry:
    """One event.

    Args:
        domain: whose trail it belongs to.
        action: what happened (`code redeemed`, `code refused`, `device released`).
        actor: sip of the person or hw_id of the phone.
        subject: the code_id or hw_id that it happened to.
        source: where from, in the form of rate_limits.source_of.
        detail: a refusal's reason, empty for none.
    """

    domain: str
    at: datetime
    action: str
    actor: str
    subject: str
    source: str
    detail: str = ""


class AuditItem(Item):
    """One event; docs/data-model.md, audit."""

    concept = "audit"
    domain_month = UnicodeAttribute(hash_key=True)
    entry_id = UnicodeAttribute(range_key=True)
    domain = UnicodeAttribute()
    at = UTCDateTimeAttribute()
    action = UnicodeAttribute()
    actor = UnicodeAttribute()
    subject = UnicodeAttribute()
    source = UnicodeAttribute()
    detail = UnicodeAttribute(null=True)
    purge_at = TTLAttribute()


def add(write: Transaction, entry: Entry) -> None:
    """Add an event to the transaction that makes it true."""
    write.put("audit", _item(entry))


def note(entry: Entry) -> None:
    """Write an event that no transaction of ours makes true.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    _item(entry).save()


def list_month(domain: str, month: str, limit: int, after: str | None) -> Page[Entry]:
    """List a domain's events of a month (`2026-11`), newest first, consistently."""
    span = Span("", limit, after, newest_first=True)
    page = query(AuditItem, f"{domain}#{month}", span)
    entries = [AuditItem.from_raw_data(item).to(Entry) for item in page.items]
    return Page(entries, page.next_after)


def _item(entry: Entry) -> AuditItem:
    item = AuditItem.of(entry)
    item.domain_month = f"{entry.domain}#{entry.at:%Y-%m}"
    item.entry_id = new_id(entry.at)
    item.purge_at = entry.at + timedelta(days=settings.current().audit_days)
    return item
