"""What goes out of the house: events to whoever has subscribed, and users' phones to PBXes.

It must not decide what is announced or handed over, nor when again; here is only how an event is
written, and what wakes both.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from chalice.app import DynamoDBEvent

from chalicelib import documents, pbx
from chalicelib.roles import announcements, handovers, replications
from chalicelib.roles.announcements import Announcement
from chalicelib.roles.announcements import Kind as EventKind
from chalicelib.roles.turns import MINUTE_SECONDS
from chalicelib.sockets.connections import now
from chalicelib.storage.notifications import Kind, NotificationItem

VERSION = "1"
"""Of the events' form; another one breaks who reads this one."""

_FACTS = frozenset({Kind.FACT, Kind.HANDOVER})
_FOR_PBXES = frozenset({Kind.HANDOVER, Kind.PBX_WAKE, Kind.REDRIVE})


def follow(event: DynamoDBEvent) -> dict[str, Any]:
    """Announce what the stream's records speak of, and tell PBXes.

    Returns:
        The first records of those that could not be announced, and that could not be gone through
        again; from the first of them the stream goes on. A PBX that cannot be told fails nothing.
    """
    ends = now() + timedelta(seconds=MINUTE_SECONDS)
    rows = {
        record["dynamodb"]["SequenceNumber"]: NotificationItem.from_raw_data(image)
        for record in event.to_dict()["Records"]
        if record["eventName"] == "INSERT"
        and (image := record["dynamodb"].get("NewImage")) is not None
        # before anything else is read: a kind that newer code writes is nothing to fail for, and
        # moto tells of a lease that is taken for the first time by its keys alone
        and image.get("kind", {}).get("S") in _FACTS | _FOR_PBXES
    }
    failed = [*_announce(rows), *_redrive(rows)]
    handovers.follow(_newcomers(rows), pbx.connect, now, time.sleep, ends)
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}


def remind() -> None:
    """Tell PBXes what they could not be told before, and read their users."""
    begun = now()
    ends = begun + timedelta(seconds=MINUTE_SECONDS)
    works: list[Callable[[], None]] = [
        lambda: handovers.remind(pbx.connect, now, time.sleep, ends),
        lambda: replications.run_due(pbx.connect, now, ends),
    ]
    if begun.minute % 2:
        # there may not be time enough for both
        works.reverse()
    for work in works:
        work()


def _announce(rows: Mapping[str, NotificationItem]) -> Sequence[str]:
    facts = {number: row.fact() for number, row in rows.items() if row.kind in _FACTS}
    announced = announcements.announce(list(facts.values()), detail, now)
    return list(facts)[announced : announced + 1]


def _redrive(rows: Mapping[str, NotificationItem]) -> Sequence[str]:
    for number, row in rows.items():
        if row.kind is Kind.REDRIVE and not handovers.try_to_redrive(row.domain, row.after, now):
            return [number]
    return []


def _newcomers(rows: Mapping[str, NotificationItem]) -> Mapping[str, Sequence[str]]:
    """Tell the domains whose PBX must hear something, and which phones have just come or left."""
    found: dict[str, list[str]] = {}
    for row in rows.values():
        if row.kind in _FOR_PBXES:
            phones = found.setdefault(row.domain, [])
            phones += [row.hw_id] if row.hw_id else []
    return found


def detail(announced: Announcement, at: datetime) -> str:
    """Write the detail of an event; docs/events.md describes each."""
    fact = announced.fact
    written: dict[str, Any] = {
        "version": VERSION,
        "id": announced.announcement_id,
        "at": announced.at,
        "domain": fact.domain,
        "rollout_id": fact.rollout_id or None,
    }
    if announced.kind is EventKind.REGISTRATION_CHANGED:
        written["entries"] = [documents.registration(entry, at) for entry in announced.entries]
    else:
        # as it was then: the device may be another's by now, or gone
        written["phone"] = {
            "hw_id": fact.hw_id,
            "user": fact.owner or None,
            "category": fact.category,
            "product": fact.product,
            "version": fact.version,
        }
    return json.dumps(written, default=documents.plain)
