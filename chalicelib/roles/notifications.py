"""Notifications: tells Users instances of phones, and people of their own codes and phones.

A Users instance hears of a phone at least once, from one sender at a time, in the order in which
it happened (docs/decisions/0015); people hear as far as they are there. It must not know what a
message looks like: whoever calls says how it is written.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from itertools import takewhile
from typing import TYPE_CHECKING

from chalicelib import observability, sending, settings
from chalicelib.core.codes import Code
from chalicelib.core.devices import Device
from chalicelib.core.errors import NotDeliveredError, StoreUnavailableError
from chalicelib.loading import on_use
from chalicelib.roles import logins, turns
from chalicelib.roles.turns import Clock
from chalicelib.storage import (
    codes,
    connections,
    devices,
    domains,
    leases,
    notifications,
    registrations,
)
from chalicelib.storage.connections import Connection
from chalicelib.storage.leases import Lease
from chalicelib.storage.notifications import Fact, Pending

if TYPE_CHECKING:
    from chalicelib.roles import rollouts
    from chalicelib.roles.rollouts import Entry
else:
    # most news are of no rollout
    rollouts = on_use("chalicelib.roles.rollouts")

LEASE_SECONDS = 15
"""A sender that dies holds a domain up for so long: less than the schedule's minute."""

_PATIENCE_SECONDS = LEASE_SECONDS + 1
"""Clocks differ: a lease that ends for its holder must have ended for whoever waits, too."""

PUT_OFF = "delivery put off"
"""What the log says when the store is in trouble."""

BUDGET_SECONDS = 25
BATCH = 25
_POST_SECONDS = 4
"""What a message can take at most: none is begun when less is left of the lease."""

_LONGEST = timedelta(seconds=BUDGET_SECONDS + _POST_SECONDS)


@dataclass(frozen=True)
class Told:
    """What a Users instance hears.

    Args:
        domain_number: of the phone's domain.
        sequence: one more than that of the message before, in this domain. What is repeated, for
            nobody knows whether it arrived, begins again with the first that was not settled.
    """

    pending: Pending
    digits: str
    domain_number: int
    sequence: int


@dataclass(frozen=True)
class News:
    """What a person hears, as it is now.

    Args:
        code: None if it is not about one, or that one has gone.
        device: None if it is not about one, or that one is not this person's any more.
    """

    fact: Fact
    code: Code | None
    device: Device | None


TellInstance = Callable[[Told], str]
TellPerson = Callable[[News, datetime], Iterable[str]]
TellAdmin = Callable[[str, Sequence["Entry"], datetime], Iterable[str]]
"""Writes what has become of a rollout's entries, as messages that are not too long."""


def deliver(domain: str, tell: TellInstance, clock: Clock) -> bool:
    """Tell what a domain's Users instances must hear, as far as it can be told now.

    Args:
        tell: writes the message.

    Returns:
        False if another is at it and could not be waited for; what is left then stays for the
        schedule.

    Raises:
        StoreUnavailableError: throttled or unreachable; what was not told is told later.
    """
    started = clock()

    def work(lease: Lease) -> Lease | None:
        return _Sender(lease, tell, clock, started).run()

    return turns.take(domain, leases.USERS_INSTANCES, LEASE_SECONDS, clock, work)


def follow(wanted: Sequence[str], tell: TellInstance, clock: Clock, ends: datetime) -> None:
    """Deliver in domains in which something has happened; what there is no time for waits.

    Args:
        ends: after which nothing may go on; no domain begins that might take longer.
    """
    for domain in wanted:
        if clock() + _LONGEST <= ends:
            try_to_deliver(domain, tell, clock)


def remind(
    tell: TellInstance, clock: Clock, pause: Callable[[float], None], ends: datetime
) -> None:
    """Tell what could not be told before, and close connections whose time is over.

    Once a minute it heals whatever the stream could not do: a sender that died, a push that
    failed, a record that was dropped. Domains without a Users instance cost nothing.

    Args:
        pause: waits for as many seconds, for a lease whose holder may have died.
        ends: as for `follow`.
    """

    def has_time() -> bool:
        return clock() + _LONGEST <= ends

    for known in takewhile(lambda _: has_time(), connections.overdue(clock())):
        observability.count("ConnectionOverdue", role=known.role)
        logins.hang_up(known.connection_id)
    instances = connections.domains_listening()
    wanted = list(
        dict.fromkeys(
            domain for instance in instances for domain in notifications.domains_of(instance)
        )
    )
    # if there is not time enough for all, the next minute begins with others
    random.shuffle(wanted)
    turns.one_by_one(
        wanted,
        lambda domain: try_to_deliver(domain, tell, clock),
        has_time,
        lambda: pause(_PATIENCE_SECONDS),
    )


