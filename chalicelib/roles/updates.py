"""Update Software and Update Config: the jobs of a domain, made, listed, deleted and explained.

Secrets among their parameters are sealed here before they are stored and opened here for the phone
alone. It must not bring a phone anything (roles/devices.py).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chalicelib import observability
from chalicelib.core import configuration, explanations, firmware
from chalicelib.core import jobs as rules
from chalicelib.core.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
)
from chalicelib.roles.administration import administered
from chalicelib.storage import audit, devices, domains, jobs, vault
from chalicelib.storage.connection import Transaction
from chalicelib.storage.ids import ID_LENGTH, new_id
from chalicelib.storage.lists import Page

if TYPE_CHECKING:
    from chalicelib.core.explanations import Explanation
    from chalicelib.core.jobs import Job
    from chalicelib.roles.asking import Asking


def opened(sealed: Iterable["Job"]) -> list["Job"]:
    """Put the secrets of jobs back among their parameters, for the phone that gets them."""
    return [
        replace(job, parameters={**job.parameters, **_secrets(job)})
        if job.sealed_parameters
        else job
        for job in sealed
    ]


def show_firmware(asking: "Asking", domain: str) -> Mapping[str, Any]:
    """Tell a domain's current firmware JSON, empty if there is none yet.

    Raises:
        NotAllowedError: this person does not administer its devices.
        NotFoundError: there is no such domain.
    """
    _demand(asking, domain)
    return domains.find_firmware(domain) or {}


def put_firmware(asking: "Asking", domain: str, wanted: Mapping[str, Any]) -> None:
    """Replace a domain's current firmware JSON; jobs that were made keep theirs.

    Raises:
        NotAllowedError: this person does not administer its devices.
        NotFoundError: there is no such domain.
        InvalidRequestError: it is no firmware JSON; with every fault, by field.
    """
    _demand(asking, domain)
    faults = firmware.faults_of(wanted)
    if faults:
        raise InvalidRequestError(*faults)
    transaction = Transaction()
    domains.put_firmware(transaction, domain, wanted)
    audit.add(transaction, asking.entry("firmware set", domain, domain=domain))
    transaction.commit()


def make_software_job(asking: "Asking", domain: str, category: str) -> "Job":
    """Let a category's devices load what the firmware JSON says at this moment.

    Args:
        category: a category's name, or `*` for every one.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain or category.
        ConflictError: the domain has no firmware yet.
    """
    _demand(asking, domain, category)
    current = domains.find_firmware(domain)
    if current is None:
        raise ConflictError("the domain has no firmware yet")
    return _make(asking, _new(asking, domain, category, rules.SOFTWARE, current))


def make_configuration_job(
    asking: "Asking", domain: str, category: str, job_type: str, parameters: Mapping[str, Any]
) -> "Job":
    """Let a category's devices be configured.

    Args:
        category: a category's name, or `*` for every one.
        job_type: a configuration type's name.
        parameters: what the type demands.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain or category.
        InvalidRequestError: an unknown type, or wrong parameters; with every fault, by field.
    """
    _demand(asking, domain, category)
    faults = configuration.faults_of(job_type, parameters)
    if faults:
        raise InvalidRequestError(*faults)
    readable, secrets = configuration.CONFIGURATION_TYPES[job_type].split(parameters)
    job = _new(asking, domain, category, job_type, readable)
    if secrets:
        sealed = vault.seal(json.dumps(dict(secrets)), _purpose(job))
        job = replace(job, sealed_parameters=sealed)
    return _make(asking, job)


def list_software(asking: "Asking", domain: str, limit: int, after: str | None) -> Page["Job"]:
    """List a domain's software jobs, newest first.

    Raises:
        NotAllowedError: this person does not administer its devices.
        NotFoundError: there is no such domain.
    """
    _demand(asking, domain)
    return jobs.list_software(domain, limit, after)


def list_configuration(asking: "Asking", domain: str, limit: int, after: str | None) -> Page["Job"]:
    """List a domain's configuration jobs, newest first, secrets masked.

    Raises:
        NotAllowedError: this person does not administer its devices.
        NotFoundError: there is no such domain.
    """
    _demand(asking, domain)
    return jobs.list_configuration(domain, limit, after)


def delete_job(asking: "Asking", domain: str, job_id: str) -> None:
    """Delete a job; devices get the one before it, if there is one.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain or job.
        ConflictError: another job of its type was made at this moment.
    """
    _demand(asking, domain)
    job = jobs.find(domain, job_id) if len(job_id) == ID_LENGTH else None
    if job is None:
        raise NotFoundError("job")
    entry = asking.entry("job deleted", job_id, domain=domain, detail=job.job_type)
    if not jobs.delete(job, entry):
        raise ConflictError("another job of its type was made at this moment")


def explain(
    asking: "Asking", domain: str, hw_id: str, category: str | None
) -> tuple["Explanation", ...]:
    """Explain every job of a domain for one of its devices, newest first.

    Args:
        category: another than the device's own, for a move that is only thought of.

    Raises:
        NotAllowedError: this person does not administer the domain's devices.
        NotFoundError: there is no such domain, category or device.
    """
    _demand(asking, domain, category or rules.EVERY_CATEGORY)
    device = devices.find(hw_id)
    if device is None or device.domain != domain:
        raise NotFoundError("device")
    made = sorted(jobs.find_all(domain), key=lambda job: job.job_id, reverse=True)
    return explanations.explain(device, category or device.category, made, asking.now)


def _demand(asking: "Asking", domain: str, category: str = rules.EVERY_CATEGORY) -> None:
    administered(asking, domain)
    if category != rules.EVERY_CATEGORY and domains.find_category(domain, category) is None:
        raise NotFoundError("category")


def _new(
    asking: "Asking", domain: str, category: str, job_type: str, parameters: Mapping[str, Any]
) -> "Job":
    job_id, by = new_id(asking.now), asking.person.sip
    return rules.Job(job_id, domain, category, job_type, parameters, asking.now, by)


def _make(asking: "Asking", job: "Job") -> "Job":
    entry = asking.entry("job made", job.job_id, domain=job.domain, detail=job.job_type)
    jobs.put(job, entry)
    observability.count("JobMade", type=job.job_type)
    return job


def _secrets(job: "Job") -> Mapping[str, Any]:
    return dict(json.loads(vault.unseal(job.sealed_parameters, _purpose(job))))


def _purpose(job: "Job") -> str:
    return f"job {job.domain} {job.job_id}"
