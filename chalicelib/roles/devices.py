"""Devices: brings phones their jobs, and learns what they have done.

It must not render anything but update scripts, and not know how a request came in.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from chalicelib import observability
from chalicelib.core import firmware, jobs, scripts
from chalicelib.core.codes import Entry
from chalicelib.core.devices import Device, Facts, Failure
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

if TYPE_CHECKING:
    from chalicelib.core.auto_provisioning import Claim
    from chalicelib.roles import registrations, updates
    from chalicelib.roles.registrations import Registration
    from chalicelib.storage import notifications
else:
    # an idle poll registers nothing and unseals nothing
    registrations = on_use("chalicelib.roles.registrations")
    updates = on_use("chalicelib.roles.updates")
    notifications = on_use("chalicelib.storage.notifications")

SEEN_SECONDS = 600
"""How old `last_seen_at` may get before a poll that changed nothing writes it again."""


@dataclass(frozen=True)
class Visit:
    """A phone that comes to Devices.

    Args:
        hw_id: 12 lower-case hex digits.
        entry: the code it brings, None for none.
        claim: its domain's security token, None for none; a code counts more.
        token: its own token, None for none; it counts more than anything.
        source: in the form of rate_limits.source_of.
        update_url: our URL for update clients; empty for a phone that is none.
        domain: whose address it came to, empty for one that is of no domain.
    """

    hw_id: str
    facts: Facts
    entry: Entry | None
    token: str | None = field(repr=False)
    source: str
    update_url: str
    claim: "Claim | None" = None
    domain: str = ""


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
    """Answer an update client: by its own token with what is open, else by what registers it.

    Returns:
        An update script; the code form for a released device, for every refused code, and for
        every refused token of a domain.

    Raises:
        LimitReachedError: the source has nothing left.
        StoreUnavailableError: throttled or unreachable; nothing is lost, the phone comes back.
    """
    if visit.token:
        device = devices.find(visit.hw_id)
        if device is not None and vault.is_token(visit.token, device.token_hash):
            return _poll(device, visit.facts, visit.token, now)
        observability.count("DeadToken")
    grounds = visit.entry or visit.claim
    if grounds is None:
        return scripts.code_form(None)
    try:
        registration = registrations.register(visit, grounds, now)
    except (CodeNotRedeemableError, DeviceElsewhereError):
        return scripts.code_form(None)
    device, plan = registration.device, registration.plan
    update_url = jobs.url_in(plan) or visit.update_url
    return scripts.for_device(
        jobs.firmware_lines(plan, visit.facts),
        jobs.configuration_lines(updates.opened(plan.configuration), device.hw_id),
        jobs.serial_of(device.registration_id, plan),
        token_url=scripts.identified(update_url, device_token=registration.token),
    )


def _poll(device: Device, facts: Facts, token: str, now: datetime) -> str:
    """Take in what a registered phone reports and bring it what is open."""
    known = _known(device, facts)
    offered = jobs.offer(device, _plan_of(device), known, now)
    if not _keep(_told(_seen(device, offered, now), known), device, now):
        return scripts.code_form(None)
    due = offered.open
    if not due.jobs:
        return scripts.for_device((), (), offered.serial)
    elsewhere = jobs.url_in(due)
    return scripts.for_device(
        jobs.firmware_lines(due, known),
        jobs.configuration_lines(updates.opened(due.configuration), device.hw_id),
        offered.serial,
        token_url=scripts.identified(elsewhere, device_token=token) if elsewhere else None,
    )


def register(visit: Visit, grounds: "Entry | Claim", now: datetime) -> "Registration":
    """Register a phone that is no update client; its plan is what it has to do, secrets in clear.

    Raises:
        DialtoneError: as registrations.register.
    """
    made = registrations.register(visit, grounds, now)
    offered = jobs.offer(made.device, made.plan, made.device.facts, now)
    return replace(made, plan=_opened(offered.open))


def arrive(  # noqa: PLR0913 - who it is, what it says, and where it is
    hw_id: str,
    token: str,
    facts: Facts,
    now: datetime,
    *,
    connection: str | None = None,
    is_new: bool = True,
) -> jobs.Plan:
    """Take in what a phone says of itself over its websocket, and tell the jobs that are open.

    Args:
        connection: who holds that websocket, None for one that is known.
        is_new: whether from now on; else that is kept only where none is known.

    Returns:
        What it has not done and may try now, secrets in clear.

    Raises:
        NotSignedInError: this is not, or no longer, the device's token.
        StoreUnavailableError: throttled or unreachable.
    """
    device = _authenticated(hw_id, token)
    known = _known(device, facts)
    offered = jobs.offer(device, _plan_of(device), known, now)
    told = _told(_seen(device, offered, now), known)
    if connection is not None and (is_new or not device.connection):
        told = replace(told, connection=connection, disconnected_at=None)
    if not _keep(told, device, now):
        raise NotSignedInError("released at this moment")
    return _opened(offered.open)


def show(hw_id: str, token: str) -> Device:
    """Show a device to itself.

    Raises:
        NotSignedInError: this is not, or no longer, the device's token.
        StoreUnavailableError: throttled or unreachable.
    """
    return _authenticated(hw_id, token)


def jobs_of(hw_id: str, token: str, now: datetime) -> jobs.Plan:
    """Tell a phone that is no update client the jobs that it has not done, secrets in clear.

    Raises:
        NotSignedInError: this is not the device's token.
        StoreUnavailableError: throttled or unreachable.
    """
    device = _authenticated(hw_id, token)
    offered = _offered(device, now)
    if not _keep(_seen(device, offered, now), device, now):
        raise NotSignedInError("released at this moment")
    return _opened(offered.open)


def report_job(hw_id: str, token: str, report: Report, now: datetime) -> None:
    """Take in what a phone that is no update client says of a job.

    Raises:
        NotSignedInError: this is not the device's token.
        NotFoundError: it is no job of this device.
        StoreUnavailableError: throttled or unreachable.
    """
    device = _authenticated(hw_id, token)
    offered = _offered(device, now)
    job = next((job for job in offered.plan.jobs if job.job_id == report.job_id), None)
    if job is None:
        raise NotFoundError("job")
    confirmed, failures = dict(offered.confirmed), dict(device.failures)
    running: dict[str, str] = {}
    if report.outcome is Outcome.DONE:
        confirmed[job.job_type] = job.job_id
        if job is offered.plan.software:
            loads = firmware.to_load(job.parameters, device.facts)
            running = {command: load["build"] for command, load in loads}
    else:
        confirmed.pop(job.job_type, None)
        before = failures.get(job.job_id)
        count = before.count + 1 if before else 1
        failures[job.job_id] = Failure(count, now, report.reason or "no reason given")
    observability.count("JobReported", outcome=report.outcome)
    told = replace(
        device,
        failures=failures,
        prot=running.get("prot", device.prot),
        boot=running.get("boot", device.boot),
    )
    reported = _seen(told, replace(offered, confirmed=confirmed), now)
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


def _offered(device: Device, now: datetime) -> jobs.Offer:
    return jobs.offer(device, _plan_of(device), device.facts, now)


def _opened(plan: jobs.Plan) -> jobs.Plan:
    return replace(plan, configuration=tuple(updates.opened(plan.configuration)))


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


def _told(device: Device, known: Facts) -> Device:
    """Bring a device up to date with what it says of itself."""
    return replace(
        device,
        product=known.product,
        version=known.version,
        prot=known.prot,
        boot=known.boot,
        local_ip=known.local_ip,
    )


def _seen(device: Device, offered: jobs.Offer, now: datetime) -> Device:
    """Bring a device up to date with a request that carried its token."""
    state = jobs.state_of(offered.plan, offered.confirmed)
    is_open = state is DeviceState.UPDATING
    offered_at = device.offered_at or now
    planned = {job.job_id for job in offered.plan.jobs} - set(offered.confirmed.values())
    return replace(
        device,
        state=state,
        confirmed=offered.confirmed,
        failures={job: failed for job, failed in device.failures.items() if job in planned},
        offered_at=offered_at if is_open else None,
        stuck_at=jobs.stuck_at(offered_at, offered.plan) if is_open else None,
        token_used_at=device.token_used_at or now,
    )


def _keep(reported: Device, device: Device, now: datetime) -> bool:
    """Write what changed, and that it was here at most every ten minutes."""
    last = device.last_seen_at
    is_recent = last is not None and now - last < timedelta(seconds=SEEN_SECONDS)
    if reported == device and is_recent:
        return True
    is_kept = devices.report(replace(reported, last_seen_at=now), device)
    if is_kept and reported.state is not device.state:
        _tell(reported, now)
    return is_kept


def _tell(device: Device, now: datetime) -> None:
    """Let its user hear of it if that is possible now; a list read later shows it anyway."""
    try:
        fact = notifications.Fact(
            device.domain, device.user, hw_id=device.hw_id, rollout_id=device.rollout_id
        )
        notifications.note_fact(fact, now)
    except StoreUnavailableError as error:
        observability.logger().warning("state not told", extra={"why": error.what})
