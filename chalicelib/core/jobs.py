"""Jobs: which of them a device gets, what they produce, and what its reports confirm.

Delivery and explanation both ask `plan_for`, so they cannot disagree. It must not store anything.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chalicelib.core import scripts
from chalicelib.core.devices import Device, Facts, State
from chalicelib.core.errors import Fault
from chalicelib.core.scripts import Line

EVERY_CATEGORY = "*"
SOFTWARE = "software"
UPDATE_CLIENT = "update-client"
MAX_EXPERT_LINES = 500
MAX_LINE_LENGTH = 2_000
MAX_POLL_MINUTES = 24 * 60
STUCK_POLLS = 3
DEFAULT_POLL_MINUTES = 15
"""How often an update client asks by itself. Source: docs/update-client.md."""

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """What the devices of a domain and category get.

    Args:
        job_id: ULID, so a later job sorts after an earlier one.
        category: a category's name, or `*` for every one.
        job_type: `software`, or the name of a configuration type.
        parameters: for `software` the firmware JSON as it was when the job was made
            (product → `prot` and `boot` → `build`, `url`), else what the type demands.
    """

    job_id: str
    domain: str
    category: str
    job_type: str
    parameters: Parameters
    created_at: datetime
    created_by: str = ""


@dataclass(frozen=True)
class ConfigurationType:
    """A kind of configuration job.

    Args:
        name: as in the job.
        faults: says everything that is wrong with parameters.
        lines: the script lines that valid parameters produce.
    """

    name: str
    faults: Callable[[Parameters], tuple[Fault, ...]]
    lines: Callable[[Parameters], tuple[Line, ...]]


def _expert_faults(parameters: Parameters) -> tuple[Fault, ...]:
    lines = parameters.get("lines")
    if not isinstance(lines, list | tuple) or not lines or len(lines) > MAX_EXPERT_LINES:
        return (Fault("lines", f"a list of 1 to {MAX_EXPERT_LINES} lines"),)
    return tuple(
        Fault(f"lines.{index}", f"one printable line of at most {MAX_LINE_LENGTH} characters")
        for index, line in enumerate(lines)
        if not isinstance(line, str) or not line.isprintable() or len(line) > MAX_LINE_LENGTH
    )


def _expert_lines(parameters: Parameters) -> tuple[Line, ...]:
    return tuple(Line(text, "raw lines") for text in parameters["lines"])


def _update_client_faults(parameters: Parameters) -> tuple[Fault, ...]:
    minutes = parameters.get("poll_minutes")
    is_valid = (
        isinstance(minutes, int)
        and not isinstance(minutes, bool)
        and 1 <= minutes <= MAX_POLL_MINUTES
    )
    return (
        () if is_valid else (Fault("poll_minutes", f"a whole number from 1 to {MAX_POLL_MINUTES}"),)
    )


def _update_client_lines(parameters: Parameters) -> tuple[Line, ...]:
    return (scripts.poll_interval(int(parameters["poll_minutes"])),)


CONFIGURATION_TYPES: Mapping[str, ConfigurationType] = {
    known.name: known
    for known in (
        ConfigurationType(UPDATE_CLIENT, _update_client_faults, _update_client_lines),
        ConfigurationType("expert", _expert_faults, _expert_lines),
    )
}
"""Every type, in the order in which a script applies them: raw lines have the last word."""

JOB_TYPES = (SOFTWARE, *CONFIGURATION_TYPES)


def faults_of(job_type: str, parameters: Parameters) -> tuple[Fault, ...]:
    """Say everything that is wrong with a configuration job."""
    known = CONFIGURATION_TYPES.get(job_type)
    if known is None:
        return (Fault("type", f"one of {', '.join(CONFIGURATION_TYPES)}"),)
    return known.faults(parameters)


@dataclass(frozen=True)
class Plan:
    """The jobs that one device gets.

    Args:
        software: the latest matching software job.
        configuration: the latest matching job of each type, in the order of the registry.
    """

    software: Job | None
    configuration: tuple[Job, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All of them."""
        return (*((self.software,) if self.software else ()), *self.configuration)


