"""Handouts: tells the codes of a rollout to whoever hands them out, and writes down that it did.

It must not write a file or a page (core/roster.py, api/slips.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from chalicelib.core.rollouts import MAX_ENTRIES, MAX_USERS, Registration, Rollout, State
from chalicelib.roles import issuing, rollouts
from chalicelib.storage import audit, codes, registrations, users, vault
from chalicelib.storage.lists import Page

if TYPE_CHECKING:
    from chalicelib.roles.asking import Asking

MAX_SLIPS = 200


@dataclass(frozen=True)
class Handout:
    """What a user is to be told.

    Args:
        digits: of the code, empty unless it is pending.
    """

    registration: Registration
    user: users.User
    digits: str = field(repr=False)


def export(
    asking: "Asking", rollout_id: str, since: datetime | None
) -> tuple[Rollout, list[Handout]]:
    """Tell all codes of a rollout, by sip.

    Args:
        since: without entries that are as they were then, None for all.

    Raises:
        NotAllowedError: this person is no users-admin.
        NotFoundError: there is no such rollout in their domain.
        StoreUnavailableError: throttled or unreachable.
    """
    rollout = rollouts.find(asking, rollout_id)
    found: list[Registration] = []
    after: str | None = None
    while True:
        page = registrations.list_all(rollout_id, MAX_ENTRIES, after)
        found += [entry for entry in page.items if since is None or entry.since >= since]
        after = page.next_after
        if after is None:
            break
    told = f"{len(found)} entries" + (f" changed since {since.isoformat()}" if since else "")
    audit.note(asking.entry("codes exported", rollout_id, detail=told))
    return rollout, _handouts(asking, rollout, found)


def view(
    asking: "Asking", rollout_id: str, limit: int, after: str | None
) -> tuple[Rollout, Page[Handout]]:
    """Tell the codes that are pending, by sip.

    Returns:
        Fewer than were asked for do not mean the end: up to 1,000 entries are looked through.

    Raises:
        NotAllowedError: this person is no users-admin.
        NotFoundError: there is no such rollout in their domain.
        StoreUnavailableError: throttled or unreachable.
    """
    rollout = rollouts.find(asking, rollout_id)
    page = registrations.list_all(rollout_id, MAX_USERS, after)
    every = [entry for entry in page.items if entry.state_at(asking.now) is State.PENDING]
    pending = every[:limit]
    next_after = pending[-1].sip if len(every) > limit else page.next_after
    told = ", ".join(entry.sip for entry in pending)
    audit.note(asking.entry("codes viewed", rollout_id, detail=told))
    return rollout, Page(_handouts(asking, rollout, pending), next_after)


def _handouts(asking: "Asking", rollout: Rollout, found: Sequence[Registration]) -> list[Handout]:
    """Read users and codes; a code whose phone came meanwhile is not told any more."""
    pending = [entry for entry in found if entry.state_at(asking.now) is State.PENDING]
    sealed = codes.find_sealed(entry.fingerprint for entry in pending)
    known = users.find_many(rollout.domain, (entry.sip for entry in found))
    people = {user.sip: user for user in known}
    return [
        Handout(
            entry,
            people.get(entry.sip) or users.User(rollout.domain, entry.sip, entry.name),
            _digits(entry, sealed.get(entry.code_id)),
        )
        for entry in found
    ]


def _digits(entry: Registration, sealed: str | None) -> str:
    return vault.unseal(sealed, issuing.sealing_purpose(entry.code_id)) if sealed else ""
