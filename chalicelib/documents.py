"""JSON over HTTP and websockets alike: how it is read, and what goes out, member by member.

What is secret at rest does not go out.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from chalicelib.core.errors import Fault, InvalidRequestError
from chalicelib.core.user_objects import Flag, for_its_user

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from chalicelib.core.configuration import ConfigurationType
    from chalicelib.core.devices import Device
    from chalicelib.core.explanations import Explanation
    from chalicelib.core.jobs import Job, Plan
    from chalicelib.core.rollouts import Rollout
    from chalicelib.core.roster import CodeRow
    from chalicelib.roles.handouts import Handout
    from chalicelib.roles.issuing import IssuedCode
    from chalicelib.roles.pbxes import Check, Overview
    from chalicelib.roles.people import Report
    from chalicelib.roles.rollouts import Added, Changed, Progress
    from chalicelib.roles.rollouts import Entry as RolloutEntry
    from chalicelib.roles.security_tokens import TokenSheet
    from chalicelib.roles.users import OwnCode, Profile
    from chalicelib.storage.audit import Entry
    from chalicelib.storage.domains import Category, Domain
    from chalicelib.storage.installations import Installation
    from chalicelib.storage.replications import Replication
    from chalicelib.storage.sightings import Seen
    from chalicelib.storage.users import User

_Model = TypeVar("_Model", bound="BaseModel")


def read(text: str | bytes, model: "type[_Model]") -> "_Model":
    """Read JSON that came in.

    Raises:
        InvalidRequestError: it is no JSON, or not of this shape; with every fault, by field.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        raise InvalidRequestError(
            *(Fault(".".join(str(part) for part in each["loc"]), wording(each)) for each in found)
        ) from None


def wording(error: "ErrorDetails") -> str:
    """Say what is wrong as whoever raised it says it."""
    return error["msg"].removeprefix("Value error, ")


def faults(found: Iterable[Fault]) -> list[dict[str, str]]:
    """Write what is wrong with something."""
    return [{"field": fault.field, "message": fault.message} for fault in found]


def plain(value: object) -> str:
    """Write what JSON has no word for: times, as RFC 3339.

    Raises:
        TypeError: it is no time.
    """
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise TypeError(f"{type(value).__name__} has no JSON form")


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


def own_code(own: "OwnCode", now: "datetime") -> dict[str, Any]:
    """Write a code as its owner sees it."""
    code = own.code
    written: dict[str, Any] = {
        "code_id": code.code_id,
        "state": code.state_at(now),
        "category": code.category,
        "expires_at": code.expires_at,
    }
    if own.device is not None:
        written["device"] = own_device(own.device, now)
    if code.reason:
        written["reason"] = code.reason
    return written


def user(known: "User") -> dict[str, Any]:
    """Write a user as an administrator sees one."""
    return {
        "sip": known.sip,
        "name": known.name,
        "number": known.number,
        "email": known.email,
        "may_add_phones": known.may_add_phones,
    }


def import_report(report: "Report", *, is_whole: bool) -> dict[str, Any]:
    """Write what becomes of a file of users.

    Args:
        is_whole: every line; else those that are wrong.
    """
    from chalicelib.roles.people import Outcome

    return {
        **{outcome.value: report.count(outcome) for outcome in Outcome},
        "ignored_columns": list(report.ignored),
        "lines": [
            {
                "line": line.number,
                "sip": line.sip,
                "outcome": outcome,
                "faults": faults(line.faults),
            }
            for line, outcome in report.lines
            if is_whole or outcome is Outcome.WRONG
        ],
    }


def rollout(known: "Rollout") -> dict[str, Any]:
    """Write a rollout."""
    return {
        "rollout_id": known.rollout_id,
        "name": known.name,
        "category": known.category,
        "app": known.app,
        "note": known.note,
        "created_by": known.created_by,
        "created_at": known.created_at,
        "ends_at": known.ends_at,
    }


def added(made: "Added") -> dict[str, Any]:
    """Write what became of users who were to be added to a rollout."""
    return {"added": made.added, "already": made.already}


