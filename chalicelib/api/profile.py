"""What Profile calls: a person's own codes and phones."""

from typing import TYPE_CHECKING

from chalice.app import Response

from chalicelib import documents
from chalicelib.api.views import Call, Views, document, listing, nothing
from chalicelib.core.devices import parse_any_hw_id
from chalicelib.core.errors import NotFoundError
from chalicelib.loading import on_use

if TYPE_CHECKING:
    from chalicelib.roles import users
else:
    # what only people's requests need must not make a phone's cold start wait
    users = on_use("chalicelib.roles.users")

views = Views(__name__)


@views.route("/me", methods=["GET"])
def me(call: Call) -> Response:
    """Tell who is signed in."""
    return document(documents.profile(users.profile(call.asking)))


@views.route("/me/categories", methods=["GET"])
def categories(call: Call) -> Response:
    """List the categories into which this person can add a phone."""
    found = users.categories(call.person)
    return listing([{"name": category.name} for category in found], None)


@views.post("/me/codes")
def issue_code(call: Call) -> Response:
    """Issue a code."""
    from chalicelib.api import schemas

    asking = call.asking
    issued = users.issue_code(asking, call.body(schemas.IssueCode).category)
    return document(documents.issued_code(issued), status=201)


@views.route("/me/codes", methods=["GET"])
def list_codes(call: Call) -> Response:
    """List this person's codes, newest first."""
    found, after = users.list_codes(call.person, *call.page())
    return listing([documents.own_code(own, call.now) for own in found], after)


@views.route("/me/codes/{code_id}", methods=["GET"])
def show_code(call: Call, code_id: str) -> Response:
    """Show one of this person's codes."""
    own = users.find_code(call.person, code_id)
    return document(documents.own_code(own, call.now))


@views.route("/me/codes/{code_id}", methods=["DELETE"])
def revoke_code(call: Call, code_id: str) -> Response:
    """Revoke one of this person's codes."""
    users.revoke_code(call.asking, code_id)
    return nothing()


@views.route("/me/phones", methods=["GET"])
def list_phones(call: Call) -> Response:
    """List this person's phones."""
    found, after = users.list_phones(call.person, *call.page())
    return listing([documents.own_device(phone, call.now) for phone in found], after)


@views.route("/me/phones/{hw_id}", methods=["DELETE"])
def release_phone(call: Call, hw_id: str) -> Response:
    """Give up one of this person's phones."""
    parsed = parse_any_hw_id(hw_id)
    if parsed is None:
        raise NotFoundError("device")
    users.release_phone(call.asking, parsed)
    return nothing()
