"""The sightings table: what phones told the central service, for 30 days.

A process remembers for ten minutes whom it saw, so that a phone that polls every minute costs
nothing. New phones are limited per source and process: a limit in the database would cost a second
call for each (docs/decisions/0005).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pynamodb.attributes import TTLAttribute, UnicodeAttribute, UTCDateTimeAttribute
from pynamodb.exceptions import UpdateError

from chalicelib import observability, settings
from chalicelib.core.devices import Facts
from chalicelib.core.rate_limits import LimitName, decide
from chalicelib.loading import on_use
from chalicelib.storage.connection import Item

if TYPE_CHECKING:
    from chalicelib.storage import lists
    from chalicelib.storage.lists import Page
else:
    # a phone asks for no list
    lists = on_use("chalicelib.storage.lists")

KEEP_DAYS = 30
REMEMBER_SECONDS = 600
MAX_REMEMBERED = 10_000


class SightingItem(Item):
    """One phone; docs/data-model.md, sightings."""

    concept = "sightings"
    hw_id = UnicodeAttribute(hash_key=True)
    day = UnicodeAttribute()
    first_seen_at = UTCDateTimeAttribute()
    last_seen_at = UTCDateTimeAttribute()
    source = UnicodeAttribute()
    product = UnicodeAttribute(null=True)
    version = UnicodeAttribute(null=True)
    prot = UnicodeAttribute(null=True)
    boot = UnicodeAttribute(null=True)
    local_ip = UnicodeAttribute(null=True)
    code_fingerprint = UnicodeAttribute(null=True)
    purge_at = TTLAttribute()


@dataclass(frozen=True)
class Sighting:
    """A phone as the central service saw it.

    Args:
        source: in the form of rate_limits.source_of.
        code_fingerprint: of the code it sent, empty for none.
    """

    hw_id: str
    facts: Facts
    source: str
    code_fingerprint: str = ""


@dataclass(frozen=True)
class Seen:
    """What is kept of a phone.

    Args:
        first_seen_at: when it first asked the central service; kept for 30 days after the last.
        source: where it last asked from, in the form of rate_limits.source_of.
        code_fingerprint: of the last code it sent, empty for none.
    """

    hw_id: str
    first_seen_at: datetime
    last_seen_at: datetime
    source: str
    product: str = ""
    version: str = ""
    prot: str = ""
    boot: str = ""
    local_ip: str = ""
    code_fingerprint: str = ""


def list_day(day: str, limit: int, after: str | None) -> "Page[Seen]":
    """List the phones that were last seen on a day (`2026-11-24`) by hw_id; the list may lag."""
    by_day = lists.Index("by-day", "day", "hw_id", lambda hw_id: hw_id)
    page = lists.query(SightingItem, day, lists.Span("", limit, after), by_day)
    found = [SightingItem.from_raw_data(item).to(Seen) for item in page.items]
    return lists.Page(found, page.next_after)


class _Memory:
    """What this process saw lately: sighting → when, and source → timestamp of its limit."""

    def __init__(self) -> None:
        self.seen: dict[Sighting, datetime] = {}
        self.arrivals_ms: dict[str, int] = {}

    def knows(self, sighting: Sighting, now: datetime) -> bool:
        then = self.seen.get(sighting)
        return then is not None and now - then < timedelta(seconds=REMEMBER_SECONDS)

    def keep(self, sighting: Sighting, now: datetime) -> None:
        self.seen.pop(sighting, None)
        self.seen[sighting] = now
        while len(self.seen) > MAX_REMEMBERED:
            del self.seen[next(iter(self.seen))]

    def may_add(self, source: str, now: datetime) -> bool:
        limit = settings.current().limits[LimitName.SIGHTINGS]
        decision = decide(_milliseconds(now), limit, self.arrivals_ms.get(source))
        return decision.is_allowed

    def count_new(self, source: str, now: datetime) -> None:
        limit = settings.current().limits[LimitName.SIGHTINGS]
        decision = decide(_milliseconds(now), limit, self.arrivals_ms.pop(source, None))
        self.arrivals_ms[source] = decision.stored_ms
        while len(self.arrivals_ms) > MAX_REMEMBERED:
            del self.arrivals_ms[next(iter(self.arrivals_ms))]


_memory = _Memory()


def note(sighting: Sighting, now: datetime) -> None:
    """Keep what a phone told; at most one call, none for what was kept in the last ten minutes.

    Raises:
        StoreUnavailableError: throttled or unreachable.
    """
    if not sighting.code_fingerprint and _memory.knows(sighting, now):
        return
    told = {
        "product": sighting.facts.product,
        "version": sighting.facts.version,
        "prot": sighting.facts.prot,
        "boot": sighting.facts.boot,
        "local_ip": sighting.facts.local_ip,
        "code_fingerprint": sighting.code_fingerprint,
        "source": sighting.source,
        "day": f"{now:%Y-%m-%d}",
        "last_seen_at": now,
        "purge_at": now + timedelta(days=KEEP_DAYS),
    }
    actions = [getattr(SightingItem, name).set(value) for name, value in told.items() if value]
    actions.append(SightingItem.first_seen_at.set(SightingItem.first_seen_at | now))
    item = SightingItem(sighting.hw_id)
    is_open = _memory.may_add(sighting.source, now)
    try:
        item.update(actions, None if is_open else SightingItem.hw_id.exists())
    except UpdateError as error:
        if error.cause_response_code != "ConditionalCheckFailedException":
            raise
        observability.count("LimitReached", limit=LimitName.SIGHTINGS)
        return
    if item.first_seen_at == now:
        _memory.count_new(sighting.source, now)
    _memory.keep(sighting, now)


def forget() -> None:
    """Drop what this process remembers, for tests."""
    _memory.__init__()  # type: ignore[misc]  # as new


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
