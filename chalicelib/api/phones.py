"""What phones call: the central service, and Devices."""

from typing import TYPE_CHECKING

from chalice.app import Response

from chalicelib import documents
from chalicelib.api.views import Call, Views, document, nothing, script
from chalicelib.core.codes import read_entry
from chalicelib.core.devices import parse_hw_id, parse_query_facts
from chalicelib.core.errors import Fault, InvalidRequestError, NotSignedInError
from chalicelib.loading import on_use

if TYPE_CHECKING:
    from chalicelib.core.auto_provisioning import Claim
    from chalicelib.roles import devices, provisioning
else:
    devices = on_use("chalicelib.roles.devices")
    provisioning = on_use("chalicelib.roles.provisioning")

views = Views(__name__)

_CODE_NAMES = ("provisioning-code", "provisioningcode", "code")


@views.script("/init")
def init(call: Call) -> Response:
    """Ask a new phone for its code, and send it to its Devices."""
    inquiry = provisioning.Inquiry(
        hw_id=_hw_id(call),
        facts=parse_query_facts(call.query),
        entry=read_entry(_typed(call)),
        source=call.source,
        secure_url=f"{call.base_url}/init" if call.came_in_clear else None,
    )
    return script(provisioning.answer(inquiry, call.now))


@views.script("/devices/update")
def update(call: Call) -> Response:
    """Redeem an update client's code, or bring it what is open."""
    visit = devices.Visit(
        hw_id=_hw_id(call),
        facts=parse_query_facts(call.query),
        entry=read_entry(_typed(call)),
        token=call.query.get("device_token"),
        source=call.source,
        update_url=update_url(call),
        claim=_claim(call),
    )
    return script(devices.update_script(visit, call.now))


@views.route("/devices/register", methods=["POST"])
def register(call: Call) -> Response:
    """Register a phone that is no update client, by its code or its domain's token."""
    from chalicelib.api import schemas

    body = call.body(schemas.identify_of(call.request.raw_body))
    visit = devices.Visit(body.id, body.facts(), None, None, call.source, update_url(call))
    registration = devices.register(visit, body.grounds(), call.now)
    return document(
        {
            "hw_id": registration.device.hw_id,
            "domain": registration.device.domain,
            "category": registration.device.category,
            "device_token": registration.token,
            **documents.plan(registration.plan),
        }
    )


@views.route("/devices/{hw_id}/jobs", methods=["GET"])
def jobs(call: Call, hw_id: str) -> Response:
    """Tell a phone its jobs."""
    return document(documents.plan(devices.jobs_of(_own(hw_id), call.bearer, call.now)))


@views.route("/devices/{hw_id}/jobs/{job_id}", methods=["POST"])
def report_job(call: Call, hw_id: str, job_id: str) -> Response:
    """Take in what became of a job."""
    from chalicelib.api import schemas

    token, body = call.bearer, call.body(schemas.JobReport)
    report = devices.Report(job_id, body.outcome, body.reason)
    devices.report_job(_own(hw_id), token, report, call.now)
    return nothing()


def update_url(call: Call) -> str:
    """Tell our URL for update clients."""
    return f"{call.base_url}/devices/update"


def _hw_id(call: Call) -> str:
    hw_id = parse_hw_id(call.query.get("mac") or call.query.get("sn"))
    if hw_id is None:
        raise InvalidRequestError(Fault("mac or sn", "must be a hardware id, 12 hex digits"))
    return hw_id


def _own(hw_id: str) -> str:
    parsed = parse_hw_id(hw_id)
    if parsed is None:
        raise NotSignedInError("not a hardware id")
    return parsed


def _claim(call: Call) -> "Claim | None":
    if not call.query.get("domain"):
        return None
    from chalicelib.core import auto_provisioning

    return auto_provisioning.read_claim(call.query)


def _typed(call: Call) -> str | None:
    return next((call.query[name] for name in _CODE_NAMES if call.query.get(name)), None)
