"""What administrators call for devices: firmware, jobs, the devices themselves, sightings."""

from typing import TYPE_CHECKING

from chalice.app import Response

from chalicelib import documents
from chalicelib.api.views import Call, Views, document, listing, nothing
from chalicelib.core.devices import State, parse_any_hw_id
from chalicelib.core.errors import NotFoundError
from chalicelib.loading import on_use

if TYPE_CHECKING:
    from chalicelib.roles import assignments, provisioning, updates
else:
    # what only people's requests need must not make a phone's cold start wait
    assignments = on_use("chalicelib.roles.assignments")
    provisioning = on_use("chalicelib.roles.provisioning")
    updates = on_use("chalicelib.roles.updates")

views = Views(__name__)


@views.route("/configuration-types", methods=["GET"])
def list_types(call: Call) -> Response:
    """List the configuration types, as forms show them."""
    from chalicelib.core.configuration import CONFIGURATION_TYPES

    call.asking.demand_admin()
    found = CONFIGURATION_TYPES.values()
    return listing([documents.configuration_type(known) for known in found], None)


@views.route("/domains/{domain}/firmware", methods=["GET"])
def show_firmware(call: Call, domain: str) -> Response:
    """Tell a domain's current firmware JSON."""
    return document(updates.show_firmware(call.asking, domain))


@views.route("/domains/{domain}/firmware", methods=["PUT"])
def put_firmware(call: Call, domain: str) -> Response:
    """Replace a domain's current firmware JSON."""
    from chalicelib.api import schemas

    asking, wanted = call.asking, call.body(schemas.Firmware).root
    updates.put_firmware(asking, domain, wanted)
    return document(wanted)


@views.route("/domains/{domain}/jobs/software", methods=["GET"])
def list_software(call: Call, domain: str) -> Response:
    """List a domain's software jobs."""
    page = updates.list_software(call.asking, domain, *call.page())
    return listing([documents.made_job(job) for job in page.items], page.next_after)


@views.post("/domains/{domain}/jobs/software")
def make_software_job(call: Call, domain: str) -> Response:
    """Let a category's devices load the current firmware."""
    from chalicelib.api import schemas

    asking, body = call.asking, call.body(schemas.NewSoftwareJob)
    job = updates.make_software_job(asking, domain, body.category)
    return document(documents.made_job(job), status=201)


@views.route("/domains/{domain}/jobs/config", methods=["GET"])
def list_configuration(call: Call, domain: str) -> Response:
    """List a domain's configuration jobs."""
    page = updates.list_configuration(call.asking, domain, *call.page())
    return listing([documents.made_job(job) for job in page.items], page.next_after)


@views.post("/domains/{domain}/jobs/config")
def make_configuration_job(call: Call, domain: str) -> Response:
    """Let a category's devices be configured."""
    from chalicelib.api import schemas

    asking, body = call.asking, call.body(schemas.NewConfigurationJob)
    job = updates.make_configuration_job(asking, domain, body.category, body.type, body.parameters)
    return document(documents.made_job(job), status=201)


@views.route("/domains/{domain}/jobs/{job_id}", methods=["DELETE"])
def delete_job(call: Call, domain: str, job_id: str) -> Response:
    """Delete a job."""
    updates.delete_job(call.asking, domain, job_id)
    return nothing()


@views.route("/domains/{domain}/devices", methods=["GET"])
def list_devices(call: Call, domain: str) -> Response:
    """List a domain's devices."""
    asking = call.asking
    states = [state for state in State if state is not State.RELEASED]
    state = call.choice("state", "|".join(states), f"one of {', '.join(states)}")
    page = assignments.list_all(
        asking,
        domain,
        *call.page(),
        category=call.query.get("category", ""),
        state=State(state) if state else None,
    )
    found = [documents.administered(device, call.now) for device in page.items]
    return listing(found, page.next_after)


@views.route("/domains/{domain}/devices/{hw_id}", methods=["GET"])
def show_device(call: Call, domain: str, hw_id: str) -> Response:
    """Show one of a domain's devices."""
    device = assignments.show(call.asking, domain, _hw_id(hw_id))
    return document(documents.administered(device, call.now))


@views.route("/domains/{domain}/devices/{hw_id}", methods=["PATCH"])
def change_device(call: Call, domain: str, hw_id: str) -> Response:
    """Rename a device, or move it to another category."""
    from chalicelib.api import schemas

    asking, body = call.asking, call.body(schemas.DeviceChange)
    device = assignments.change(asking, domain, _hw_id(hw_id), body.name, body.category)
    return document(documents.administered(device, call.now))


@views.route("/domains/{domain}/devices/{hw_id}", methods=["DELETE"])
def remove_device(call: Call, domain: str, hw_id: str) -> Response:
    """Forget a device."""
    assignments.remove(call.asking, domain, _hw_id(hw_id))
    return nothing()


@views.route("/domains/{domain}/devices/{hw_id}/explain", methods=["GET"])
def explain(call: Call, domain: str, hw_id: str) -> Response:
    """Explain every job for a device."""
    category = call.query.get("category")
    found = updates.explain(call.asking, domain, _hw_id(hw_id), category)
    return listing([documents.explanation(one) for one in found], None)


@views.post("/domains/{domain}/devices/{hw_id}/release")
def release_device(call: Call, domain: str, hw_id: str) -> Response:
    """Release a device."""
    assignments.release(call.asking, domain, _hw_id(hw_id))
    return nothing()


@views.post("/domains/{domain}/devices/{hw_id}/replace")
def replace_device(call: Call, domain: str, hw_id: str) -> Response:
    """Put another phone in a device's place."""
    from chalicelib.api import schemas

    asking, body = call.asking, call.body(schemas.Replacement)
    made = assignments.put_in_place(asking, domain, _hw_id(hw_id), body.hw_id)
    return document(
        {
            "device": documents.administered(made.device, call.now),
            "code": documents.issued_code(made.issued) if made.issued else None,
        }
    )


@views.route("/sightings", methods=["GET"])
def list_sightings(call: Call) -> Response:
    """List the phones that the central service saw on a day."""
    asking, day = (
        call.asking,
        call.choice("day", r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "a day as 2026-11-24"),
    )
    page = provisioning.list_sightings(asking, day or f"{call.now:%Y-%m-%d}", *call.page())
    return listing([documents.sighting(seen) for seen in page.items], page.next_after)


def _hw_id(text: str) -> str:
    parsed = parse_any_hw_id(text)
    if parsed is None:
        raise NotFoundError("device")
    return parsed
