"""Registrations: takes a phone in by its code, or by its domain's security token.

Either makes one registration of the phone, in one transaction, with a token of its own. It must
not bring the phone anything (roles/devices.py), nor know how it came in.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from chalicelib import observability, settings
from chalicelib.core import auto_provisioning, jobs
from chalicelib.core.auto_provisioning import Claim
from chalicelib.core.codes import Code, Entry, Lifetime, State, is_repeat_open
from chalicelib.core.devices import (
    Device,
    refusal_to_admit,
    refusal_to_assign,
)
from chalicelib.core.devices import State as DeviceState
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    DeviceElsewhereError,
    NotSignedInError,
    Refusal,
    StoreUnavailableError,
)
from chalicelib.core.rate_limits import LimitName
from chalicelib.roles import guesses
from chalicelib.storage import admissions, audit, domains, limits, redemptions, vault
from chalicelib.storage import jobs as job_table
from chalicelib.storage.connection import Refused
from chalicelib.storage.ids import new_id

if TYPE_CHECKING:
    from chalicelib.roles.devices import Visit

_MAX_RACES = 3


@dataclass(frozen=True)
class Registration:
    """What a phone gets for its code or its domain's token.

    Args:
        device: as it is now.
        token: the device's own, 256 bits.
        plan: its jobs, secrets sealed.
    """

    device: Device
    token: str = field(repr=False)
    plan: jobs.Plan


def register(visit: "Visit", grounds: Entry | Claim, now: datetime) -> Registration:
    """Register a phone; the same phone may repeat what it did and gets the same token.

    Args:
        grounds: the code, or the domain's token.

    Raises:
        CodeNotRedeemableError: the code is unknown, expired, revoked or used, the token wrong.
        DeviceElsewhereError: code or token are good, but the device is somebody's already.
        LimitReachedError: the source has nothing left.
        StoreUnavailableError: throttled or unreachable; a repeat finishes what was begun.
    """
    if isinstance(grounds, Claim):
        device = _admit(grounds, visit, now)
    else:
        guess = guesses.Guess(grounds, visit.hw_id, visit.source, visit.domain)
        with guesses.charged(guess, now) as found:
            device = redeem(found, guess, partial(_redeemed, visit, now), now)
    token, _ = vault.device_token(device.hw_id, device.registration_id, device.token_version)
    plan = jobs.plan_for(
        device.domain, device.category, job_table.find_matching(device.domain, device.category)
    )
    return Registration(device, token, plan)


def redeem(
    found: guesses.Found,
    guess: guesses.Guess,
    make: Callable[[Code, Device | None], Device],
    now: datetime,
    gateway: Device | None = None,
) -> Device:
    """Redeem what was found; whoever is beaten learns it from the refused transaction itself.

    Args:
        make: makes the device as it shall be, of the code and of what it was, None if it was never
            seen.
        gateway: that an analogue phone is at, None for any other device; it must still be in its
            domain.

    Returns:
        The device; for a repeat as it is.

    Raises:
        CodeNotRedeemableError: the code is unknown, expired, revoked or used.
        DeviceElsewhereError: it is good, but not for this device.
        NotSignedInError: the gateway was released, or registered anew, at this moment.
        StoreUnavailableError: throttled, unreachable, or beaten again and again.
    """
    for _ in range(_MAX_RACES):
        code, seen = guesses.accept(found, guess, now), found.device
        why = _refusal_of(code, seen, guess.domain, now)
        if why is not None:
            guesses.refuse(found, guess, why, now)
        if code.state is State.REDEEMED and seen is not None:
            observability.count("CodeRepeated")
            return seen
        device = make(code, seen)
        entry = audit.Entry(
            domain=code.domain,
            at=now,
            action="code redeemed",
            actor=guess.hw_id,
            subject=code.code_id,
            source=guess.source,
            detail=_taken_from(seen, code),
        )
        try:
            digits = guess.entry.digits or ""
            redemptions.write(code, digits, device, seen, entry, gateway=gateway)
        except Refused as refused:
            if "gateway" in refused.items:
                raise NotSignedInError("released at this moment") from None
            found = guesses.Found(*redemptions.as_they_are(refused, code, seen))
            continue
        observability.count("CodeRedeemed", lifetime=code.lifetime)
        return device
    raise StoreUnavailableError("device changed too often")


def _refusal_of(code: Code, seen: Device | None, domain: str, now: datetime) -> Refusal | None:
    if not code.domain:
        # we issued it to a foreign installation, whose Devices alone can redeem it
        return Refusal.UNKNOWN
    if domain not in {"", code.domain}:
        return Refusal.CODE_OF_ANOTHER_DOMAIN
    if code.state is State.REDEEMED:
        return None  # a repeat: nothing is assigned
    is_for_anyone = code.lifetime is Lifetime.ROLLOUT
    return refusal_to_assign(seen, code.domain, code.owner, is_for_anyone=is_for_anyone, now=now)


def _taken_from(seen: Device | None, code: Code) -> str:
    """Name the user of the same domain who loses the phone, empty for none."""
    is_here = seen is not None and seen.domain == code.domain
    return f"from {seen.user}" if is_here and seen and seen.user not in {"", code.owner} else ""


def _redeemed(visit: "Visit", now: datetime, code: Code, seen: Device | None) -> Device:
    return _registered(visit, now, **assignment(code, seen, visit.facts.name))


def assignment(code: Code, seen: Device | None, name: str) -> dict[str, Any]:
    """Say what a code makes of a device: the members of Device that it decides.

    Args:
        seen: the device as it was, None if it was never seen; if its user stays, so does its name.
        name: else.
    """
    is_same_owner = seen and (seen.domain, seen.user) == (code.domain, code.owner)
    known_name = seen.name if seen and is_same_owner else ""
    return {
        "domain": code.domain,
        "category": code.category,
        "app": code.app,
        "user": code.owner,
        "name": known_name or name,
        "code_id": code.code_id,
        "code_fingerprint": code.fingerprint,
        "rollout_id": code.rollout_id,
    }


def _admit(claim: Claim, visit: "Visit", now: datetime) -> Device:
    """Admit a phone by its domain's token; only failures count against its source."""
    limit = settings.current().limits[LimitName.TOKENS]
    for _ in range(_MAX_RACES):
        found = admissions.read(claim, visit.hw_id, limits.bucket_key(limit, visit.source))
        limits.demand_room(limit, found.bucket, now)
        why = _refusal_to_admit(found, claim, visit, now)
        if why is None:
            device = _admitted(found, claim, visit, now)
            entry = _entry("device admitted", claim.domain, visit.hw_id, visit, now)
            try:
                redemptions.admit(device, found.device, entry)
            except Refused:
                continue
            observability.count("DeviceAdmitted")
            return device
        seen = found.device
        if seen and why is Refusal.DEVICE_THERE_ALREADY and _repeats(seen, claim, visit, now):
            return seen
        _refuse_to_admit(found, claim, visit, why, now)
    raise StoreUnavailableError("device changed too often")