def changed(made: "Changed") -> dict[str, Any]:
    """Write what became of entries that were to be changed."""
    return {"changed": made.changed, "missed": list(made.missed)}


def progress(made: "Progress", now: "datetime") -> dict[str, Any]:
    """Write how far a rollout is, with entries."""
    return {
        **rollout(made.rollout),
        "counts": dict(made.counts) if made.counts is not None else None,
        "items": [registration(entry, now) for entry in made.entries.items],
    }


def code_row(of: "Rollout", handout: "Handout", now: "datetime") -> "CodeRow":
    """Write a line of a code list; what cannot be redeemed has no end."""
    from chalicelib.core.roster import CodeRow

    user, entry = handout.user, handout.registration
    return CodeRow(
        name=user.name or user.sip,
        number=user.number,
        email=user.email,
        category=of.category,
        app=of.app,
        code=handout.digits,
        valid_until=entry.expires_at if handout.digits else None,
        state=entry.state_at(now),
    )


def registration(entry: "RolloutEntry", now: "datetime") -> dict[str, Any]:
    """Write a user's entry of a rollout; its code is named and not told."""
    from chalicelib.core.rollouts import reason_of

    known = entry.registration
    written: dict[str, Any] = {
        "sip": known.sip,
        "name": known.name,
        "state": known.state_at(now),
        "since": known.since_at(now),
        "changed_at": known.changed_at,
        "code_id": known.code_id,
        "expires_at": known.expires_at,
    }
    if entry.device is not None:
        written["device"] = device(entry.device, now)
    reason = reason_of(known, entry.device, now)
    if reason:
        written["reason"] = reason
    return written


def device(known: "Device", now: "datetime") -> dict[str, Any]:
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
        "stuck_since": known.stuck_since(now),
        "pbx": {"state": known.pbx, "reason": known.pbx_reason or None} if known.pbx else None,
    }


def own_device(known: "Device", now: "datetime") -> dict[str, Any]:
    """Write a device for its user: as `device`, but at which other user the PBX has it."""
    return device(replace(known, pbx_reason=for_its_user(known.pbx_reason)), now)


def plan(jobs: "Plan") -> dict[str, Any]:
    """Write the jobs of a device that is no update client."""
    return {
        "software": _job(jobs.software) if jobs.software else None,
        "configuration": [_job(job) for job in jobs.configuration],
    }


def _job(job: "Job") -> dict[str, Any]:
    return {"job_id": job.job_id, "type": job.job_type, "parameters": job.parameters}


def domain(known: "Domain") -> dict[str, Any]:
    """Write a domain's settings; its password is only said to be there."""
    return {
        "id": known.number,
        "domain": known.domain,
        "devices_url": known.devices_url,
        "phone_apps": list(known.phone_apps),
        "may_add_phones": known.may_add_phones,
        "granted_domains": list(known.granted_domains),
        "has_websocket_password": bool(known.sealed_websocket_password),
        "has_pbx": bool(known.pbx_url),
    }


def pbx(seen: "Overview") -> dict[str, Any]:
    """Write a domain's PBX and how we stand with it; its password is only said to be there."""
    known, standing = seen.domain, seen.standing
    return {
        "address": known.pbx_url,
        "app_object": known.pbx_app,
        "has_password": bool(known.sealed_pbx_password),
        "find_by": known.pbx_find_by,
        **{flag.name.lower(): flag.name.lower() in known.pbx_flags for flag in Flag},
        "imports_users": known.pbx_imports_users,
        "trouble": {
            "reason": standing.reason,
            "since": standing.since,
            "attempts": standing.attempts,
            "retry_at": standing.retry_at,
        }
        if standing
        else None,
        "waiting_count": seen.waiting_count,
        "waiting": [
            {
                "hw_id": one.hw_id,
                "user": one.owner,
                "attempts": one.attempts,
                "reason": one.reason or None,
            }
            for one in seen.waiting
        ],
        "replication": _replication(seen.replication),
    }


