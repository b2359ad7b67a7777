"""PBX turns: what one worker does at a domain's PBX while it has the lease for it.

What is wanted is read when it is told: a phone that is its user's by then must be there, any other
must not (docs/decisions/0025). It must not know what woke it, nor how a PBX is spoken to.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from chalicelib import observability
from chalicelib.core import user_objects
from chalicelib.core.devices import Device, PbxState
from chalicelib.core.errors import PbxRefusedError, PbxUnavailableError
from chalicelib.roles.accesses import Connect, access_of
from chalicelib.roles.placements import Place
from chalicelib.roles.turns import Clock
from chalicelib.storage import devices, domains, handovers, leases, notifications
from chalicelib.storage.connection import Transaction, at_once
from chalicelib.storage.domains import Domain
from chalicelib.storage.handovers import Handover, Standing
from chalicelib.storage.leases import Lease

if TYPE_CHECKING:
    from chalicelib.pbx import Pbx

LEASE_SECONDS = 6
"""Whoever dies holds a domain up for so long. Who merely stalls may write at the same time as the
next one: each of them notices what the other wrote."""

BUDGET_SECONDS = 15
"""How long one turn may take before other domains have theirs."""

GRACE_SECONDS = 5
"""How much longer, to be done with the user that was begun."""

BATCH = 100
MAX_TROUBLE_SECONDS = 600
MAX_REFUSAL_SECONDS = 6 * 3_600
"""A user who is not there is not asked for as often: there may be thousands, for a month."""

_JITTER = 0.25


class _OvertakenError(Exception):
    """The lease was lost to another, who does the rest."""


def show(device: Device, state: PbxState | None, reason: str, now: datetime) -> None:
    """Show how far the PBX is with a phone, and let its user hear, unless it shows that already.

    Args:
        state: None for nothing at all.
        reason: why it is no further, empty for none.
    """
    if (device.pbx, device.pbx_reason) == (state, reason):
        return
    fact = notifications.Fact(
        device.domain, device.user, hw_id=device.hw_id, rollout_id=device.rollout_id
    )

    def also(write: Transaction) -> None:
        notifications.add_fact(write, fact, now)

    devices.report(replace(device, pbx=state, pbx_reason=reason), device, also)


class PbxTurn:
    """Goes through what a domain's PBX must hear, as long as its lease and its time last.

    Args:
        ends: when no other user is begun any more.
    """

    def __init__(self, lease: Lease, clock: Clock, ends: datetime) -> None:
        self._domain = Domain(lease.domain)
        self._lease = lease
        self._clock = clock
        self._ends = ends
        self._answered: set[str] = set()

    def run(self, connect: Connect, newcomers: Sequence[str]) -> Lease | None:
        """Tell all that is due; returns the lease, None if it was lost."""
        standing = handovers.find_standing(self._domain.domain)
        if standing is not None and self._clock() < standing.retry_at:
            self._mark(devices.find_all(newcomers), PbxState.PENDING, standing.reason)
            return self._lease
        due = self._due()
        if not due or self._clock() >= self._ends or not self._is_told_of():
            return self._lease
        try:
            with connect(access_of(self._domain), self._seconds_left()) as pbx:
                while due and self._tell(pbx, due):
                    # who comes meanwhile wants the lease, and is looked for before it is given back
                    due = self._due() if len(due) == BATCH else []
            if standing is not None:
                handovers.clear_standing(self._domain.domain)
        except PbxUnavailableError as error:
            self._keep_trouble(error.trouble, standing)
            waiting = {*newcomers, *(one.hw_id for one in due)} - self._answered
            self._mark(devices.find_all(waiting), PbxState.PENDING, error.trouble)
        except _OvertakenError:
            observability.count("PbxOvertaken")
            return None
        return self._lease

    def _is_told_of(self) -> bool:
        """Read how the PBX is spoken to, after what it must hear: it may be another since.

        Returns:
            Whether there is one.
        """
        self._domain = domains.find(self._domain.domain) or Domain(self._domain.domain)
        return bool(self._domain.pbx_url)

    def _seconds_left(self) -> float:
        """Tell when a PBX that drags on is hung up on, even in the midst of a user."""
        return (self._ends - self._clock()).total_seconds() + GRACE_SECONDS

    def _due(self) -> list[Handover]:
        return handovers.list_due(self._domain.domain, BATCH, self._clock())

    def _tell(self, pbx: "Pbx", due: Sequence[Handover]) -> bool:
        """Tell of each user once; returns whether there is time for more."""
        before = self._domain
        if not self._is_told_of() or access_of(self._domain) != access_of(before):
            # what is due is for another PBX, and that one hears it from whoever comes next
            handovers.wake(self._domain.domain, self._clock())
            return False
        groups: dict[str, list[Handover]] = {}
        for one in due:
            groups.setdefault(one.owner, []).append(one)
        known = {device.hw_id: device for device in devices.find_all(one.hw_id for one in due)}
        # who has lost a phone comes first, so that whoever has it now is not told of two
        order = sorted(groups, key=lambda owner: not self._has_lost(groups[owner], known))
        for owner in order:
            if self._clock() >= self._ends:
                # the next one goes on, with a budget of its own
                handovers.wake(self._domain.domain, self._clock())
                return False
            self._tell_user(pbx, owner, groups[owner])
        return True

    def _has_lost(self, group: Sequence[Handover], known: dict[str, Device]) -> bool:
        return any(not self._is_theirs(one.owner, known.get(one.hw_id)) for one in group)

    def _is_theirs(self, owner: str, device: Device | None) -> bool:
        return (
            device is not None
            and (device.domain, device.user) == (self._domain.domain, owner)
            and bool(device.registration_id)
        )

    def _tell_user(self, pbx: "Pbx", owner: str, group: Sequence[Handover]) -> None:
        """Bring one user's object up to date, and keep what became of it."""
        self._hold()
        hw_ids = list(dict.fromkeys(one.hw_id for one in group))
        known = {device.hw_id: device for device in devices.find_all(hw_ids)}
        come = [known[hw_id] for hw_id in hw_ids if self._is_theirs(owner, known.get(hw_id))]
        gone = [hw_id for hw_id in hw_ids if not self._is_theirs(owner, known.get(hw_id))]
        try:
            self._place(pbx, owner, group, come, gone)
        except PbxUnavailableError as error:
            # perhaps it is this one alone: it must not be first each time
            self._later_than_others(group, error.trouble)
            raise

    def _place(
        self,
        pbx: "Pbx",
        owner: str,
        group: Sequence[Handover],
        come: Sequence[Device],
        gone: Sequence[str],
    ) -> None:
        place = Place(pbx, self._domain, owner)
        held = place.held_by_others(come)
        for device in come:
            if device.hw_id in held:
                reason = user_objects.of_another_user(held[device.hw_id])
                theirs = [one for one in group if one.hw_id == device.hw_id]
                self._put_off(theirs, [device], reason)
        come = [device for device in come if device.hw_id not in held]
        group = [one for one in group if one.hw_id not in held]
        if not group:
            return
        try:
            place.write(come, gone, self._hold)
        except PbxRefusedError as error:
            self._demand_lease(group)
            self._put_off(group, come, error.reason)
        else:
            self._demand_lease(group)
            self._settle(group, come)

    def _demand_lease(self, group: Sequence[Handover]) -> None:
        """Go on only as the one whose turn it is, who knew all that waited.

        Another may have looked at the PBX before what was written here was there, and settled what
        it then found right: so it is looked at once more.
        """
        try:
            self._hold(at_most=0)
        except _OvertakenError:
            handovers.put_again(group, self._clock())
            raise

    def _put_off(self, group: Sequence[Handover], come: Sequence[Device], reason: str) -> None:
        """Keep that the PBX did not take phones, to try them again later."""
        self._later_than_others(group, reason)
        self._answered |= {one.hw_id for one in group}
        self._mark(come, PbxState.FAILED, reason)
        observability.count("PbxRefused", len(group))
        for _ in observability.under_each(_causes(group)):
            observability.logger().warning("not taken by the PBX", extra={"why": reason})

    def _later_than_others(self, group: Sequence[Handover], reason: str) -> None:
        attempts = max(one.attempts for one in group) + 1
        handovers.put_off(group, reason, self._later(attempts, MAX_REFUSAL_SECONDS))

    def _settle(self, group: Sequence[Handover], come: Sequence[Device]) -> None:
        self._mark(come, PbxState.DONE, "")
        self._answered |= {one.hw_id for one in group}
        handovers.settle(group)
        observability.count("PbxHandedOver", len(group))
        for _ in observability.under_each(_causes(group)):
            observability.logger().info("handed over to the PBX")

    def _hold(self, at_most: float = LEASE_SECONDS / 2) -> None:
        """Keep the lease, so that nothing is written without it.

        Args:
            at_most: seconds since it was prolonged that need no other.
        """
        now = self._clock()
        if now < self._lease.until - timedelta(seconds=LEASE_SECONDS - at_most):
            return
        prolonged = leases.prolong(self._lease, now + timedelta(seconds=LEASE_SECONDS))
        if prolonged is None:
            raise _OvertakenError
        self._lease = prolonged

    def _keep_trouble(self, reason: str, before: Standing | None) -> None:
        attempts = before.attempts + 1 if before else 1
        since = before.since if before else self._clock()
        retry_at = self._later(attempts, MAX_TROUBLE_SECONDS)
        standing = Standing(self._domain.domain, reason, since, attempts, retry_at)
        handovers.put_standing(standing)
        observability.count("PbxTrouble", reason=reason)
        observability.logger().warning("no way to the PBX", extra={"why": reason})

    def _later(self, attempts: int, most: int) -> datetime:
        pause = user_objects.pause_seconds(attempts, most)
        spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - jitter
        return self._clock() + timedelta(seconds=pause * spread)

    def _mark(self, known: Sequence[Device], state: PbxState, reason: str) -> None:
        """Keep with each phone how far the PBX is with it, and let its user hear."""
        now = self._clock()
        theirs = [one for one in known if one.user and self._is_theirs(one.user, one)]
        at_once(lambda device: show(device, state, reason, now), theirs)


def _causes(group: Sequence[Handover]) -> list[str]:
    """Tell which requests began it."""
    return sorted({one.correlation_id for one in group})
