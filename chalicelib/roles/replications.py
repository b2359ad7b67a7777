"""Replications: reads the table of users of domains' PBXes, once an hour and on demand.

It keeps at which user the PBX has each phone, and imports users where the domain wants that
(docs/decisions/0027). It must not know how a PBX is spoken to, nor write there.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from urllib.parse import urlsplit

from chalicelib import observability
from chalicelib.core import roster, user_objects
from chalicelib.core.errors import PbxUnavailableError
from chalicelib.core.user_objects import Row, Trouble
from chalicelib.roles import people, turns
from chalicelib.roles.accesses import Connect, access_of
from chalicelib.roles.pbx_turns import MAX_TROUBLE_SECONDS
from chalicelib.roles.people import Outcome
from chalicelib.roles.turns import Clock
from chalicelib.storage import audit, domains, holdings, leases, users
from chalicelib.storage import replications as table
from chalicelib.storage.domains import Domain
from chalicelib.storage.leases import Lease
from chalicelib.storage.replications import Replication
from chalicelib.storage.users import User

EVERY_SECONDS = 3_600
BUDGET_SECONDS = 35
"""How long one may take; none begins that has less."""

READ_SECONDS = 25
"""How much of that the PBX has; the rest is for writing down what was read."""

LAST_ANSWER_SECONDS = 5
"""How much longer the connection lasts, so that a table that is too long is not one that stops."""

LEASE_SECONDS = 60
"""A worker that dies holds a domain up for so long. One that takes longer does no harm: whoever
comes then reads the same table."""

MIN_PAUSE_SECONDS = 60
MAX_PHONES = 2 * roster.MAX_USERS
"""How many phones are kept of a PBX, whatever else it has."""

_MAX_PHONES_OF_ONE = 100
_PAGE = 1_000


def run_due(connect: Connect, clock: Clock, ends: datetime) -> None:
    """Replicate from every PBX that is due, as far as there is time: once a minute.

    Args:
        ends: after which nothing may go on; none begins that might take longer.

    Raises:
        StoreUnavailableError: throttled or unreachable, before the first one.
    """
    wanted = domains.list_with_pbx()
    # if there is not time enough for all, the next minute begins with others
    random.shuffle(wanted)
    seen = {one.domain: one for one in table.find_all(wanted)}
    for domain in wanted:
        if clock() + timedelta(seconds=BUDGET_SECONDS) > ends:
            break
        if _is_due(seen.get(domain), clock()):
            turns.attempt(partial(replicate, domain, connect, clock), "replication put off")


def replicate(domain: str, connect: Connect, clock: Clock) -> bool:
    """Replicate from a domain's PBX, if that is due.

    Returns:
        False if another is at it.

    Raises:
        StoreUnavailableError: throttled or unreachable; it stays due.
    """
    known = domains.find(domain)
    if known is None or not known.pbx_url:
        return True

    def work(lease: Lease) -> Lease:
        seen = table.find(domain)
        if _is_due(seen, clock()):
            # one that dies is not due again at once
            begun = seen or Replication(domain, clock())
            begun = replace(begun, retry_at=clock() + timedelta(seconds=MIN_PAUSE_SECONDS))
            table.put(begun, seen, clock())
            made = _replicate(known, begun.attempts, connect, clock)
            table.put(made, begun, clock())
        return lease

    return turns.take(domain, leases.PBX_USERS, LEASE_SECONDS, clock, work)


def _is_due(seen: Replication | None, now: datetime) -> bool:
    return seen is None or now >= seen.retry_at


def _replicate(known: Domain, attempts: int, connect: Connect, clock: Clock) -> Replication:
    """Read what there is, and keep it; what was read before there was trouble counts.

    Args:
        attempts: how often there has been trouble before.
    """
    begun = clock()
    rows, trouble = _read(known, connect, clock)
    of_users = [row for row in rows if roster.is_sip(row.sip)]
    pairs = (
        (hw_id, row.sip)
        for row in of_users
        for hw_id in islice(sorted(row.hw_ids()), _MAX_PHONES_OF_ONE)
    )
    holdings.put_at_pbx(known.domain, dict(islice(pairs, MAX_PHONES)), clock())
    counts = {"read": len(rows)}
    if known.pbx_imports_users:
        counts |= _take_in(known, rows, clock(), is_whole=trouble is None)
    attempts, pause = _next(trouble, attempts)
    retry_at = clock() + timedelta(seconds=pause)
    return Replication(known.domain, retry_at, begun, trouble or "", attempts, counts)


def _next(trouble: Trouble | None, attempts: int) -> tuple[int, int]:
    """Tell how often there has been trouble by now, and after how many seconds to come again."""
    if trouble is not None:
        observability.count("PbxReplicationTrouble", reason=trouble)
        observability.logger().warning("users not replicated", extra={"why": trouble})
    if trouble in {None, Trouble.TOO_LONG}:
        # a table that is too long would be so in a minute, too
        return 0, EVERY_SECONDS
    attempts += 1
    return attempts, max(
        MIN_PAUSE_SECONDS, user_objects.pause_seconds(attempts, MAX_TROUBLE_SECONDS)
    )


def _read(known: Domain, connect: Connect, clock: Clock) -> tuple[list[Row], Trouble | None]:
    """Read the users of a PBX, as far as that goes; what is no user there is none here."""
    ends = clock() + timedelta(seconds=READ_SECONDS)
    rows: list[Row] = []
    try:
        with connect(access_of(known), READ_SECONDS + LAST_ANSWER_SECONDS) as pbx:
            left = (ends - clock()).total_seconds()
            rows.extend(row for row in pbx.users(roster.MAX_USERS, left) if row.is_user)
    except PbxUnavailableError as error:
        return rows, Trouble(error.trouble)
    return rows, None


def _take_in(
    known: Domain, rows: Sequence[Row], now: datetime, *, is_whole: bool
) -> dict[str, int]:
    """Add and change users as a file of them would; counts what became of them.

    Args:
        is_whole: nobody else is there, so that the others here are gone there.
    """
    there = _users_of(known.domain)
    lines = roster.of_list((row.sip, row.values) for row in rows).lines
    judged, changed = people.judge(known.domain, lines, there)
    if changed:
        source = str(urlsplit(known.pbx_url).hostname)
        told = f"{len(changed)} users"
        people.put(changed, audit.Entry(known.domain, now, people.IMPORTED, "PBX", told, source))
    became = Counter(outcome for _, outcome in judged)
    counts = {
        "added": became[Outcome.ADDED],
        "changed": became[Outcome.CHANGED],
        "unchanged": became[Outcome.UNCHANGED],
        "invalid": became[Outcome.WRONG],
    }
    gone = len(there.keys() - {line.sip for line in lines})
    return counts | ({"gone": gone} if is_whole else {})


def _users_of(domain: str) -> dict[str, User]:
    found: dict[str, User] = {}
    after: str | None = None
    while True:
        page = users.list_all(domain, _PAGE, after)
        found |= {user.sip: user for user in page.items}
        after = page.next_after
        if after is None:
            return found