def _replication(known: "Replication | None") -> dict[str, Any] | None:
    if known is None or known.replicated_at is None:
        return None
    from chalicelib.storage.replications import COUNTS

    return {
        "at": known.replicated_at,
        **{name: known.counts.get(name) for name in COUNTS},
        "trouble": known.reason or None,
        "retry_at": known.retry_at,
    }


def pbx_check(found: "Check") -> dict[str, Any]:
    """Write what a test of the connection to a PBX found."""
    return {
        "is_good": found.trouble is None,
        "trouble": found.trouble,
        "steps": [{"step": step, "is_good": went} for step, went in found.steps.items()],
        "knows_you": found.is_known,
    }


def category(known: "Category") -> dict[str, Any]:
    """Write a category."""
    return {
        "id": known.number,
        "name": known.name,
        "provisioning": known.provisioning,
        "device_types": list(known.device_types),
    }


def token_sheet(sheet: "TokenSheet") -> dict[str, Any]:
    """Write what an administrator needs to roll a security token out."""
    return {
        "url": sheet.url,
        "config_line": sheet.config_line,
        "update_client_url": sheet.update_client_url,
        "update_client_line": sheet.update_client_line,
        "warning": sheet.warning,
        "is_weak": sheet.is_weak,
        "old_until": sheet.old_until,
        "scripts": {
            "sysclient": sheet.sysclient_script,
            "update_client": sheet.update_client_script,
        },
    }


def made_job(made: "Job") -> dict[str, Any]:
    """Write a job as administrators see it, secrets masked."""
    return {
        **_job(made),
        "category": made.category,
        "created_at": made.created_at,
        "created_by": made.created_by,
    }


def configuration_type(known: "ConfigurationType") -> dict[str, Any]:
    """Write a configuration type, as a form shows it."""
    return {
        "type": known.name,
        "about": known.about,
        "parameters": [
            {
                "name": parameter.name,
                "about": parameter.about,
                "kind": parameter.kind,
                "is_required": parameter.is_required,
                "is_secret": parameter.is_secret,
                "choices": list(parameter.choices),
            }
            for parameter in known.parameters
        ],
    }


def administered(known: "Device", now: "datetime") -> dict[str, Any]:
    """Write a device as its administrators see it: also what it runs, and what failed."""
    return {
        **device(known, now),
        "prot": known.prot,
        "boot": known.boot,
        "failures": [
            {
                "job_id": job_id,
                "count": failure.count,
                "at": failure.at,
                "reason": failure.reason,
                "retry_at": failure.retry_at,
            }
            for job_id, failure in sorted(known.failures.items())
        ],
    }


def explanation(found: "Explanation") -> dict[str, Any]:
    """Write why a device gets a job, or does not."""
    verdict = found.verdict
    written: dict[str, Any] = {
        "job_id": verdict.job.job_id,
        "type": verdict.job.job_type,
        "category": verdict.job.category,
        "created_at": verdict.job.created_at,
        "fit": verdict.fit,
        "standing": found.standing,
    }
    if verdict.superseded_by:
        written["superseded_by"] = verdict.superseded_by
    return written


def audit_entry(entry: "Entry") -> dict[str, Any]:
    """Write an event of the audit trail."""
    return {
        "at": entry.at,
        "action": entry.action,
        "actor": entry.actor,
        "subject": entry.subject,
        "source": entry.source,
        "detail": entry.detail,
        "owner": entry.owner,
        "rollout_id": entry.rollout_id,
    }


def sighting(seen: "Seen") -> dict[str, Any]:
    """Write what a phone told the central service."""
    return {
        "hw_id": seen.hw_id,
        "product": seen.product,
        "version": seen.version,
        "prot": seen.prot,
        "boot": seen.boot,
        "first_seen_at": seen.first_seen_at,
        "last_seen_at": seen.last_seen_at,
        "local_ip": seen.local_ip,
        "source": seen.source,
        "code_fingerprint": seen.code_fingerprint,
    }


def installation(known: "Installation") -> dict[str, Any]:
    """Write an installation; its key was told when it was made."""
    return {
        "installation_id": known.installation_id,
        "name": known.name,
        "created_by": known.created_by,
        "created_at": known.created_at,
    }
