"""Entries: changes many entries of a rollout at once, in transactions that hold for themselves.

Whatever ends a call in the middle leaves whole entries, each with one code, and the same call goes
on from there. It must not decide who may change what (roles/rollouts.py).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from chalicelib import observability
from chalicelib.core.codes import Lifetime
from chalicelib.core.errors import StoreUnavailableError
from chalicelib.core.rollouts import Registration, Rollout, State
from chalicelib.roles import issuing
from chalicelib.storage import audit, codes, notifications, registrations
from chalicelib.storage.connection import MAX_TRANSACTION_ITEMS, Refused, Transaction, at_once
from chalicelib.storage.users import User

if TYPE_CHECKING:
    from chalicelib.roles.asking import Asking

_S = TypeVar("_S", User, Registration)

_MAX_RACES = 5
_ITEMS_BESIDE = 2
"""In each transaction: the fact that pages hear of, and the entry of the audit trail."""


@dataclass(frozen=True)
class Step(Generic[_S]):
    """What is to become of an entry.

    Args:
        subject: the entry as it was, or the user who has none yet.
        wanted: the entry as it shall be.
        drawn: its new code, None if it keeps the one it has.
    """

    subject: _S
    wanted: Registration
    drawn: issuing.Drawn | None = field(default=None, repr=False)


class Change(ABC, Generic[_S]):
    """What is to become of many entries: how each is made, and how it is written."""

    action: ClassVar[str]
    """What the audit trail calls it."""

    items: ClassVar[int]
    """How many items of a transaction an entry takes."""

    def __init__(self, asking: "Asking", rollout: Rollout, devices_url: str = "") -> None:
        """Take who changes which rollout.

        Args:
            devices_url: where the central service sends phones with new codes.
        """
        self.asking = asking
        self.rollout = rollout
        self._devices_url = devices_url

    @abstractmethod
    def step(self, subject: _S) -> Step[_S]:
        """Say what is to become of one; again if its code was somebody else's."""

    @abstractmethod
    def add(self, write: Transaction, step: Step[_S]) -> None:
        """Add it to a transaction that has its new code, under names that end with the user's."""

    def _drawn(self, sip: str) -> issuing.Drawn:
        order = issuing.Order(
            Lifetime.ROLLOUT,
            devices_url=self._devices_url,
            domain=self.rollout.domain,
            category=self.rollout.category,
            app=self.rollout.app,
            owner=sip,
            rollout_id=self.rollout.rollout_id,
        )
        return issuing.draw(order, self.asking.now)

    def _changed(self, seen: Registration, **members: Any) -> Registration:  # noqa: ANN401 - members of Registration
        now = self.asking.now
        return replace(seen, since=now, changed_at=now, **members)


class Adding(Change[User]):
    """Users get an entry and a code."""

    action = "codes issued"
    items = 2

    def step(self, subject: User) -> Step[User]:
        """Make a new entry."""
        drawn = self._drawn(subject.sip)
        now = self.asking.now
        wanted = Registration(
            rollout_id=self.rollout.rollout_id,
            sip=subject.sip,
            name=subject.name,
            fingerprint=drawn.code.fingerprint,
            code_id=drawn.code.code_id,
            state=State.PENDING,
            expires_at=drawn.code.expires_at,
            since=now,
            changed_at=now,
            purge_at=self.rollout.purge_at,
        )
        return Step(subject, wanted, drawn)

    def add(self, write: Transaction, step: Step[User]) -> None:
        """Write the entry."""
        registrations.put_new(write, step.wanted)


class Reissuing(Change[Registration]):
    """Entries get a new code, and the old one dies with it."""

    action = "codes reissued"
    items = 3

    def step(self, subject: Registration) -> Step[Registration]:
        """Give an entry another code."""
        drawn = self._drawn(subject.sip)
        wanted = self._changed(
            subject,
            fingerprint=drawn.code.fingerprint,
            code_id=drawn.code.code_id,
            state=State.PENDING,
            expires_at=drawn.code.expires_at,
            reason="",
        )
        return Step(subject, wanted, drawn)

    def add(self, write: Transaction, step: Step[Registration]) -> None:
        """Write the old code and the entry; one that has ended may have gone already."""
        if step.subject.state_at(self.asking.now) is State.PENDING:
            codes.revoke(write, step.subject, f"old code {step.subject.sip}")
        registrations.put(write, step.wanted, step.subject)