def try_to_deliver(domain: str, tell: TellInstance, clock: Clock) -> bool:
    """Deliver; whatever is wrong is logged, for the schedule comes back to it.

    Returns:
        False if another is at it.
    """
    return turns.attempt(lambda: deliver(domain, tell, clock), PUT_OFF)


def grouped(facts: Iterable[Fact]) -> list[Fact]:
    """Say the same with fewer facts: one of each rollout, whose entries are then read at once.

    Phones of a rollout come by the dozen, and those who watch it should not wait for each.
    """
    entries: dict[tuple[str, str], dict[str, None]] = {}
    causes: dict[tuple[str, str], dict[str, None]] = {}
    people: list[Fact] = []
    for fact in facts:
        if fact.rollout_id:
            rollout = (fact.domain, fact.rollout_id)
            entries.setdefault(rollout, {}).update(dict.fromkeys(fact.sips or [fact.owner]))
            causes.setdefault(rollout, {}).update(dict.fromkeys(fact.causes))
        if fact.owner:
            people.append(replace(fact, rollout_id=""))
    rolled_out = [
        Fact(
            domain,
            rollout_id=rollout_id,
            sips=list(sips),
            causes=tuple(causes[domain, rollout_id]),
        )
        for (domain, rollout_id), sips in entries.items()
    ]
    return [*rolled_out, *people]


def tell_people(
    fact: Fact, tell: TellPerson, tell_admin: TellAdmin, clock: Clock, ends: datetime
) -> None:
    """Tell a person, and those who roll out, what has become of a code or a phone.

    Best effort: each message brings the whole new state, so the next one heals a missed one.

    Args:
        ends: after which nobody else is told.
    """
    try:
        if fact.owner:
            audience = connections.user(fact.domain, fact.owner)
            _tell_all(audience, fact, lambda: tell(_news(fact), clock()), clock, ends)
        if fact.rollout_id:
            sips = fact.sips or [fact.owner]
            _tell_all(
                connections.admins(fact.domain),
                fact,
                lambda: tell_admin(fact.rollout_id, _entries(fact, sips), clock()),
                clock,
                ends,
            )
    except StoreUnavailableError as error:
        for _ in observability.under_each(fact.causes):
            observability.logger().warning("people not told", extra={"why": error.what})
    except Exception:  # noqa: BLE001 - the stream must not stand still for one person's news
        for _ in observability.under_each(fact.causes):
            observability.logger().exception("defect")


class _End(Enum):
    """Why no more of a page was sent."""

    ALL = "all"
    LATE = "late"
    REFUSED = "refused"


class _OvertakenError(Exception):
    """The lease was lost to another, who tells the rest."""


