"""Rollouts: codes for many users at once, each user's entry, and what has become of it.

It must not issue a code or read one: an entry names its code, and never tells it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from chalicelib.core.devices import Device
from chalicelib.core.errors import Refusal

MAX_ENTRIES = 20_000
"""How many users a rollout may have."""

MAX_USERS = 1_000
"""How many users one call may name, and how many entries it may change."""

LASTS_DAYS = 90
"""How long codes can be issued and extended in a rollout."""

KEEP_DAYS = 90
"""How long a rollout's entries are kept after it has ended."""

NOT_CONFIRMED = "script not confirmed"
RELEASED = "phone released"


class State(StrEnum):
    """What has become of a user's entry."""

    PENDING = "pending"
    REGISTERED = "registered"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Rollout:
    """Phones for many users, of one category and with one app.

    Args:
        rollout_id: ULID.
        app: the phone app, empty if the domain has none.
        created_by: sip of the administrator.
    """

    domain: str
    rollout_id: str
    name: str
    category: str
    created_by: str
    created_at: datetime
    app: str = ""
    note: str = ""

    @property
    def ends_at(self) -> datetime:
        """When the last code can be issued or extended."""
        return self.created_at + timedelta(days=LASTS_DAYS)

    @property
    def purge_at(self) -> datetime:
        """When its entries go."""
        return self.ends_at + timedelta(days=KEEP_DAYS)


@dataclass(frozen=True, kw_only=True)
class Registration:
    """One user's entry of a rollout.

    Args:
        name: the user's, as it was when the entry was made.
        fingerprint, code_id: its code.
        state: as stored; `state_at` says what it is at a time.
        since: when its code was issued or extended, its phone registered, or it was revoked.
        changed_at: the same, or when an attempt was refused after that.
        hw_id: the phone that redeemed its code, empty before.
        reason: the last refusal that the administrator should know of, empty for none.
    """

    rollout_id: str
    sip: str
    name: str = ""
    fingerprint: str
    code_id: str
    state: State
    expires_at: datetime
    since: datetime
    changed_at: datetime
    purge_at: datetime
    hw_id: str = ""
    reason: str = ""

    def state_at(self, now: datetime) -> State:
        """Tell the state at a time: pending ends at `expires_at`, whatever is stored."""
        if self.state is State.PENDING and now >= self.expires_at:
            return State.EXPIRED
        return self.state

    def since_at(self, now: datetime) -> datetime:
        """Tell since when it has been in the state that it has at a time."""
        return self.expires_at if self.state_at(now) is State.EXPIRED else self.since


def reason_of(registration: Registration, device: Device | None, now: datetime) -> str:
    """Tell what an administrator should look after, empty for nothing.

    Args:
        device: the phone that registered, None if it is not this user's any more.
    """
    if registration.state is State.REGISTERED and device is None:
        return RELEASED
    if registration.reason == Refusal.REPEATED_ELSEWHERE:
        # somebody else has this phone's code: what may be harmless does not hide that
        return registration.reason
    if device is not None and device.stuck_since(now) is not None:
        return NOT_CONFIRMED
    return registration.reason
