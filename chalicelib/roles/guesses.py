"""Taking a code from somebody: every place that does so charges, refunds and refuses here.

An attempt is paid for before the code is looked up and refunded after it succeeded, so parallel
guesses cannot outrun the limit. It must not decide what a good code is good for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NoReturn

from chalicelib import observability, settings
from chalicelib.core.codes import (
    Code,
    Entry,
    State,
    is_repeat_open,
    refusal_of,
    refusal_to_repeat,
)
from chalicelib.core.devices import Device
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    DeviceElsewhereError,
    LimitReachedError,
    Refusal,
    StoreUnavailableError,
)
from chalicelib.core.rate_limits import LimitName, guess_risk
from chalicelib.storage import audit, codes, devices, limits, redemptions, vault
from chalicelib.storage.connection import Refused

if TYPE_CHECKING:
    from chalicelib.roles.asking import Asking


@dataclass(frozen=True)
class Guess:
    """A code that somebody presents.

    Args:
        hw_id: of the phone.
        source: in the form of rate_limits.source_of.
        domain: whose codes alone count here, empty for any.
    """

    entry: Entry
    hw_id: str
    source: str
    domain: str = ""


@dataclass(frozen=True)
class Risk:
    """How likely it is that guessing finds a code.

    Args:
        open_codes: how many there are at most: the store's own count of all codes, which is some
            hours old and knows those that have ended, too.
        sources: from how many addresses somebody would guess.
        chance: within a day, 0 to 1.
    """

    open_codes: int
    sources: int
    chance: float


@dataclass
class Found:
    """What a guess hit.

    Args:
        code: what lies behind it, None for a wrong code.
        device: the phone that presents it, None if it was never seen.
    """

    code: Code | None
    device: Device | None


@contextmanager
def charged(guess: Guess, now: datetime) -> Iterator[Found]:
    """Charge an attempt, look the code up, and refund unless it was a guess.

    Refunded: a success, a good code that met a store in trouble, and a code that this very phone
    redeemed. That phone may repeat it even when its source has nothing left.

    Raises:
        LimitReachedError: nothing left for this source.
        StoreUnavailableError: throttled or unreachable.
    """
    limit = settings.current().limits[LimitName.GUESSES]
    prints = vault.fingerprints(guess.entry.digits) if guess.entry.digits else []
    try:
        limits.reserve(limit, guess.source, now)
    except LimitReachedError:
        device = devices.find(guess.hw_id)
        is_own = device is not None and device.code_fingerprint in prints
        if device is None or not is_own or not is_repeat_open(device, guess.source, now):
            raise
        yield Found(*redemptions.read(prints, guess.hw_id))
        return
    code, device = redemptions.read(prints, guess.hw_id) if prints else (None, None)
    try:
        yield Found(code, device)
    except StoreUnavailableError:
        # a wrong code is refused without the store; this one was good, or this phone's own
        limits.refund(limit, guess.source)
        raise
    except CodeNotRedeemableError:
        if code is not None and code.hw_id == guess.hw_id:
            limits.refund(limit, guess.source)
        raise
    limits.refund(limit, guess.source)


def accept(found: Found, guess: Guess, now: datetime) -> Code:
    """Accept a code that is pending, or that this very phone repeats in time.

    Raises:
        CodeNotRedeemableError: the one answer for every other.
        StoreUnavailableError: throttled or unreachable.
    """
    if found.code is None:
        refuse(found, guess, Refusal.UNKNOWN if guess.entry.digits else Refusal.MALFORMED, now)
    elif found.code.state is State.REDEEMED:
        if found.code.hw_id == guess.hw_id and not _is_registered_by(found.device, found.code):
            # a batch read is no snapshot: it may have seen the code after its redemption and the
            # device before; whoever reads it now sees it as that redemption left it
            found.device = devices.find(guess.hw_id)
        why = refusal_to_repeat(found.code, found.device, guess.hw_id, guess.source, now)
    else:
        why = refusal_of(found.code, now)
    if why is not None:
        refuse(found, guess, why, now)
    return found.code


def _is_registered_by(device: Device | None, code: Code) -> bool:
    return device is not None and device.code_id == code.code_id


def refuse(found: Found, guess: Guess, why: Refusal, now: datetime) -> NoReturn:
    """Refuse: the reason goes to the owner of the code, the audit trail and a metric.

    What is not charged, a phone's own code from the same source, is written down once in a while:
    else it would be the way to fill an audit trail without a limit.

    Raises:
        CodeNotRedeemableError: the one answer for every code that cannot be redeemed.
        DeviceElsewhereError: the code is good, but not for this device.
    """
    observability.count("CodeRefused", reason=why)
    if found.code is not None:
        entry = audit.Entry(
            domain=found.code.domain,
            at=now,
            action="code refused",
            actor=guess.hw_id,
            subject=found.code.code_id,
            source=guess.source,
            detail=why,
        )
        try:
            if _is_news(found.code, guess, why, now):
                redemptions.refuse(found.code, why, entry)
        except (Refused, StoreUnavailableError) as error:
            # the code has gone meanwhile, or the store is down: the phone hears the same
            why_not = type(error).__name__
            observability.logger().warning("refusal not recorded", extra={"why": why_not})
    if why in {Refusal.DEVICE_OF_ANOTHER_USER, Refusal.DEVICE_OF_ANOTHER_DOMAIN}:
        raise DeviceElsewhereError(why)
    raise CodeNotRedeemableError(why)


def _is_news(code: Code, guess: Guess, why: Refusal, now: datetime) -> bool:
    """Tell whether a refusal is to be written down: not the same uncharged one again and again."""
    if code.hw_id != guess.hw_id:
        return True
    limit = settings.current().limits[LimitName.SAME_TOKEN]
    return limits.take(limit, f"{guess.source}#{code.code_id}#{why}", now)


def show_risk(asking: "Asking") -> Risk:
    """Show how likely it is that guessing finds a code.

    Raises:
        NotAllowedError: this person does not administer the platform.
        StoreUnavailableError: throttled or unreachable.
    """
    asking.demand_platform_admin()
    return _risk()


def measure_risk() -> None:
    """Let whoever watches over the service know how likely it is that guessing finds a code.

    Trouble is logged: what is done in the same minute must not wait for it.
    """
    try:
        observability.measure("GuessRisk", _risk().chance)
    except StoreUnavailableError as error:
        observability.logger().warning("risk not measured", extra={"why": error.what})
    except Exception:  # noqa: BLE001 - phones that wait to be told must not wait for a figure
        observability.logger().exception("defect")


def _risk() -> Risk:
    used = settings.current()
    count = codes.count_roughly()
    chance = guess_risk(count, used.guess_sources, used.limits[LimitName.GUESSES])
    return Risk(count, used.guess_sources, chance)