class _Sender:
    """Goes once through what a domain has to tell, as long as its lease and its budget last."""

    def __init__(self, lease: Lease, tell: TellInstance, clock: Clock, started: datetime) -> None:
        self._lease = lease
        self._tell = tell
        self._clock = clock
        self._ends = started + timedelta(seconds=BUDGET_SECONDS)
        self._audiences: dict[str, list[Connection]] = {}
        self._domain = domains.find(lease.domain)

    def run(self) -> Lease | None:
        """Tell page by page; returns the lease, None if it was lost."""
        try:
            self._tell_pages()
        except _OvertakenError:
            observability.count("DeliveryOvertaken")
            return None
        return self._lease

    def _tell_pages(self) -> None:
        after: str | None = None
        while True:
            page = notifications.list_pending(self._lease.domain, BATCH, after)
            told, end = self._send(page.items)
            if told or page.next_after:
                until = self._clock() + timedelta(seconds=LEASE_SECONDS)
                self._keep(notifications.settle(self._lease, told, until))
            if end is _End.REFUSED or (end is _End.ALL and page.next_after is None):
                return
            if self._clock() >= self._ends:
                # the next one goes on, with a budget of its own
                notifications.wake(self._lease.domain, self._clock())
                return
            after = page.next_after

    def _hold(self) -> None:
        """Keep the lease, so that nothing is sent without it."""
        now = self._clock()
        if now > self._lease.until - timedelta(seconds=_POST_SECONDS):
            self._keep(leases.prolong(self._lease, now + timedelta(seconds=LEASE_SECONDS)))

    def _keep(self, lease: Lease | None) -> None:
        if lease is None:
            raise _OvertakenError
        self._lease = lease

    def _send(self, found: list[Pending]) -> tuple[list[Pending], _End]:
        """Send what has somebody to hear it; returns what was sent, and why it ended."""
        told: list[Pending] = []
        for pending in found:
            recipients = self._recipients(pending)
            if not recipients:
                continue
            if self._clock() >= self._ends:
                return told, _End.LATE
            sequence = self._lease.sequence + len(told) + 1
            with observability.correlated(pending.correlation_id):
                try:
                    message = self._written(pending, sequence)
                except StoreUnavailableError as error:
                    # keys come back, and what is behind it must not overtake it
                    observability.logger().warning(PUT_OFF, extra={"why": error.what})
                    return told, _End.REFUSED
                except Exception:  # noqa: BLE001 - whatever was wrong when it was written
                    # it stays until its time is over, and holds up nothing behind it
                    observability.logger().exception("defect")
                    continue
                is_told = self._post(recipients, message)
                if is_told:
                    observability.count("PhoneTold")
                    observability.logger().info("phone told", extra={"sequence": sequence})
            if is_told:
                told.append(pending)
            elif self._recipients(pending):
                return told, _End.REFUSED
            # else they have all gone: this one waits for a login, not those behind it
        return told, _End.ALL

    def _written(self, pending: Pending, sequence: int) -> str:
        number = self._domain.number if self._domain else 0
        return self._tell(Told(pending, pending.digits(), number, sequence))

    def _recipients(self, pending: Pending) -> list[Connection]:
        """List who may hear it: whoever asked, then others of that domain, then of the code's.

        An instance whose grant has been taken back since it asked is none of them.
        """
        listed = [*self._listening(pending.asker), *self._listening(pending.domain)]
        unique = {known.connection_id: known for known in listed}
        asker = unique.get(pending.asking_connection)
        others = (known for known in unique.values() if known is not asker)
        return [*([asker] if asker else []), *others]

    def _listening(self, domain: str) -> list[Connection]:
        if domain not in self._audiences:
            audience = connections.users_instances(domain)
            may_hear = self._may_hear(domain)
            self._audiences[domain] = (
                connections.listening(audience, self._clock()) if may_hear else []
            )
        return self._audiences[domain]

    def _may_hear(self, asker: str) -> bool:
        """Tell whether the instances of a domain may still see the one whose phones are told."""
        if asker in {self._lease.domain, settings.current().instance_domain}:
            return True
        own = domains.find(asker)
        return own is not None and own.may_see(self._lease.domain)

    def _post(self, recipients: list[Connection], message: str) -> bool:
        """Send to the first that takes it while there is time; whoever is gone is forgotten."""
        for known in recipients:
            self._hold()
            try:
                if sending.post(known.connection_id, message):
                    return True
            except NotDeliveredError as error:
                observability.logger().warning("push failed", extra={"why": error.what})
                observability.count("PushFailed")
                if self._clock() >= self._ends:
                    break
                continue
            observability.count("ConnectionGone")
            connections.close(known)
            for listed in self._audiences.values():
                if known in listed:
                    listed.remove(known)
        return False


def _news(fact: Fact) -> News:
    found = codes.find_all([fact.fingerprint]) if fact.fingerprint else []
    code = found[0] if found else None
    hw_id = fact.hw_id or (code.hw_id if code else "")
    device = devices.find(hw_id) if hw_id else None
    if device and (device.domain, device.user) != (fact.domain, fact.owner):
        device = None
    return News(fact, code, device)


def _entries(fact: Fact, sips: Sequence[str]) -> "list[Entry]":
    return rollouts.with_phones(fact.domain, registrations.find_all(fact.rollout_id, sips))


def _tell_all(
    audience: str,
    fact: Fact,
    write: Callable[[], Iterable[str]],
    clock: Clock,
    ends: datetime,
) -> None:
    """Tell an audience while there is time; what it hears is read only if there is anybody."""
    listeners = connections.listening(audience, clock()) if clock() < ends else []
    messages = list(write()) if listeners else []
    in_time = takewhile(lambda _: clock() < ends, listeners)
    told = [_tell_each(known, fact, messages) for known in in_time]
    if any(told):
        for _ in observability.under_each(fact.causes):
            observability.logger().info("people told", extra={"connections": sum(told)})


def _tell_each(known: Connection, fact: Fact, messages: Iterable[str]) -> bool:
    """Tell one connection everything; returns whether it took it."""
    try:
        for message in messages:
            if not sending.post(known.connection_id, message):
                connections.close(known)
                return False
    except NotDeliveredError as error:
        for _ in observability.under_each(fact.causes):
            observability.logger().warning("push failed", extra={"why": error.what})
        return False
    return True