class Extending(Change[Registration]):
    """Codes that are pending live for seven days from now."""

    action = "codes extended"
    items = 2

    def step(self, subject: Registration) -> Step[Registration]:
        """Move the end of an entry's code."""
        expires_at = self.asking.now + timedelta(seconds=Lifetime.ROLLOUT.seconds)
        return Step(subject, self._changed(subject, expires_at=expires_at))

    def add(self, write: Transaction, step: Step[Registration]) -> None:
        """Write code and entry."""
        name = f"old code {step.subject.sip}"
        codes.extend(write, step.subject, step.wanted.expires_at, self.asking.now, name)
        registrations.put(write, step.wanted, step.subject)


class Revoking(Change[Registration]):
    """Codes that are pending die."""

    action = "codes revoked"
    items = 2

    def step(self, subject: Registration) -> Step[Registration]:
        """End an entry."""
        return Step(subject, self._changed(subject, state=State.REVOKED))

    def add(self, write: Transaction, step: Step[Registration]) -> None:
        """Write code and entry."""
        codes.revoke(write, step.subject, f"old code {step.subject.sip}")
        registrations.put(write, step.wanted, step.subject)


def change_all(change: Change[_S], subjects: Sequence[_S]) -> list[str]:
    """Change entries, several transactions at once.

    Args:
        subjects: entries, or users for new ones, each once.

    Returns:
        Whose were changed; the others were changed at this moment by somebody else or by a phone.

    Raises:
        CentralUnavailableError: the foreign central service did not answer as agreed.
        StoreUnavailableError: throttled or unreachable; what was changed stays.
    """
    steps = at_once(change.step, subjects)
    written = at_once(lambda group: _write(change, group), list(_groups(change, steps)))
    changed = [step.wanted.sip for group in written for step in group]
    if changed and steps[0].drawn:
        observability.count("CodeIssued", len(changed), lifetime=Lifetime.ROLLOUT)
    return changed


def _groups(change: Change[_S], steps: Iterable[Step[_S]]) -> Iterator[list[Step[_S]]]:
    """Divide steps into what fits one transaction; a rotated key lets a step take more."""
    group: list[Step[_S]] = []
    room = MAX_TRANSACTION_ITEMS - _ITEMS_BESIDE
    for step in steps:
        items = change.items + (len(step.drawn.older_fingerprints) if step.drawn else 0)
        if items > room:
            yield group
            group, room = [], MAX_TRANSACTION_ITEMS - _ITEMS_BESIDE
        group.append(step)
        room -= items
    yield group


def _write(change: Change[_S], group: list[Step[_S]]) -> list[Step[_S]]:
    """Write steps in one transaction; who is in the way of the others is left out or drawn anew."""
    for _ in range(_MAX_RACES):
        if not group:
            return []
        transaction = Transaction()
        for step in group:
            if step.drawn:
                _issue(transaction, step.drawn, change.asking.now)
            change.add(transaction, step)
        _add_what_happened(transaction, change, [step.wanted.sip for step in group])
        try:
            transaction.commit_patiently()
        except Refused as refused:
            group = list(_left(change, group, refused))
            continue
        return group
    raise StoreUnavailableError("entries changed too often")


def _left(change: Change[_S], group: list[Step[_S]], refused: Refused) -> Iterator[Step[_S]]:
    for step in group:
        sip = step.wanted.sip
        if {f"registration {sip}", f"old code {sip}"} & set(refused.items):
            continue
        if f"code {sip}" in refused.items:
            observability.count("CodeCollided")
            yield change.step(step.subject)
        else:
            yield step


def _add_what_happened(write: Transaction, change: Change[_S], sips: Sequence[str]) -> None:
    asking, rollout = change.asking, change.rollout
    fact = notifications.Fact(rollout.domain, rollout_id=rollout.rollout_id, sips=sips)
    notifications.add_fact(write, fact, asking.now)
    detail = ", ".join(sips)
    audit.add(write, asking.entry(change.action, rollout.rollout_id, detail=detail))


def _issue(write: Transaction, drawn: issuing.Drawn, now: datetime) -> None:
    code = drawn.code
    codes.issue(write, code, drawn.older_fingerprints, now, f"code {code.owner}")
