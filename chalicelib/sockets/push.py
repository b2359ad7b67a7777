"""What is told without being asked: phones to Users instances, news to people.

It must not decide who hears what; here is only how it is written, and what wakes it.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalice.app import DynamoDBEvent

from chalicelib import documents
from chalicelib.roles import notifications
from chalicelib.roles.notifications import News, Told
from chalicelib.roles.turns import MINUTE_SECONDS
from chalicelib.roles.users import OwnCode
from chalicelib.sockets import vendor
from chalicelib.sockets.connections import now
from chalicelib.sockets.frames import written
from chalicelib.storage.notifications import Fact, Kind, NotificationItem

if TYPE_CHECKING:
    from chalicelib.roles.rollouts import Entry

ENTRIES_A_MESSAGE = 20
"""How many entries of a rollout one message brings: with long names it stays below a frame."""

PEOPLE_SECONDS = 10
"""How much of a minute is kept for people: what they are not told now, no schedule tells them."""

_TOLD = frozenset({Kind.PENDING, Kind.WAKE, Kind.FACT, Kind.HANDOVER})


def follow(event: DynamoDBEvent) -> dict[str, Any]:
    """Tell what the stream's records speak of.

    Returns:
        No failure, ever: what cannot be told now stays where it is for the schedule, and a record
        that failed would hold up all that follow.
    """
    ends = now() + timedelta(seconds=MINUTE_SECONDS)
    domains: dict[str, None] = {}
    facts: list[Fact] = []
    for record in event.to_dict()["Records"]:
        image = record["dynamodb"].get("NewImage")
        if record["eventName"] != "INSERT" or image is None:
            continue
        if image.get("kind", {}).get("S") not in _TOLD:
            # before anything else is read: a kind that newer code writes is nothing to fail for
            continue
        item = NotificationItem.from_raw_data(image)
        if item.kind in {Kind.PENDING, Kind.WAKE}:
            domains[item.domain] = None
        elif item.kind is Kind.FACT or item.change:
            facts.append(item.fact())
    before = ends - timedelta(seconds=PEOPLE_SECONDS)
    notifications.follow(list(domains), device_provisioned, now, before)
    for fact in notifications.grouped(facts):
        notifications.tell_people(fact, person_news, admin_news, now, ends)
    return {"batchItemFailures": []}


def remind() -> None:
    """Tell what could not be told before."""
    ends = now() + timedelta(seconds=MINUTE_SECONDS)
    notifications.remind(device_provisioned, now, time.sleep, ends)


def device_provisioned(told: Told) -> str:
    """Write `DeviceProvisioned`; `sequence` is ours, the rest is the vendor's."""
    pending = told.pending
    src = {"src": pending.asking_src} if pending.asking_src else {}
    device = vendor.device(pending, told.domain_number, is_online=True)
    return written(
        "DeviceProvisioned", device=device, code=told.digits, sequence=told.sequence, **src
    )


def person_news(news: News, at: datetime) -> Iterator[str]:
    """Write what a person hears: their code, their phone, each as a read would show it."""
    if news.code is not None and not news.code.rollout_id:
        code = documents.own_code(OwnCode(news.code, news.device), at)
        yield written("CodeChanged", code=code)
    hw_id = news.fact.hw_id
    if hw_id:
        phone = documents.own_device(news.device, at) if news.device else None
        yield written("PhoneChanged", hw_id=hw_id, phone=phone)


def admin_news(rollout_id: str, entries: Sequence["Entry"], at: datetime) -> Iterator[str]:
    """Write what somebody who rolls phones out hears: entries, as the list shows them."""
    for start in range(0, len(entries), ENTRIES_A_MESSAGE):
        some = entries[start : start + ENTRIES_A_MESSAGE]
        told = [documents.registration(one, at) for one in some]
        yield written("RegistrationChanged", rollout_id=rollout_id, entries=told)