def plan_for(domain: str, category: str, jobs: Iterable[Job]) -> Plan:
    """Choose the latest matching job of each type.

    Args:
        domain, category: the device's.
        jobs: any jobs; those of other domains and categories do not match.

    Source: the concept article, Update Software and Update Config.
    """
    latest: dict[str, Job] = {}
    for job in jobs:
        if job.domain != domain or job.category not in {category, EVERY_CATEGORY}:
            continue
        if job.job_type not in latest or job.job_id > latest[job.job_type].job_id:
            latest[job.job_type] = job
    return Plan(
        software=latest.get(SOFTWARE),
        configuration=tuple(latest[name] for name in CONFIGURATION_TYPES if name in latest),
    )


def serial_of(registration_id: str, plan: Plan) -> str:
    """Name a configuration for one registration: what the phone reports as CHECK once it has run.

    The registration is part of it, so a phone that registers again runs the same jobs again.
    """
    parts = (registration_id, *(job.job_id for job in plan.configuration))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def confirmed_by(device: Device, plan: Plan, facts: Facts) -> dict[str, str]:
    """Read from a phone's report which jobs it has done.

    Args:
        facts: of this request: `prot` and `boot` show the running builds, `check` the last script.
            A product that the software job does not name has nothing to load.

    Returns:
        Job type → job_id, the jobs confirmed before included; a job that is no longer in the plan
        is not in it.
    """
    confirmed = {
        job.job_type: job.job_id
        for job in plan.jobs
        if device.confirmed.get(job.job_type) == job.job_id
    }
    if plan.software:
        if facts.product and not _builds_to_load(plan.software, facts):
            confirmed[SOFTWARE] = plan.software.job_id
        elif facts.prot or facts.boot:
            # what runs now counts, also against what was confirmed before
            confirmed.pop(SOFTWARE, None)
    if facts.check == serial_of(device.registration_id, plan):
        confirmed.update({job.job_type: job.job_id for job in plan.configuration})
    return confirmed


def firmware_lines(plan: Plan, facts: Facts) -> tuple[Line, ...]:
    """Write the lines that load what differs from the reported builds."""
    if plan.software is None:
        return ()
    return tuple(
        scripts.load(command, load["url"], load["build"])
        for command, load in _builds_to_load(plan.software, facts)
    )


def configuration_lines(plan: Plan, confirmed: Mapping[str, str]) -> tuple[Line, ...]:
    """Write the lines of every configuration job that is not confirmed yet."""
    return tuple(
        line
        for job in plan.configuration
        if confirmed.get(job.job_type) != job.job_id
        for line in CONFIGURATION_TYPES[job.job_type].lines(job.parameters)
    )


def state_of(plan: Plan, confirmed: Mapping[str, str]) -> State:
    """Tell where a device stands that has come back with its token."""
    is_current = all(confirmed.get(job.job_type) == job.job_id for job in plan.jobs)
    return State.CURRENT if is_current else State.UPDATING


def stuck_since(
    state: State, offered_at: datetime | None, plan: Plan, now: datetime
) -> datetime | None:
    """Tell since when a script has been out for longer than three polls, None if none has.

    Args:
        plan: an `update-client` job in it says how often the phone asks.
    """
    if state is not State.UPDATING or offered_at is None:
        return None
    minutes = [
        int(job.parameters["poll_minutes"])
        for job in plan.configuration
        if job.job_type == UPDATE_CLIENT
    ]
    poll_minutes = max([DEFAULT_POLL_MINUTES, *minutes])
    limit = offered_at + timedelta(minutes=STUCK_POLLS * poll_minutes)
    return limit if now > limit else None


def _builds_to_load(job: Job, facts: Facts) -> list[tuple[str, Mapping[str, str]]]:
    product = facts.product.casefold()
    loads: Mapping[str, Any] = next(
        (named for name, named in job.parameters.items() if name.casefold() == product), {}
    )
    running = {"prot": facts.prot, "boot": facts.boot}
    return [
        (command, loads[command])
        for command in ("prot", "boot")
        if command in loads and loads[command]["build"] != running[command]
    ]
