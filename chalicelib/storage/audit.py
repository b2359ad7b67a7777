"""The audit table: who did what, when, from where; one immutable item per event.

Every action is in docs/data-model.md. No code, token or password goes in: a code is named by its
code_id.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pynamodb.attributes import TTLAttribute, UnicodeAttribute, UTCDateTimeAttribute

from chalicelib import settings
from chalicelib.core.codes import Code
from chalicelib.core.devices import Device
from chalicelib.storage.connection import Item, Transaction
from chalicelib.storage.ids import new_id
from chalicelib.storage.lists import Page, Span, query


@dataclass(frozen=True)
class Entry:
    """One event.

    Args:
        domain: whose trail it belongs to.
        action: what happened (`code redeemed`, `code refused`, `device released`).
        actor: a person's sip, with their domain if it is another; a phone's hw_id; the app of a
            Users instance and its domain; the name of an installation and its id.
        subject: the code_id, hw_id, rollout_id or name that it happened to.
        source: where from, in the form of rate_limits.source_of.
        detail: a refusal's reason, or what changed, empty for none.
        owner: sip of the user whose code or phone it is, empty for none.
        rollout_id: the rollout that the code is of, empty for none.
    """

    domain: str
    at: datetime
    action: str
    actor: str
    subject: str
    source: str
    detail: str = ""
    owner: str = ""
    rollout_id: str = ""

    def of_code(self, code: Code) -> "Entry":
        """Say for whom the code is that this is about."""
        return replace(self, owner=code.owner, rollout_id=code.rollout_id)

    def of_device(self, device: Device) -> "Entry":
        """Say whose the phone is, or was, that this is about."""
        return replace(self, owner=device.user, rollout_id=device.rollout_id)


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
    owner = UnicodeAttribute(null=True)
    rollout_id = UnicodeAttribute(null=True)
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
