"""What administrators call for domains: settings, categories, security tokens, the audit trail."""

from typing import TYPE_CHECKING

from chalice.app import Response

from chalicelib import documents
from chalicelib.api.views import Call, Views, document, listing, nothing
from chalicelib.core.errors import Fault, InvalidRequestError
from chalicelib.loading import on_use

if TYPE_CHECKING:
    from chalicelib import pbx
    from chalicelib.roles import domains, pbxes, security_tokens
else:
    # what only people's requests need must not make a phone's cold start wait
    domains = on_use("chalicelib.roles.domains")
    pbx = on_use("chalicelib.pbx")
    pbxes = on_use("chalicelib.roles.pbxes")
    security_tokens = on_use("chalicelib.roles.security_tokens")

views = Views(__name__)


@views.route("/domains", methods=["GET"])
def list_domains(call: Call) -> Response:
    """List the domains that this person administers."""
    page = domains.list_all(call.asking, *call.page())
    return listing([documents.domain(known) for known in page.items], page.next_after)


@views.post("/domains")
def create_domain(call: Call) -> Response:
    """Make a domain."""
    from chalicelib.api import schemas

    asking, wanted = call.asking, call.body(schemas.NewDomain).given()
    return document(
        documents.domain(domains.create(asking, wanted.pop("domain"), wanted)), status=201
    )


@views.route("/domains/{domain}", methods=["GET"])
def show_domain(call: Call, domain: str) -> Response:
    """Show a domain's settings."""
    return document(documents.domain(domains.show(call.asking, domain)))


@views.route("/domains/{domain}", methods=["PATCH"])
def change_domain(call: Call, domain: str) -> Response:
    """Change some of a domain's settings."""
    from chalicelib.api import schemas

    asking, wanted = call.asking, call.body(schemas.DomainSettings).given()
    return document(documents.domain(domains.change(asking, domain, wanted)))


@views.route("/domains/{domain}", methods=["DELETE"])
def delete_domain(call: Call, domain: str) -> Response:
    """Delete a domain that nothing uses."""
    domains.delete(call.asking, domain)
    return nothing()


@views.route("/domains/{domain}/categories", methods=["GET"])
def list_categories(call: Call, domain: str) -> Response:
    """List a domain's categories."""
    found = domains.categories(call.asking, domain)
    return listing([documents.category(known) for known in found], None)


@views.route("/domains/{domain}/categories/{category}", methods=["PUT"])
def put_category(call: Call, domain: str, category: str) -> Response:
    """Make or change a category."""
    from chalicelib.api import schemas

    asking, body = call.asking, call.body(schemas.CategorySettings)
    made = domains.put_category(
        asking,
        domain,
        schemas.checked(schemas.Name, category, "category"),
        provisioning=body.provisioning,
        device_types=body.device_types,
    )
    return document(documents.category(made))


@views.route("/domains/{domain}/categories/{category}", methods=["DELETE"])
def delete_category(call: Call, domain: str, category: str) -> Response:
    """Delete a category that nothing uses."""
    domains.delete_category(call.asking, domain, category)
    return nothing()


@views.route("/domains/{domain}/token", methods=["GET"])
def show_token(call: Call, domain: str) -> Response:
    """Show a domain's security token again, as the lines that carry it."""
    asking, category = call.asking, call.query.get("category")
    if not category:
        raise InvalidRequestError(Fault("category", "is missing"))
    return document(documents.token_sheet(security_tokens.show(asking, domain, category)))


@views.draw("/domains/{domain}/token")
def set_token(call: Call, domain: str) -> Response:
    """Set or rotate a domain's security token."""
    from chalicelib.api import schemas

    asking, body = call.asking, call.body(schemas.NewToken)
    sheet = security_tokens.put(asking, domain, body.category, body.token, body.keep_old_seconds)
    return document(documents.token_sheet(sheet))


@views.route("/domains/{domain}/token", methods=["DELETE"])
def delete_token(call: Call, domain: str) -> Response:
    """Turn automatic provisioning off."""
    security_tokens.delete(call.asking, domain)
    return nothing()


@views.route("/domains/{domain}/pbx", methods=["GET"])
def show_pbx(call: Call, domain: str) -> Response:
    """Show a domain's PBX and which phones it must still hear of."""
    return document(documents.pbx(pbxes.show(call.asking, domain)))


@views.route("/domains/{domain}/pbx", methods=["PUT"])
def put_pbx(call: Call, domain: str) -> Response:
    """Give a domain a PBX, or change how it is spoken to."""
    from chalicelib.api import schemas

    asking, wanted = call.asking, call.body(schemas.PbxSettings).given()
    return document(documents.pbx(pbxes.put(asking, domain, wanted)))


@views.route("/domains/{domain}/pbx", methods=["DELETE"])
def delete_pbx(call: Call, domain: str) -> Response:
    """Take a domain's PBX away."""
    pbxes.delete(call.asking, domain)
    return nothing()


@views.post("/domains/{domain}/pbx/check")
def check_pbx(call: Call, domain: str) -> Response:
    """Test the connection to a domain's PBX."""
    return document(documents.pbx_check(pbxes.check(call.asking, domain, pbx.connect)))


@views.post("/domains/{domain}/pbx/redrive")
def redrive_pbx(call: Call, domain: str) -> Response:
    """Let a domain's PBX hear of all its phones once more."""
    pbxes.redrive(call.asking, domain)
    return nothing()


@views.post("/domains/{domain}/pbx/replicate")
def replicate_pbx(call: Call, domain: str) -> Response:
    """Let the users of a domain's PBX be read at once."""
    pbxes.replicate(call.asking, domain)
    return nothing()


@views.route("/domains/{domain}/audit", methods=["GET"])
def list_audit(call: Call, domain: str) -> Response:
    """List what happened in a domain in a month."""
    asking = call.asking
    month = call.choice("month", r"[0-9]{4}-(0[1-9]|1[0-2])", "a month as 2026-11")
    page = domains.audit_trail(asking, domain, month or f"{call.now:%Y-%m}", *call.page())
    return listing([documents.audit_entry(entry) for entry in page.items], page.next_after)
