"""Announcements: tells whoever has subscribed to events of phones that come and go, and rollouts.

They are for everyone whose PBX is another than those that Dialtone hands phones over to. Each is
made of a fact, so it is announced at least once (docs/decisions/0026). It must not know what an
event looks like: whoever calls says how it is written.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from chalicelib import event_bus, observability
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.loading import on_use
from chalicelib.roles.turns import Clock
from chalicelib.storage import registrations
from chalicelib.storage.ids import time_of
from chalicelib.storage.notifications import Change, Fact

if TYPE_CHECKING:
    from chalicelib.roles import rollouts
    from chalicelib.roles.rollouts import Entry
else:
    # most phones are of no rollout
    rollouts = on_use("chalicelib.roles.rollouts")

ENTRIES_AN_EVENT = 20
"""With long names it stays below 32 KB, and ten of them need not be one call."""


class Kind(StrEnum):
    """What happened, as subscribers ask for it: the event's detail-type."""

    PHONE_PROVISIONED = "PhoneProvisioned"
    PHONE_REMOVED = "PhoneRemoved"
    REGISTRATION_CHANGED = "RegistrationChanged"


_KINDS = {
    Change.PROVISIONED: Kind.PHONE_PROVISIONED,
    Change.REMOVED: Kind.PHONE_REMOVED,
}


@dataclass(frozen=True)
class Announcement:
    """What is announced of a fact.

    Args:
        announcement_id: always the same for the same; by it subscribers drop what comes twice.
        at: when it happened.
        sips: whose entries of the fact's rollout, empty if it is about a phone.
        entries: these, as they are when it is announced.
    """

    kind: Kind
    announcement_id: str
    at: datetime
    fact: Fact
    sips: Sequence[str] = ()
    entries: "Sequence[Entry]" = ()


Write = Callable[[Announcement, datetime], str]
"""Writes an announcement as JSON, given the time at which it is written."""


def of_fact(fact: Fact) -> list[Announcement]:
    """Tell what is to be announced of a fact, the entries still to be read.

    That a phone came or left has the fact's own id; what became of entries has it with a number,
    which depends on the fact alone, so that a repetition has it as well.
    """
    fact_id = fact.notification_id.rpartition("#")[2]
    at = time_of(fact_id)
    announced = [Announcement(_KINDS[fact.change], fact_id, at, fact)] if fact.change else []
    if fact.rollout_id:
        sips = fact.sips or [fact.owner]
        for number, start in enumerate(range(0, len(sips), ENTRIES_AN_EVENT), 1):
            some = sips[start : start + ENTRIES_AN_EVENT]
            name = f"{fact_id}-{number}"
            announced.append(Announcement(Kind.REGISTRATION_CHANGED, name, at, fact, some))
    return announced


def announce(facts: Sequence[Fact], write: Write, clock: Clock) -> int:
    """Announce facts, in their order; trouble is logged.

    What can never be announced (a defect of ours, an event that the bus will never take) counts as
    announced: it would hold up all that follow, and be lost all the same.

    Returns:
        How many of the facts, from the first on, have been announced; the others are to be
        announced again.
    """
    if not event_bus.is_wanted():
        return len(facts)
    listed = [(position, one) for position, fact in enumerate(facts) for one in of_fact(fact)]
    announced = len(facts)
    try:
        entries = _entries([one for _, one in listed])
    except StoreUnavailableError as error:
        until = next(place for place, (_, one) in enumerate(listed) if one.sips)
        announced, first = listed[until]
        _note_missed(first, error.what)
        listed, entries = listed[:until], {}
    ready = []
    for position, one in listed:
        found = [entry for sip in one.sips if (entry := entries.get((one.fact.rollout_id, sip)))]
        event = _written(replace(one, entries=found), write, clock)
        if event is not None:
            ready.append((position, one, event))
    missed = event_bus.put([event for _, _, event in ready])
    taken: Counter[Kind] = Counter()
    for place, (position, one, _) in enumerate(ready):
        why = missed.get(place)
        if why is None:
            taken[one.kind] += 1
            _log(observability.logger().info, "event put", one)
        elif why in event_bus.FINAL:
            _note_lost(one, why)
        else:
            announced = min(announced, position)
            _note_missed(one, why)
    for kind, times in taken.items():
        observability.count("EventPut", times, type=kind)
    return announced


def _entries(announced: Sequence[Announcement]) -> "dict[tuple[str, str], Entry]":
    """Read all entries that are to be announced → rollout and sip → entry, as it is now."""
    wanted: dict[tuple[str, str], dict[str, None]] = {}
    for one in announced:
        if one.sips:
            rollout = (one.fact.domain, one.fact.rollout_id)
            wanted.setdefault(rollout, {}).update(dict.fromkeys(one.sips))
    return {
        (rollout_id, entry.registration.sip): entry
        for (domain, rollout_id), sips in wanted.items()
        for entry in rollouts.with_phones(domain, registrations.find_all(rollout_id, sips))
    }


def _written(one: Announcement, write: Write, clock: Clock) -> event_bus.Event | None:
    """Write an event; None if there is nothing to say, or we cannot."""
    if one.sips and not one.entries:
        # the rollout has gone meanwhile
        return None
    try:
        return event_bus.Event(one.kind, write(one, clock()), one.at)
    except Exception:  # noqa: BLE001 - one defect must not hold up everything behind it
        _log(observability.logger().exception, "defect", one)
        _note_lost(one, "defect")
        return None


def _log(say: Callable[..., None], message: str, one: Announcement, **more: str) -> None:
    told = {"event": one.kind, "event_id": one.announcement_id, **more}
    for _ in observability.under_each(one.fact.causes):
        say(message, extra=told)


def _note_missed(one: Announcement, why: str) -> None:
    observability.count("EventNotTaken")
    _log(observability.logger().warning, "event not taken", one, why=why)


def _note_lost(one: Announcement, why: str) -> None:
    observability.count("EventLost")
    _log(observability.logger().error, "event lost", one, why=why)
