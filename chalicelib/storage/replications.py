"""Replications: what came of reading a PBX's table of users; one item of a domain's notifications.

It must not read anything, nor decide when it is read again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from chalicelib.storage.connection import Refused, Transaction, batch_get
from chalicelib.storage.notifications import KEEP_SECONDS, Kind, NotificationItem

if TYPE_CHECKING:
    from pynamodb.expressions.update import Action

COUNTS = ("read", "added", "changed", "unchanged", "invalid", "gone")
"""What is counted of users; all but the first where they are imported alone."""

_NAME = "replication"


@dataclass(frozen=True)
class Replication:
    """What came of the last one.

    Args:
        retry_at: when the next one is due.
        replicated_at: when it began, None before the first.
        reason: what the trouble was, empty for none.
        attempts: how often there has been trouble since there was none.
        counts: how many of COUNTS there were, as far as they are known.
    """

    domain: str
    retry_at: datetime
    replicated_at: datetime | None = None
    reason: str = ""
    attempts: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


def find_all(domains: Iterable[str]) -> list[Replication]:
    """Read what came of the last ones of domains, consistently, in no order."""
    keys = [(domain, _NAME) for domain in domains]
    return [item.to(Replication) for item in batch_get((NotificationItem, keys))[NotificationItem]]


def find(domain: str) -> Replication | None:
    """Read what came of a domain's last one, consistently; None if there never was any."""
    return next(iter(find_all([domain])), None)


def put(made: Replication, seen: Replication | None, now: datetime) -> None:
    """Keep what came of one; if it was asked for meanwhile, the next one is due at once.

    Args:
        seen: as `find` told before it began.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    is_as_seen = (
        NotificationItem.retry_at == seen.retry_at
        if seen
        else NotificationItem.kind.does_not_exist()
    )
    transaction = Transaction()
    transaction.put(_NAME, _item(made, now), is_as_seen)
    try:
        transaction.commit()
    except Refused as error:
        if error.items[_NAME] is not None:
            _item(replace(made, retry_at=now), now).save()
        # else the domain has no PBX any more


def add_hurry(write: Transaction, domain: str, now: datetime) -> None:
    """Add to a transaction that a domain's next one is due at once."""
    actions: list[Action] = [
        NotificationItem.kind.set(Kind.REPLICATION),
        NotificationItem.retry_at.set(now),
        NotificationItem.purge_at.set(now + timedelta(seconds=KEEP_SECONDS)),
    ]
    write.update(_NAME, NotificationItem(domain, _NAME), actions)


def add_forget(write: Transaction, domain: str) -> None:
    """Add to a transaction that a domain has no PBX to replicate from."""
    write.delete(_NAME, NotificationItem(domain, _NAME))


def _item(made: Replication, now: datetime) -> NotificationItem:
    item = NotificationItem.of(made)
    item.notification_id = _NAME
    item.kind = Kind.REPLICATION
    item.purge_at = now + timedelta(seconds=KEEP_SECONDS)
    return item
