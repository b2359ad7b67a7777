"""What UsersAdmin calls: a domain's users, rollouts of phones to them, their codes to hand out."""

from typing import TYPE_CHECKING

from chalice.app import Response

from chalicelib import documents
from chalicelib.api.views import (
    MAX_LIST_LIMIT,
    Call,
    Views,
    after_of,
    cursor_to,
    document,
    listing,
)
from chalicelib.core.errors import Fault, RequestTooLargeError
from chalicelib.core.rollouts import State
from chalicelib.loading import on_use

if TYPE_CHECKING:
    from collections.abc import Callable

    from chalicelib.api import slips
    from chalicelib.core import roster
    from chalicelib.roles import handouts, people, rollouts
    from chalicelib.roles.asking import Asking
    from chalicelib.roles.rollouts import Changed, Selection
else:
    # what only people's requests need must not make a phone's cold start wait
    slips = on_use("chalicelib.api.slips")
    roster = on_use("chalicelib.core.roster")
    handouts = on_use("chalicelib.roles.handouts")
    people = on_use("chalicelib.roles.people")
    rollouts = on_use("chalicelib.roles.rollouts")

views = Views(__name__)

JSON, FILE = "application/json", "application/octet-stream"
MAX_FILE_BYTES = 4 * 1024 * 1024
"""A file comes in base64, and an event of Lambda ends at 6 MB."""

MAX_JSON_BYTES = 1024 * 1024
MAX_PAGE = 1_000
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t"}


@views.route("/users", methods=["GET"])
def list_users(call: Call) -> Response:
    """List the domain's users."""
    page = people.list_all(call.asking, *call.page(MAX_PAGE))
    return listing([documents.user(known) for known in page.items], page.next_after)


@views.post("/users", content_types=[JSON, FILE], max_body_bytes=MAX_FILE_BYTES)
def import_users(call: Call) -> Response:
    """Add and change users, of a file or of a list; or tell what would become of each."""
    asking, is_dry_run = call.asking, call.is_set("dry_run")
    asking.demand_users_admin()
    read, where = _users(call)
    report = people.take_in(
        asking, read, where, is_dry_run=is_dry_run, skips_wrong=call.is_set("skip_wrong")
    )
    return document(documents.import_report(report, is_whole=is_dry_run))


@views.route("/rollouts/options", methods=["GET"])
def show_options(call: Call) -> Response:
    """Tell what a rollout can be made of."""
    found = rollouts.options(call.asking)
    return document({"categories": list(found.categories), "phone_apps": list(found.phone_apps)})


@views.route("/rollouts", methods=["GET"])
def list_rollouts(call: Call) -> Response:
    """List the domain's rollouts, newest first."""
    page = rollouts.list_all(call.asking, *call.page())
    return listing([documents.rollout(known) for known in page.items], page.next_after)


@views.post("/rollouts", max_body_bytes=MAX_JSON_BYTES)
def create_rollout(call: Call) -> Response:
    """Make a rollout."""
    from chalicelib.api import schemas

    asking, body = call.asking, call.body(schemas.NewRollout)
    made, added = rollouts.create(
        asking,
        name=body.name,
        category=body.category,
        app=body.app,
        note=body.note,
        sips=body.users,
    )
    return document({**documents.rollout(made), **documents.added(added)}, status=201)


@views.route("/rollouts/{rollout_id}", methods=["GET"])
def show_rollout(call: Call, rollout_id: str) -> Response:
    """Show how far a rollout is, and its entries."""
    state = call.choice("state", "|".join(State), ", ".join(State))
    wanted = State(state) if state else None
    progress = rollouts.show(call.asking, rollout_id, wanted, *call.page(MAX_PAGE))
    next_page = cursor_to(progress.entries.next_after)
    return document({**documents.progress(progress, call.now), "next": next_page})


@views.post("/rollouts/{rollout_id}/entries", max_body_bytes=MAX_JSON_BYTES)
def add_entries(call: Call, rollout_id: str) -> Response:
    """Add users to a rollout."""
    from chalicelib.api import schemas

    asking, body = call.asking, call.body(schemas.NewEntries)
    return document(documents.added(rollouts.add(asking, rollout_id, body.users)))


@views.post("/rollouts/{rollout_id}/extend", max_body_bytes=MAX_JSON_BYTES)
def extend_entries(call: Call, rollout_id: str) -> Response:
    """Let pending codes live longer."""
    return _changed(call, rollout_id, rollouts.extend)


@views.post("/rollouts/{rollout_id}/reissue", max_body_bytes=MAX_JSON_BYTES)
def reissue_entries(call: Call, rollout_id: str) -> Response:
    """Issue new codes in place of old ones."""
    return _changed(call, rollout_id, rollouts.reissue)


@views.post("/rollouts/{rollout_id}/revoke", max_body_bytes=MAX_JSON_BYTES)
def revoke_entries(call: Call, rollout_id: str) -> Response:
    """Revoke pending codes."""
    return _changed(call, rollout_id, rollouts.revoke)


@views.route("/rollouts/{rollout_id}/codes.csv", methods=["GET"])
def export_codes(call: Call, rollout_id: str) -> Response:
    """Write all codes of a rollout into a file for spreadsheets."""
    delimiter = call.choice("delimiter", "|".join(DELIMITERS), ", ".join(DELIMITERS)) or "comma"
    since = call.moment("changed_since")
    rollout, found = handouts.export(call.asking, rollout_id, since)
    rows = [documents.code_row(rollout, handout, call.now) for handout in found]
    return Response(
        body=roster.write_codes(rows, DELIMITERS[delimiter]).decode(),
        status_code=200,
        headers={
            "Content-Type": "text/csv; charset=utf-8",
            "Content-Disposition": f'attachment; filename="codes-{rollout_id}.csv"',
            "Cache-Control": "no-store",
        },
    )


@views.route("/rollouts/{rollout_id}/slips", methods=["GET"])
def show_slips(call: Call, rollout_id: str) -> Response:
    """Print pending codes, one slip a user."""
    limit, after = call.page(handouts.MAX_SLIPS, MAX_LIST_LIMIT)
    rollout, page = handouts.view(call.asking, rollout_id, limit, after)
    cursor = cursor_to(page.next_after)
    more = cursor and f"limit={limit}&cursor={cursor}"
    return slips.sheet(rollout, page.items, more, call.languages)


def _users(call: Call) -> tuple["roster.Roster", str]:
    """Read users, and tell what a fault calls a place among them."""
    if call.content_type == FILE:
        return roster.read(call.raw_body), "line"
    from chalicelib.api import schemas

    if len(call.raw_body) > MAX_JSON_BYTES:
        raise RequestTooLargeError(Fault("body", f"at most {MAX_JSON_BYTES} bytes of JSON"))
    told = call.body(schemas.NewUsers).users
    return roster.of_list([(user.sip, user.told()) for user in told]), "users"


def _changed(
    call: Call, rollout_id: str, change: "Callable[[Asking, str, Selection], Changed]"
) -> Response:
    from chalicelib.api import schemas

    asking, body = call.asking, call.body(schemas.EntrySelection)
    selection = rollouts.Selection(body.users or (), after_of(body.cursor))
    made = change(asking, rollout_id, selection)
    return document({**documents.changed(made), "next": cursor_to(made.next_after)})
