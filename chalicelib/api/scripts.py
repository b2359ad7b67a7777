"""The central service's own doors: update scripts to hand out, codes for foreign installations."""

from typing import TYPE_CHECKING

from chalice.app import Response

from chalicelib import documents
from chalicelib.api.views import Call, Views, document, listing, nothing, script
from chalicelib.core import scripts
from chalicelib.loading import on_use

if TYPE_CHECKING:
    from chalicelib.roles import guesses, installations
else:
    # what only people's requests need must not make a phone's cold start wait
    guesses = on_use("chalicelib.roles.guesses")
    installations = on_use("chalicelib.roles.installations")

views = Views(__name__)


@views.route("/scripts/show-code-form", methods=["GET"])
def show_code_form(call: Call) -> Response:
    """Hand out the script that shows the code form again."""
    call.asking.demand_admin()
    return script(scripts.show_code_form())


@views.route("/scripts/v12-cleanup", methods=["GET"])
def v12_clean_up(call: Call) -> Response:
    """Hand out the lines that a V12 update server must send to a V13 phone."""
    call.asking.demand_admin()
    return script(scripts.v12_clean_up())


@views.route("/guess-risk", methods=["GET"])
def show_guess_risk(call: Call) -> Response:
    """Tell how likely it is that guessing finds a code."""
    risk = guesses.show_risk(call.asking)
    return document({"open_codes": risk.open_codes, "sources": risk.sources, "chance": risk.chance})


@views.route("/installations", methods=["GET"])
def list_installations(call: Call) -> Response:
    """List the foreign installations that may ask for codes."""
    page = installations.list_all(call.asking, *call.page())
    return listing([documents.installation(known) for known in page.items], page.next_after)


@views.post("/installations")
def create_installation(call: Call) -> Response:
    """Let a foreign installation ask for codes."""
    from chalicelib.api import schemas

    asking, body = call.asking, call.body(schemas.NewInstallation)
    made = installations.create(asking, body.name)
    return document({**documents.installation(made.installation), "key": made.key}, status=201)


@views.route("/installations/{installation_id}", methods=["DELETE"])
def delete_installation(call: Call, installation_id: str) -> Response:
    """Delete a foreign installation."""
    installations.delete(call.asking, installation_id)
    return nothing()


@views.route("/provisioning/codes", methods=["POST"])
def issue_foreign_code(call: Call) -> Response:
    """Issue a code to a foreign installation."""
    from chalicelib.api import schemas

    key, body = call.bearer, call.body(schemas.ForeignCode)
    issued = installations.issue_code(key, body.devices_url, body.lifetime, call.source, call.now)
    return document({"code": issued.digits, "expires_at": issued.code.expires_at}, status=201)
