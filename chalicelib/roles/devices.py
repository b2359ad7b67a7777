"""Devices: takes phones in by their code, brings them their jobs, and learns what they have done.

It must not render anything but update scripts, and not know how a request came in.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from chalicelib import observability
from chalicelib.core import jobs, scripts
from chalicelib.core.codes import Code, Entry, Lifetime, State
from chalicelib.core.devices import Device, Facts, refusal_to_assign
from chalicelib.core.devices import State as DeviceState
from chalicelib.core.errors import (
    CodeNotRedeemableError,
    DeviceElsewhereError,
    NotFoundError,
    NotSignedInError,
    StoreUnavailableError,
)
from chalicelib.loading import on_use
from chalicelib.storage import devices, vault
from chalicelib.storage import jobs as job_table
from chalicelib.storage.connection import Refused
from chalicelib.storage.ids import new_id

if TYPE_CHECKING:
    from chalicelib.roles import guesses
    from chalicelib.storage import audit, redemptions
else:
    # an idle poll takes no code
    guesses = on_use("chalicelib.roles.guesses")
    audit = on_use("chalicelib.storage.audit")
    redemptions = on_use("chalicelib.storage.redemptions")

SEEN_SECONDS = 600
"""How old `last_seen_at` may get before a poll that changed nothing writes it again."""

_MAX_RACES = 3


@dataclass(frozen=True)
class Visit:
    """A phone that comes to Devices.

    Args:
        hw_id: 12 lower-case hex digits.
        entry: the code it brings, None for none.
        token: its own token, None for none.
        source: in the form of rate_limits.source_of.
        update_url: our URL for update clients.
    """

    hw_id: str
    facts: Facts
    entry: Entry | None
    token: str | None = field(repr=False)
    source: str
    update_url: str


@dataclass(frozen=True)
class Registration:
    """What a phone gets for its code.

    Args:
        device: as it is now.
        token: the device's own, 256 bits.
        plan: its jobs.
    """

    device: Device
    token: str = field(repr=False)
    plan: jobs.Plan


class Outcome(StrEnum):
    """How a job ended."""

    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Report:
    """What a phone that is no update client says of a job.

    Args:
        reason: why it failed, empty for none.
    """

    job_id: str
    outcome: Outcome
    reason: str = ""


def update_script(visit: Visit, now: datetime) -> str:
    """Answer an update client: by its token with what is open, by its code with everything.

    Returns:
        An update script; the code form for a released device and for every refused code.

    Raises:
        LimitReachedError: the source has nothing left.
        StoreUnavailableError: throttled or unreachable; nothing is lost, the phone comes back.
    """
    if visit.token:
        device = devices.find(visit.hw_id)
        if device is not None and vault.is_token(visit.token, device.token_hash):
            return _poll(device, visit.facts, now)
        observability.count("DeadToken")
    if visit.entry is None:
        return scripts.code_form(None)
    try:
        registration = register(visit, visit.entry, now)
    except (CodeNotRedeemableError, DeviceElsewhereError):
        return scripts.code_form(None)
    device, plan = registration.device, registration.plan
    return scripts.for_device(
        jobs.firmware_lines(plan, visit.facts),
        jobs.configuration_lines(plan, {}),
        jobs.serial_of(device.registration_id, plan),
        token_url=scripts.identified(visit.update_url, device_token=registration.token),
    )


def register(visit: Visit, entry: Entry, now: datetime) -> Registration:
    """Redeem a code for a phone; the same phone may repeat it and gets the same token.

    Raises:
        CodeNotRedeemableError: unknown, expired, revoked or used.
        DeviceElsewhereError: the code is good, but the device is another domain's or user's.
        LimitReachedError: the source has nothing left.
        StoreUnavailableError: throttled or unreachable; a repeat finishes what was begun.
    """
    guess = guesses.Guess(entry, visit.hw_id, visit.source)
    with guesses.charged(guess, now) as found:
        device = _redeem(found, guess, visit, now)
    token, _ = vault.device_token(device.hw_id, device.registration_id, device.token_version)
    plan = jobs.plan_for(
        device.domain, device.category, job_table.find_matching(device.domain, device.category)
    )
    return Registration(device, token, plan)


def _redeem(found: "guesses.Found", guess: "guesses.Guess", visit: Visit, now: datetime) -> Device:
    """Redeem what was found; whoever is beaten learns it from the refused transaction itself."""
    for _ in range(_MAX_RACES):
        code, seen = guesses.accept(found, guess, now), found.device
        if code.state is State.REDEEMED and seen is not None:
            observability.count("CodeRepeated")
            return seen
        why = refusal_to_assign(
            seen,
            code.domain,
            code.owner,
            is_for_anyone=code.lifetime is Lifetime.ROLLOUT,
            now=now,
        )
        if why is not None:
            guesses.refuse(found, guess, why, now)
        device = _assigned(code, seen, visit, now)
        try:
            redemptions.write(code, device, seen, _entry("code redeemed", code, visit, now), now)
        except Refused as refused:
            found = guesses.Found(*redemptions.as_they_are(refused, code, seen))
            continue
        observability.count("CodeRedeemed", lifetime=code.lifetime)
        return device
    raise StoreUnavailableError("device changed too often")


def _assigned(code: Code, seen: Device | None, visit: Visit, now: datetime) -> Device:
    registration_id = new_id(now)
    token, version = vault.device_token(visit.hw_id, registration_id)
    facts = visit.facts
    is_same_owner = seen and (seen.domain, seen.user) == (code.domain, code.owner)
    return Device(
        hw_id=visit.hw_id,
        state=DeviceState.REGISTERED,
        domain=code.domain,
        category=code.category,
        app=code.app,
        user=code.owner,
        name=facts.name or (seen.name if seen and is_same_owner else ""),
        product=facts.product,
        version=facts.version,
        device_type=facts.device_type,
        prot=facts.prot,
        boot=facts.boot,
        local_ip=facts.local_ip,
        code_id=code.code_id,
        code_fingerprint=code.fingerprint,
        registration_id=registration_id,
        registered_at=now,
        registered_from=visit.source,
        token_hash=vault.token_hash(token),
        token_version=version,
        offered_at=now,
    )


def _entry(action: str, code: Code, visit: Visit, now: datetime) -> "audit.Entry":
    return audit.Entry(code.domain, now, action, visit.hw_id, code.code_id, visit.source)


def _poll(device: Device, facts: Facts, now: datetime) -> str:
    """Take in what a registered phone reports and bring it what is open."""
    known = _known(device, facts)
    plan = _plan_of(device)
    confirmed = jobs.confirmed_by(device, plan, known)
    firmware = jobs.firmware_lines(plan, known)
    configuration = jobs.configuration_lines(plan, confirmed)
    reported = _seen(device, plan, confirmed, now)
    reported = replace(
        reported,
        product=known.product,
        version=known.version,
        prot=known.prot,
        boot=known.boot,
        local_ip=known.local_ip,
    )
    if not _keep(reported, device, now):
        return scripts.code_form(None)
    serial = jobs.serial_of(device.registration_id, plan)
    return scripts.for_device(firmware, configuration, serial)


def jobs_of(hw_id: str, token: str, now: datetime) -> jobs.Plan:
    """Tell a phone that is no update client its jobs.

    Raises:
        NotSignedInError: this is not the device's token.
        StoreUnavailableError: throttled or unreachable.
    """
    device = _authenticated(hw_id, token)
    plan = _plan_of(device)
    if not _keep(_seen(device, plan, _still_planned(device, plan), now), device, now):
        raise NotSignedInError("released at this moment")
    return plan


def report_job(hw_id: str, token: str, report: Report, now: datetime) -> None:
    """Take in what a phone that is no update client says of a job.

    Raises:
        NotSignedInError: this is not the device's token.
        NotFoundError: it is no job of this device.
        StoreUnavailableError: throttled or unreachable.
    """
    device = _authenticated(hw_id, token)
    plan = _plan_of(device)
    job = next((job for job in plan.jobs if job.job_id == report.job_id), None)
    if job is None:
        raise NotFoundError("job")
    confirmed = _still_planned(device, plan)
    current = {known.job_id for known in plan.jobs}
    failures = {known: why for known, why in device.failures.items() if known in current}
    if report.outcome is Outcome.DONE:
        confirmed[job.job_type] = job.job_id
        failures.pop(job.job_id, None)
    else:
        confirmed.pop(job.job_type, None)
        failures[job.job_id] = report.reason or "no reason given"
    observability.count("JobReported", outcome=report.outcome)
    reported = replace(_seen(device, plan, confirmed, now), failures=failures)
    if not _keep(reported, device, now):
        raise NotSignedInError("released at this moment")


def _authenticated(hw_id: str, token: str) -> Device:
    device = devices.find(hw_id)
    if device is None or not vault.is_token(token, device.token_hash):
        raise NotSignedInError("not the device's token")
    return device


def _plan_of(device: Device) -> jobs.Plan:
    matching = job_table.find_matching(device.domain, device.category)
    return jobs.plan_for(device.domain, device.category, matching)


def _still_planned(device: Device, plan: jobs.Plan) -> dict[str, str]:
    current = {job.job_type: job.job_id for job in plan.jobs}
    return {kind: job for kind, job in device.confirmed.items() if current.get(kind) == job}


def _known(device: Device, facts: Facts) -> Facts:
    """Fill in from what the device said before what it did not say now."""
    return replace(
        facts,
        product=facts.product or device.product,
        version=facts.version or device.version,
        prot=facts.prot or device.prot,
        boot=facts.boot or device.boot,
        local_ip=facts.local_ip or device.local_ip,
    )


def _seen(device: Device, plan: jobs.Plan, confirmed: dict[str, str], now: datetime) -> Device:
    """Bring a device up to date with a request that carried its token."""
    state = jobs.state_of(plan, confirmed)
    is_open = state is DeviceState.UPDATING
    offered_at = (device.offered_at or now) if is_open else None
    return replace(
        device,
        state=state,
        confirmed=confirmed,
        offered_at=offered_at,
        stuck_since=jobs.stuck_since(state, offered_at, plan, now),
        token_used_at=device.token_used_at or now,
    )


def _keep(reported: Device, device: Device, now: datetime) -> bool:
    """Write what changed, and that it was here at most every ten minutes."""
    last = device.last_seen_at
    is_recent = last is not None and now - last < timedelta(seconds=SEEN_SECONDS)
    if reported == device and is_recent:
        return True
    return devices.report(replace(reported, last_seen_at=now), device)
