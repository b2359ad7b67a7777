"""Provisioning codes: the 12 digits a person types, their entry, lifetimes and states.

It must not generate randomness or touch keys: storage/vault.py makes and seals codes.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from chalicelib.core.devices import Device
from chalicelib.core.errors import Refusal

DIGIT_COUNT = 12
REPEAT_SECONDS = 3600
"""How long the phone that redeemed a code may repeat it. Source: docs/decisions/0004."""

KEEP_REDEEMED_SECONDS = 30 * 86400
"""How long a code stays readable for its owner after it was redeemed."""

_DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"
_FULL_WIDTH = {0xFF10 + digit: str(digit) for digit in range(10)}
_CONFIRMATIONS = ("#", "\uff03")
_NO_CODE = "prompt"


class State(StrEnum):
    """The life of a code."""

    PENDING = "pending"
    REDEEMED = "redeemed"
    REVOKED = "revoked"
    EXPIRED = "expired"


class Lifetime(StrEnum):
    """How long a code can be redeemed. Source: the concept article, 10 minutes and 7 days."""

    USER = "user"
    ROLLOUT = "rollout"

    @property
    def seconds(self) -> int:
        """600 for a code that a person asked for, 604,800 for one of a rollout."""
        return 600 if self is Lifetime.USER else 604_800


@dataclass(frozen=True)
class Entry:
    """What stood where a code is expected.

    Args:
        digits: the 12 digits, or None when what was typed can be no code at all.
    """

    digits: str | None = field(repr=False)


def read_entry(text: str | None) -> Entry | None:
    """Read what a person typed, as tolerantly as a person types.

    Args:
        text: spaces and dashes anywhere, full-width digits and one final `#` are accepted.

    Returns:
        None for no code (absent, empty, `prompt`); else an entry, whose digits are None when it
        is a wrong code.

    Source: the concept article (`#` confirms on IP101 and IP102); the phone reports `prompt`
    until something was typed.
    """
    if text is None:
        return None
    typed = text.strip()
    if not typed or typed.lower() == _NO_CODE:
        return None
    if typed.endswith(_CONFIRMATIONS):
        typed = typed[:-1]
    digits = "".join(
        char for char in typed.translate(_FULL_WIDTH) if not char.isspace() and char not in _DASHES
    )
    is_code = len(digits) == DIGIT_COUNT and digits.isascii() and digits.isdecimal()
    return Entry(digits if is_code else None)


def grouped(digits: str) -> str:
    """Write a code as people read it: `1234 5678 9012`."""
    return " ".join(digits[start : start + 4] for start in range(0, DIGIT_COUNT, 4))


class Handle(Protocol):
    """Whatever names a code without telling it."""

    @property
    def fingerprint(self) -> str:
        """The key of its item."""

    @property
    def code_id(self) -> str:
        """Its public handle."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """A provisioning code as the service keeps it: never with its digits in clear.

    Args:
        fingerprint: keyed hash of the digits, the key of its item.
        code_id: ULID, the public handle.
        state: as stored; `state_at` says what it is at a time.
        domain, category: what it assigns, empty for a code of a foreign installation.
        owner: sip of the user it was issued for, empty for none.
        rollout_id: the rollout it belongs to, empty for none.
        devices_url: where the central service sends the phone.
        sealed_code: the digits under the vault key, dropped when redeemed.
        hw_id, redeemed_from: who redeemed it and from which source, empty while pending.
        reason: the last refusal that its owner should know of, empty for none.
        asker: domain of the Users instance that asked for it or about it, empty for none; it
            hears of the phone that redeems it.
        asking_connection, asking_src: the connection and `src` that it asked with.
    """

    fingerprint: str
    code_id: str
    state: State
    domain: str = ""
    category: str = ""
    app: str = ""
    lifetime: Lifetime
    owner: str = ""
    rollout_id: str = ""
    devices_url: str
    issued_at: datetime
    expires_at: datetime
    purge_at: datetime
    sealed_code: str | None = field(default=None, repr=False)
    redeemed_at: datetime | None = None
    redeemed_from: str = ""
    hw_id: str = ""
    reason: str = ""
    asker: str = ""
    asking_connection: str = ""
    asking_src: str = ""

    def state_at(self, now: datetime) -> State:
        """Tell the state at a time: pending ends at `expires_at`, deleted or not."""
        if self.state is State.PENDING and now >= self.expires_at:
            return State.EXPIRED
        return self.state


def refusal_of(code: Code | None, now: datetime) -> Refusal | None:
    """Tell why a code cannot be redeemed at a time, or None if it can."""
    if code is None:
        return Refusal.UNKNOWN
    return {
        State.PENDING: None,
        State.EXPIRED: Refusal.EXPIRED,
        State.REVOKED: Refusal.REVOKED,
        State.REDEEMED: Refusal.ALREADY_USED,
    }[code.state_at(now)]


def hides(told: str, refusal: Refusal) -> bool:
    """Tell whether the owner should go on seeing an earlier reason instead of a new one.

    That somebody elsewhere tried a code is not hidden by a harmless attempt after it.
    """
    return told == Refusal.REPEATED_ELSEWHERE and refusal is Refusal.ALREADY_USED


def refusal_to_repeat(
    code: Code, device: Device | None, hw_id: str, source: str, now: datetime
) -> Refusal | None:
    """Tell why a redeemed code's answer cannot be given once more, or None if it can.

    The first answer may have been lost, so the same phone, from the same source, may repeat its
    code for an hour, until it has used its token once.

    Args:
        code: a redeemed code.
        device: the device of `hw_id` as it is now.
        source: the source of this request, in the form of rate_limits.source_of.
    """
    if code.hw_id != hw_id or device is None or device.code_id != code.code_id:
        return Refusal.ALREADY_USED
    if code.redeemed_from != source:
        return Refusal.REPEATED_ELSEWHERE
    return None if is_repeat_open(device, source, now) else Refusal.ALREADY_USED


def is_repeat_open(device: Device, source: str, now: datetime) -> bool:
    """Tell whether a device may still repeat the code that registered it.

    Args:
        source: the source of this request, in the form of rate_limits.source_of.
    """
    return (
        device.token_used_at is None
        and device.registered_from == source
        and device.registered_at is not None
        and now < device.registered_at + timedelta(seconds=REPEAT_SECONDS)
    )
