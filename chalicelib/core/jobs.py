"""Jobs: which of them a device gets, what they produce, and what its reports confirm.

Delivery and explanation both ask `judge` which jobs a device gets and `offer` what of them is open,
so they cannot disagree. It must not store anything.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import combinations
from typing import Any

from chalicelib.core import firmware, scripts
from chalicelib.core.devices import Device, Facts, State
from chalicelib.core.scripts import Line

EVERY_CATEGORY = "*"
SOFTWARE = "software"
UPDATE_CLIENT = "update-client"
ADMIN_PASSWORD = "admin-password"  # noqa: S105 - a type of job
CONFIGURATION_ORDER = (
    UPDATE_CLIENT,
    "ntp",
    "variables",
    "phone",
    ADMIN_PASSWORD,
    "expert",
)
"""The types of core/configuration.py in a script's order; that module is imported on use."""

JOB_TYPES = (SOFTWARE, *CONFIGURATION_ORDER)
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
            (core/firmware.py), else what the type demands, secrets masked.
        sealed_parameters: the secrets among the parameters, sealed; empty for none.
    """

    job_id: str
    domain: str
    category: str
    job_type: str
    parameters: Parameters = field(repr=False)
    created_at: datetime
    created_by: str = ""
    sealed_parameters: str = field(default="", repr=False)


class Fit(StrEnum):
    """Whether a job is for a device, and if not, why."""

    MATCHES = "matches"
    OTHER_DOMAIN = "another domain"
    OTHER_CATEGORY = "another category"
    SUPERSEDED = "superseded by a later job"
    UNKNOWN_TYPE = "of an unknown type"
    ANALOGUE_PHONE = "not for an analogue phone"


@dataclass(frozen=True)
class Verdict:
    """What one job is to the devices of a domain and category.

    Args:
        superseded_by: job_id of the later one, empty unless there is one.
    """

    job: Job
    fit: Fit
    superseded_by: str = ""


def judge(
    domain: str, category: str, jobs: Iterable[Job], *, is_analogue: bool = False
) -> tuple[Verdict, ...]:
    """Say of every job whether the devices of a domain and category get it, and why not.

    They get the latest of each type; an analogue phone, which nothing can be sent to, gets none.

    Args:
        jobs: any jobs, in any order.

    Source: the concept article, Update Software and Update Config.
    """
    given = tuple(jobs)
    fits = [_fit_alone(domain, category, job, is_analogue=is_analogue) for job in given]
    latest: dict[str, str] = {}
    for job, fit in zip(given, fits, strict=True):
        if fit is Fit.MATCHES:
            latest[job.job_type] = max(job.job_id, latest.get(job.job_type, ""))
    return tuple(
        Verdict(job, Fit.SUPERSEDED, latest[job.job_type])
        if fit is Fit.MATCHES and latest[job.job_type] != job.job_id
        else Verdict(job, fit)
        for job, fit in zip(given, fits, strict=True)
    )


def _fit_alone(domain: str, category: str, job: Job, *, is_analogue: bool) -> Fit:
    if job.domain != domain:
        return Fit.OTHER_DOMAIN
    if job.category not in {category, EVERY_CATEGORY}:
        return Fit.OTHER_CATEGORY
    if is_analogue:
        return Fit.ANALOGUE_PHONE
    return Fit.MATCHES if job.job_type in JOB_TYPES else Fit.UNKNOWN_TYPE


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

    def without(self, job_ids: Collection[str]) -> "Plan":
        """Leave jobs out."""
        return Plan(
            self.software if self.software and self.software.job_id not in job_ids else None,
            tuple(job for job in self.configuration if job.job_id not in job_ids),
        )


def plan_for(domain: str, category: str, jobs: Iterable[Job], *, is_analogue: bool = False) -> Plan:
    """Choose the jobs that the devices of a domain and category get.

    Args:
        jobs: any jobs; those of other domains and categories do not match.
    """
    matching = {
        verdict.job.job_type: verdict.job
        for verdict in judge(domain, category, jobs, is_analogue=is_analogue)
        if verdict.fit is Fit.MATCHES
    }
    return Plan(
        software=matching.get(SOFTWARE),
        configuration=tuple(matching[name] for name in CONFIGURATION_ORDER if name in matching),
    )


def serial_of(registration_id: str, plan: Plan) -> str:
    """Name a configuration for one registration: what the phone reports as CHECK once it has run.

    The registration is part of it, so a phone that registers again runs the same jobs again.
    """
    parts = (registration_id, *(job.job_id for job in plan.configuration))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Offer:
    """What a device gets at its next poll.

    Args:
        plan: all its jobs.
        confirmed: job type → job_id of what it has done.
        paused: job_ids that failed and are not offered again yet.
        serial: names the configuration that is offered.
    """

    plan: Plan
    confirmed: Mapping[str, str]
    paused: frozenset[str]
    serial: str

    @property
    def open(self) -> Plan:
        """The jobs that it gets now: neither confirmed nor paused."""
        return self.plan.without({*self.confirmed.values(), *self.paused})


def offer(device: Device, plan: Plan, facts: Facts, now: datetime) -> Offer:
    """Decide what a device gets, from its jobs, what it reports and what has failed.

    A failed job waits for its pause alone; the others go on.
    """
    confirmed = confirmed_by(device, plan, facts)
    done = set(confirmed.values())
    paused = frozenset(
        job.job_id
        for job in plan.jobs
        if job.job_id in device.failures
        and job.job_id not in done
        and now < device.failures[job.job_id].retry_at
    )
    serial = serial_of(device.registration_id, plan.without(paused))
    return Offer(plan, confirmed, paused, serial)


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
    if plan.software and facts.product:
        if not firmware.to_load(plan.software.parameters, facts):
            confirmed[SOFTWARE] = plan.software.job_id
        elif facts.prot or facts.boot:
            # what runs now counts, also against what was confirmed before
            confirmed.pop(SOFTWARE, None)
    for sent in _sendable(device, plan):
        if facts.check == serial_of(device.registration_id, sent):
            confirmed.update({job.job_type: job.job_id for job in sent.configuration})
            break
    return confirmed


def _sendable(device: Device, plan: Plan) -> Iterator[Plan]:
    """Give what a script may have contained: any failed jobs were paused while it was out.

    One for each set of them, and few, for a plan has one job of each type.
    """
    failed = [job.job_id for job in plan.configuration if job.job_id in device.failures]
    for count in range(len(failed) + 1):
        yield from (plan.without(paused) for paused in combinations(failed, count))


def firmware_lines(plan: Plan, facts: Facts) -> tuple[Line, ...]:
    """Write the lines that load what differs from the reported builds."""
    if plan.software is None:
        return ()
    return tuple(
        scripts.load(command, load["url"], load["build"])
        for command, load in firmware.to_load(plan.software.parameters, facts)
    )


def configuration_lines(jobs: Iterable[Job], hw_id: str) -> tuple[Line, ...]:
    """Write the lines of configuration jobs for one phone.

    Args:
        jobs: their secrets in clear.
    """
    from chalicelib.core.configuration import CONFIGURATION_TYPES

    return tuple(
        line
        for job in jobs
        for line in CONFIGURATION_TYPES[job.job_type].lines(job.parameters, hw_id)
    )


def url_in(plan: Plan) -> str:
    """Tell the address at which these jobs let the phone ask from now on, empty for none."""
    urls = (
        job.parameters.get("url", "") for job in plan.configuration if job.job_type == UPDATE_CLIENT
    )
    return next(urls, "")


def state_of(plan: Plan, confirmed: Mapping[str, str]) -> State:
    """Tell where a device stands that has come back with its token."""
    is_current = all(confirmed.get(job.job_type) == job.job_id for job in plan.jobs)
    return State.CURRENT if is_current else State.UPDATING


def stuck_at(offered_at: datetime, plan: Plan) -> datetime:
    """Tell when a script will have been out for three polls, by the longest that polls may take.

    Args:
        plan: an `update-client` job in it says how often the phone asks.
    """
    minutes = [
        int(job.parameters["poll_minutes"])
        for job in plan.configuration
        if job.job_type == UPDATE_CLIENT
    ]
    return offered_at + timedelta(minutes=STUCK_POLLS * max([DEFAULT_POLL_MINUTES, *minutes]))
