"""The rollouts table: what was rolled out in a domain, by whom and when.

Nothing that a phone does is written here, for all phones of a rollout would write the same item.
"""

from pynamodb.attributes import UnicodeAttribute, UTCDateTimeAttribute

from chalicelib.core.rollouts import Rollout
from chalicelib.storage.connection import Item, Transaction, batch_get
from chalicelib.storage.lists import Page, Span, query


class RolloutItem(Item):
    """One rollout; docs/data-model.md, rollouts."""

    concept = "rollouts"
    domain = UnicodeAttribute(hash_key=True)
    rollout_id = UnicodeAttribute(range_key=True)
    name = UnicodeAttribute()
    category = UnicodeAttribute()
    app = UnicodeAttribute(null=True)
    note = UnicodeAttribute(null=True)
    created_by = UnicodeAttribute()
    created_at = UTCDateTimeAttribute()


def put_new(write: Transaction, rollout: Rollout) -> None:
    """Add a new rollout to a transaction."""
    write.put("rollout", RolloutItem.of(rollout))


def find(domain: str, rollout_id: str) -> Rollout | None:
    """Read a rollout consistently."""
    found = batch_get((RolloutItem, [(domain, rollout_id)]))[RolloutItem]
    return found[0].to(Rollout) if found else None


def list_all(domain: str, limit: int, after: str | None) -> Page[Rollout]:
    """List a domain's rollouts, newest first, consistently."""
    page = query(RolloutItem, domain, Span("", limit, after, newest_first=True))
    found = [RolloutItem.from_raw_data(item).to(Rollout) for item in page.items]
    return Page(found, page.next_after)
