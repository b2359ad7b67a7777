"""The JSON that goes out, member by member; what is secret at rest is not in it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chalicelib.core.devices import Device
    from chalicelib.core.jobs import Job, Plan
    from chalicelib.roles.users import IssuedCode, OwnCode, Profile


def profile(person: "Profile") -> dict[str, Any]:
    """Write who is signed in."""
    return {
        "sip": person.sip,
        "name": person.name,
        "domain": person.domain,
        "roles": list(person.roles),
        "may_add_phones": person.may_add_phones,
    }


def issued_code(issued: "IssuedCode") -> dict[str, Any]:
    """Write a new code, with its bare 12 digits."""
    code = issued.code
    return {
        "code_id": code.code_id,
        "code": issued.digits,
        "category": code.category,
        "expires_at": code.expires_at,
    }


def own_code(own: "OwnCode", state: str) -> dict[str, Any]:
    """Write a code as its owner sees it."""
    code = own.code
    written: dict[str, Any] = {
        "code_id": code.code_id,
        "state": state,
        "category": code.category,
        "expires_at": code.expires_at,
    }
    if own.device is not None:
        written["device"] = device(own.device)
    if code.reason:
        written["reason"] = code.reason
    return written


def device(known: "Device") -> dict[str, Any]:
    """Write a device: the members of the vendor's Device object in snake case, and its state."""
    return {
        "hw_id": known.hw_id,
        "name": known.name,
        "product": known.product,
        "version": known.version,
        "type": known.device_type,
        "local_ip": known.local_ip,
        "domain": known.domain,
        "category": known.category,
        "app": known.app,
        "user": known.user,
        "state": known.state,
        "registered_at": known.registered_at,
        "last_seen_at": known.last_seen_at,
        "stuck_since": known.stuck_since,
    }


def plan(jobs: "Plan") -> dict[str, Any]:
    """Write the jobs of a device that is no update client."""
    return {
        "software": _job(jobs.software) if jobs.software else None,
        "configuration": [_job(job) for job in jobs.configuration],
    }


def _job(job: "Job") -> dict[str, Any]:
    return {"job_id": job.job_id, "type": job.job_type, "parameters": job.parameters}