def _refusal_to_admit(
    found: admissions.Found, claim: Claim, visit: "Visit", now: datetime
) -> Refusal | None:
    is_here = visit.domain in {"", claim.domain}
    if not _is_token(found.token, claim.token, now) or not is_here:
        return Refusal.WRONG_TOKEN
    if found.category is None or not found.category.provisioning:
        return Refusal.NO_PROVISIONING_CATEGORY
    return refusal_to_admit(found.device, now)


def _is_token(known: domains.SecurityToken | None, presented: str, now: datetime) -> bool:
    """Compare with the token and the one before, both in constant time, both always."""
    if known is None:
        return False
    purpose = auto_provisioning.purpose_of(known.domain)
    is_current = vault.is_same(vault.unseal(known.sealed_token, purpose), presented)
    if not known.sealed_old_token:
        return is_current
    is_old = vault.is_same(vault.unseal(known.sealed_old_token, purpose), presented)
    return is_current or (is_old and known.old_until is not None and now < known.old_until)


def _repeats(device: Device, claim: Claim, visit: "Visit", now: datetime) -> bool:
    """Tell whether this phone was admitted just now and may not have got its answer."""
    is_admitted_here = device.domain == claim.domain and not device.code_id
    return is_admitted_here and is_repeat_open(device, visit.source, now)


def _refuse_to_admit(
    found: admissions.Found, claim: Claim, visit: "Visit", why: Refusal, now: datetime
) -> NoReturn:
    """Refuse; the same attempt again, as a phone makes it every minute, counts once in a while.

    Raises:
        CodeNotRedeemableError: the one answer for every token and category that is not good.
        DeviceElsewhereError: they are good, but the device is there already.
    """
    observability.count("AdmissionRefused", reason=why)
    known = settings.current().limits
    is_guess = why is Refusal.WRONG_TOKEN
    attempt = vault.mark(f"{claim.domain}\n{claim.token}")
    attempt = attempt if is_guess else f"{attempt}#{visit.hw_id}"
    if limits.take(known[LimitName.SAME_TOKEN], f"{visit.source}#{attempt}", now):
        if is_guess:
            limits.take(known[LimitName.TOKENS], visit.source, now)
        if found.is_domain:
            audit.note(
                replace(
                    _entry("admission refused", claim.domain, visit.hw_id, visit, now), detail=why
                )
            )
    if why is Refusal.DEVICE_THERE_ALREADY:
        raise DeviceElsewhereError(why)
    raise CodeNotRedeemableError(why)


def _admitted(found: admissions.Found, claim: Claim, visit: "Visit", now: datetime) -> Device:
    """Make the registration; a phone that is expected here takes the place that was kept for it."""
    seen = found.device
    expected = seen if seen and seen.domain == claim.domain and not seen.registration_id else None
    if expected is not None:
        return _registered(
            visit,
            now,
            domain=claim.domain,
            category=expected.category,
            app=expected.app,
            user=expected.user,
            name=expected.name or visit.facts.name,
        )
    return _registered(
        visit,
        now,
        domain=claim.domain,
        category=claim.category,
        app=next(iter(found.phone_apps), ""),
        name=visit.facts.name,
    )


def _registered(visit: "Visit", now: datetime, **assignment: Any) -> Device:  # noqa: ANN401 - members of Device
    registration_id = new_id(now)
    token, version = vault.device_token(visit.hw_id, registration_id)
    facts = visit.facts
    return Device(
        hw_id=visit.hw_id,
        state=DeviceState.REGISTERED,
        product=facts.product,
        version=facts.version,
        device_type=facts.device_type,
        prot=facts.prot,
        boot=facts.boot,
        local_ip=facts.local_ip,
        registration_id=registration_id,
        registered_at=now,
        registered_from=visit.source,
        token_hash=vault.token_hash(token),
        token_version=version,
        offered_at=now,
        stuck_at=jobs.stuck_at(now, jobs.Plan(None, ())),
        **assignment,
    )


def _entry(action: str, domain: str, subject: str, visit: "Visit", now: datetime) -> audit.Entry:
    return audit.Entry(domain, now, action, visit.hw_id, subject, visit.source)
