"""People: the users of a domain, as its administrators list and import them.

It must not read a file (core/roster.py), nor sign anybody in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from chalicelib.core.errors import Fault, InvalidRequestError, NotAllowedError
from chalicelib.core.roster import Line, Roster
from chalicelib.storage import audit, domains, users
from chalicelib.storage.lists import Page
from chalicelib.storage.users import User

if TYPE_CHECKING:
    from chalicelib.roles.asking import Asking

IMPORTED = "users imported"
"""What the audit trail calls it."""

MAX_FAULTS = 1_000
"""How many faults one answer tells; a file may have more."""


class Outcome(StrEnum):
    """What becomes of a line."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    WRONG = "wrong"


@dataclass(frozen=True)
class Report:
    """What becomes of every line.

    Args:
        lines: each line, in their order.
        ignored: columns that mean nothing here.
    """

    lines: Sequence[tuple[Line, Outcome]]
    ignored: Sequence[str]

    def count(self, outcome: Outcome) -> int:
        """Count the lines of one outcome."""
        return sum(one is outcome for _, one in self.lines)


def list_all(asking: "Asking", limit: int, after: str | None) -> Page[User]:
    """List the users of this person's domain, by sip.

    Raises:
        NotAllowedError: this person is no users-admin.
    """
    asking.demand_users_admin()
    return users.list_all(asking.person.domain, limit, after)


def take_in(
    asking: "Asking", roster: Roster, where: str, *, is_dry_run: bool, skips_wrong: bool
) -> Report:
    """Add and change users; nobody is removed, and what is not told of somebody stays.

    Args:
        where: what a fault calls a line (`line`, `users`).
        is_dry_run: only tell what would become of each line.
        skips_wrong: write the other lines if some are wrong.

    Raises:
        NotAllowedError: this person is no users-admin, or their domain is not served here.
        InvalidRequestError: a line is wrong, and nothing was written.
        StoreUnavailableError: throttled or unreachable; what was written stays.
    """
    asking.demand_users_admin()
    domain = asking.person.domain
    if domains.find(domain) is None:
        raise NotAllowedError("the domain is not served here")
    wrong = [line for line in roster.lines if line.faults]
    if wrong and not (is_dry_run or skips_wrong):
        raise InvalidRequestError(*_faults(wrong, where))
    sips = [line.sip for line in roster.lines if not line.faults]
    there = {user.sip: user for user in users.find_many(domain, sips)}
    judged, changed = judge(domain, roster.lines, there)
    if changed and not is_dry_run:
        put(changed, asking.entry(IMPORTED, f"{len(changed)} users"))
    return Report(judged, roster.ignored)


def judge(
    domain: str, lines: Sequence[Line], there: Mapping[str, User]
) -> tuple[list[tuple[Line, Outcome]], list[User]]:
    """Tell what becomes of each line, and which users are then new or other than before.

    Args:
        there: users of the domain by sip, at least those that the lines tell of.
    """
    judged: list[tuple[Line, Outcome]] = []
    changed: list[User] = []
    for line in lines:
        if line.faults:
            judged.append((line, Outcome.WRONG))
            continue
        seen = there.get(line.sip)
        told: dict[str, Any] = dict(line.values)
        wanted = replace(seen or User(domain, line.sip), **told)
        if wanted != seen:
            changed.append(wanted)
        outcome = Outcome.CHANGED if seen else Outcome.ADDED
        judged.append((line, outcome if wanted != seen else Outcome.UNCHANGED))
    return judged, changed


def put(changed: Sequence[User], entry: audit.Entry) -> None:
    """Write users, and who did so.

    Raises:
        StoreUnavailableError: throttled or unreachable; what was written stays.
    """
    # noted first: a trail that tells of too much is better than one that misses something
    audit.note(entry)
    users.put_all(changed)


def _faults(wrong: Sequence[Line], where: str) -> list[Fault]:
    faults = [
        Fault(f"{where}.{line.number}.{fault.field}", fault.message)
        for line in wrong
        for fault in line.faults
    ]
    if len(faults) > MAX_FAULTS:
        more = Fault("", f"and {len(faults) - MAX_FAULTS} more faults")
        return [*faults[:MAX_FAULTS], more]
    return faults
