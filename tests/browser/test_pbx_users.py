"""The users of a PBX in a browser: when they were read, what came of it, and reading them now."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from chalicelib.core.user_objects import Trouble
from local import demo, pbx_server, serve, tables
from local.pbx import ADMIN, APP, PASSWORD, AppObject, Pbx
from local.pbx_server import PbxServer
from tests.browser.conftest import Visitor
from tests.browser.test_devices import go
from tests.browser.test_pages import assert_open_to_everybody
from tests.browser.test_pbx import german
from tests.browser.test_rollouts import sign_in
from tests.local.conftest import running
from tests.local.served import Served

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DOMAIN = demo.DOMAIN
PBX_PATH = f"/api/domains/{DOMAIN}/pbx"
COUNTS = ("read", "added", "changed", "unchanged", "invalid", "gone")
IMPORTED = ["Added", "Changed", "Unchanged", "Left out, as something is wrong"]
AT = "2026-01-01T08:00:00Z"
NEXT = "2026-01-01T09:00:00Z"


@pytest.fixture(scope="module")
def served(chromium: str, engine: str, client: "DynamoDBClient") -> Iterator[Served]:
    """Serve what `make run` starts, with a schedule that comes at once."""
    assert chromium
    with running({"DYNAMODB_ENDPOINT": engine, "SCHEDULE_SECONDS": "0.5"}) as made:
        yield made
    for concept in tables.definitions():
        client.delete_table(TableName=f"{serve.PREFIX}{concept}")


@pytest.fixture
def server(served: Served) -> Iterator[PbxServer]:
    """Serve the test PBX, with the demo users; the domain has none before, nor after."""
    served.ask("DELETE", PBX_PATH, token=served.token("admin"))
    pbx = Pbx()
    pbx_server.seed(pbx)
    with pbx_server.serve(pbx) as made:
        yield made
        served.ask("DELETE", PBX_PATH, token=served.token("admin"))


def put(served: Served, server: PbxServer, *, is_import: bool) -> None:
    """Give the domain the PBX as an administrator does."""
    access = {"address": server.url, "app_object": APP, "password": PASSWORD}
    body = {**access, "imports_users": is_import}
    assert served.ask("PUT", PBX_PATH, token=served.token("admin"), body=body)[0] == 200


def users_of(page: Page) -> Locator:
    """Find the section."""
    return page.get_by_role("region", name="Users of the PBX")


def counts(section: Locator) -> dict[str, str]:
    """Read which counts there are."""
    pairs = [text.split("\n") for text in section.locator(".facts > div").all_inner_texts()]
    return {words: value for words, value in pairs if words not in {"Last read", "Next time"}}


def tell(page: Page, trouble: str | None, *, is_import: bool, **known: int) -> None:
    """Let the service tell of another reading of the users than it had."""

    def answer(route: Route) -> None:
        response = route.fetch()
        counted = {name: known.get(name) for name in COUNTS}
        replication = {"at": AT, "retry_at": NEXT, "trouble": trouble, **counted}
        told = {**response.json(), "imports_users": is_import, "replication": replication}
        route.fulfill(response=response, json=told)

    page.route(f"**{PBX_PATH}", answer)


def test_users_are_read_at_the_press_of_a_button(
    visitor: Visitor, served: Served, server: PbxServer
) -> None:
    """What came of it shows by itself, and is said to those who hear."""
    server.pbx.add_user("carol", cn="Carol")
    put(served, server, is_import=True)
    page = visitor.open()
    sign_in(visitor, page)
    go(page, DOMAIN, "pbx")
    section = users_of(page)
    button = section.get_by_role("button", name="Read the users now")
    again = page.get_by_role("button", name="Read again")
    expect(button).to_be_visible()
    while section.get_by_text("They have not been read yet.").is_visible():
        again.click()
    expect(section).to_contain_text("whoever changed there is changed here")
    first = counts(section)
    assert list(first) == ["Users that were read", *IMPORTED, "Here, but not at the PBX"]
    assert (first["Added"], int(first["Users that were read"])) == ("1", len(server.pbx.users()))
    server.pbx.add_user("dave", cn="Dave")
    button.click()
    said = "The users will be read within a minute. What comes of it shows here."
    expect(section.locator(".done")).to_have_text(said)
    expect(section.locator(".done")).to_have_text("The users were read.")
    expect(page.locator('.unseen[role="status"]')).to_have_text("The users were read.")
    assert int(counts(section)["Users that were read"]) == len(server.pbx.users())
    assert counts(section)["Added"] == "1"
    assert_open_to_everybody(page, "the users of a PBX")
    server.pbx.app_objects[APP] = AppObject(PASSWORD, frozenset({ADMIN}))
    button.focus()
    page.keyboard.press("Enter")
    expect(section.locator(".problem")).to_contain_text("The app object may not list users.")
    expect(section.locator(".problem")).to_contain_text("or import users from a file")
    expect(section.locator(".done")).to_have_count(0)
    expect(button).to_be_focused()
    assert_open_to_everybody(page, "the users of a PBX, which may not be read")


def test_whoever_saves_a_pbx_sees_its_users_read(visitor: Visitor, server: PbxServer) -> None:
    """And nothing of an import where nobody is imported."""
    page = visitor.open()
    sign_in(visitor, page)
    go(page, DOMAIN, "pbx")
    expect(users_of(page)).to_be_hidden()
    form = page.get_by_role("form", name="PBX settings")
    form.get_by_label("Address").fill(server.url)
    form.get_by_label("App object", exact=True).fill(APP)
    form.get_by_label("Password of the app object").fill(PASSWORD)
    form.get_by_role("button", name="Save").click()
    section = users_of(page)
    expect(section).to_contain_text("Nobody is added or changed here.")
    expect(section.locator(".done")).to_have_text("The users were read.")
    assert list(counts(section)) == ["Users that were read"]


def test_only_what_is_known_is_shown(visitor: Visitor, served: Served, server: PbxServer) -> None:
    """Of a table that is too long, what was read; counts of an import that is over, not at all."""
    put(served, server, is_import=True)
    page = visitor.open()
    sign_in(visitor, page)
    known = {"read": 20_000, "added": 1, "changed": 2, "unchanged": 19_990, "invalid": 7}
    tell(page, Trouble.TOO_LONG, is_import=True, **known)
    go(page, DOMAIN, "pbx")
    section = users_of(page)
    expect(section).to_contain_text("What was read counts. Import a file for the others.")
    assert list(counts(section).values()) == [str(count) for count in known.values()]
    assert_open_to_everybody(page, "a table of users that is too long")
    page.unroute(f"**{PBX_PATH}")
    tell(page, None, is_import=False, **known)
    page.get_by_role("button", name="Read again").click()
    expect(section.locator(".problem")).to_have_count(0)
    assert list(counts(section)) == ["Users that were read"]


def test_every_trouble_has_its_words(visitor: Visitor, served: Served, server: PbxServer) -> None:
    """In German, too: why, and what can be done."""
    put(served, server, is_import=True)
    page = german(visitor, f"#/devices/{DOMAIN}/pbx", "admin")
    section = page.get_by_role("region", name="Benutzer der PBX")
    expect(section.get_by_role("button", name="Benutzer jetzt lesen")).to_be_visible()
    why, to_do = (section.locator(".problem > p").nth(at) for at in range(2))
    before = ""
    seen = set()
    for trouble in Trouble:
        tell(page, trouble, is_import=True, read=3)
        page.get_by_role("button", name="Neu lesen").click()
        expect(why).not_to_have_text(before)
        before = why.inner_text()
        words = (before, to_do.inner_text())
        assert all(one.endswith(".") for one in words), trouble
        seen.add(words)
        page.unroute(f"**{PBX_PATH}")
    assert_open_to_everybody(page, "the users of a PBX in German")
    assert len(seen) == len(Trouble)
