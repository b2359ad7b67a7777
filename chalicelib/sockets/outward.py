"""What goes out of the house without a connection: events to whoever has subscribed to them.

It must not decide what is announced, nor when again; here is only how it is written, and what wakes
it.
"""

import json
from datetime import datetime
from typing import Any

from chalice.app import DynamoDBEvent

from chalicelib import documents
from chalicelib.roles import announcements
from chalicelib.roles.announcements import Announcement, Kind
from chalicelib.sockets.connections import now
from chalicelib.storage import notifications
from chalicelib.storage.notifications import Fact, NotificationItem

VERSION = "1"
"""Of the events' form; another one breaks who reads this one."""

_FACTS = frozenset({notifications.Kind.FACT, notifications.Kind.HANDOVER})


def follow(event: DynamoDBEvent) -> dict[str, Any]:
    """Announce what the stream's records speak of.

    Returns:
        The first record that could not be announced, from which the stream goes on.
    """
    numbers: list[str] = []
    facts: list[Fact] = []
    for record in event.to_dict()["Records"]:
        image = record["dynamodb"].get("NewImage")
        if record["eventName"] != "INSERT" or image is None:
            continue
        # before anything else is read: a kind that newer code writes is nothing to fail for
        if image["kind"]["S"] in _FACTS:
            numbers.append(record["dynamodb"]["SequenceNumber"])
            facts.append(NotificationItem.from_raw_data(image).fact())
    announced = announcements.announce(facts, detail, now)
    # here roles/handovers.py tells the PBXes of domains with rows of Kind.HANDOVER, PBX_WAKE or
    # REDRIVE, whatever became of the events
    left = numbers[announced : announced + 1]
    return {"batchItemFailures": [{"itemIdentifier": number} for number in left]}


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
    if announced.kind is Kind.REGISTRATION_CHANGED:
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
