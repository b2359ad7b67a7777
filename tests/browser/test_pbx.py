"""The PBX in a browser: how far it is with a phone, and what administrators do about it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, expect

from chalicelib import settings
from chalicelib.core.devices import PbxState
from chalicelib.core.user_objects import Hindrance, Trouble, of_another_user, refused
from chalicelib.roles.accesses import purpose_of
from chalicelib.storage import devices, domains, handovers, notifications, vault
from chalicelib.storage.connection import Transaction
from chalicelib.storage.handovers import Handover, Standing
from local import demo, pbx_server, serve, tables
from local.pbx import ADMIN, APP, PASSWORD, AppObject, Pbx
from local.pbx_server import PbxServer
from tests.browser.conftest import Visitor
from tests.browser.test_devices import HW_ID, MAC, add_phone, confirm, go
from tests.browser.test_pages import assert_open_to_everybody
from tests.browser.test_rollouts import codes, make_rollout, row_of, sign_in
from tests.browser.test_rollouts import provision as provision_entry
from tests.conftest import use
from tests.local.conftest import running
from tests.local.served import Served

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DOMAIN = demo.DOMAIN
NOBODY_LISTENS = "wss://127.0.0.1:1"
MARKUP = "<b>no</b> <img src=x>"


@pytest.fixture(scope="module")
def served(chromium: str, engine: str, client: "DynamoDBClient") -> Iterator[Served]:
    """Serve what `make run` starts, on an engine that these tests write to as well."""
    assert chromium
    with running({"DYNAMODB_ENDPOINT": engine}) as made:
        yield made
    for concept in tables.definitions():
        client.delete_table(TableName=f"{serve.PREFIX}{concept}")


@pytest.fixture(autouse=True)
def beside(served: Served, engine: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let storage be what the server's is; the domain has no PBX before, nor after."""
    used = replace(
        settings.Settings(),
        tables={concept: f"{serve.PREFIX}{concept}" for concept in settings.TABLES},
        dynamodb_endpoint=engine,
        keys_file=str(serve.STATE / "keys.json"),
        emit_metrics=False,
    )
    use(used, monkeypatch)
    remove_pbx(served)
    yield
    remove_pbx(served)


@pytest.fixture
def server() -> Iterator[PbxServer]:
    """Serve the test PBX, with the demo users."""
    pbx = Pbx()
    pbx_server.seed(pbx)
    with pbx_server.serve(pbx) as made:
        yield made


def remove_pbx(served: Served) -> None:
    """Let the domain have no PBX, neither the demo's nor a test's."""
    served.ask("DELETE", f"/api/domains/{DOMAIN}/pbx", token=served.token("admin"))


def mark(hw_id: str, state: PbxState, reason: str = "") -> None:
    """Keep with a phone how far the PBX is with it, as the delivery does, so that pages hear."""
    (device,) = devices.find_all([hw_id])
    fact = notifications.Fact(device.domain, device.user, hw_id=hw_id, rollout_id=device.rollout_id)

    def also(write: Transaction) -> None:
        notifications.add_fact(write, fact, datetime.now(UTC))

    assert devices.report(replace(device, pbx=state, pbx_reason=reason), device, also)


def put_pbx() -> None:
    """Give the domain a PBX and nothing to hand over to it."""
    transaction = Transaction()
    sealed = vault.seal(PASSWORD, purpose_of(DOMAIN))
    changes = {"pbx_url": NOBODY_LISTENS, "pbx_app": APP, "sealed_pbx_password": sealed}
    domains.change(transaction, DOMAIN, changes)
    transaction.commit()


def put_over_http(served: Served, server: PbxServer) -> None:
    """Give the domain a PBX as an administrator does."""
    body = {"address": server.url, "app_object": APP, "password": PASSWORD}
    path = f"/api/domains/{DOMAIN}/pbx"
    assert served.ask("PUT", path, token=served.token("admin"), body=body)[0] == 200


def put_trouble(reason: Trouble = Trouble.CERTIFICATE) -> None:
    """Let there be trouble with the PBX, for longer than a test."""
    now = datetime.now(UTC)
    standing = Standing(DOMAIN, reason, now - timedelta(hours=2), 9, now + timedelta(hours=1))
    handovers.put_standing(standing)


def put_waiting(hw_id: str, user: str, reason: str = "") -> None:
    """Let a phone wait for the PBX; one that it did not take waits for longer than a test."""
    now = datetime.now(UTC)
    transaction = Transaction()
    handovers.put_new(transaction, Handover(DOMAIN, "", user, hw_id), now)
    transaction.commit()
    if reason:
        new = [one for one in handovers.list_due(DOMAIN, 100, now) if one.hw_id == hw_id]
        handovers.put_off(new, reason, now + timedelta(hours=1))


def settle_all() -> None:
    """Let nothing wait any more."""
    handovers.settle(handovers.list_waiting(DOMAIN, 100))
    handovers.clear_standing(DOMAIN)


def german(visitor: Visitor, where: str, name: str) -> Page:
    """Open a page in German, signed in."""
    visitor.context.add_init_script(
        "Object.defineProperty(navigator, 'language', {value: 'de-AT'})"
    )
    page = visitor.open(where)
    page.get_by_role("banner").get_by_role("button", name="Anmelden").click()
    page.get_by_role("link", name=f"({name})", exact=False).click()
    page.get_by_role("button", name="Abmelden").wait_for()
    return page


def fill_form(page: Page, address: str, app: str, password: str) -> Locator:
    """Type what a PBX needs."""
    form = page.get_by_role("form", name="PBX settings")
    form.get_by_label("Address").fill(address)
    form.get_by_label("App object", exact=True).fill(app)
    form.get_by_label("Password of the app object").fill(password)
    return form


def steps(page: Page) -> list[str]:
    """Read how each step of a test of the connection went."""
    page.locator(".checks").wait_for()
    return [text.split(": ")[-1] for text in page.locator(".checks li > .state").all_inner_texts()]


def test_a_person_sees_how_far_the_pbx_is_with_a_phone(visitor: Visitor, served: Served) -> None:
    """At once, with why and whom to ask; what the PBX says is text and nothing else."""
    add_phone(served, "user1", 0x31)
    page = visitor.open("#/profile")
    sign_in(visitor, page, "user1")
    row = page.get_by_role("row", name="IP232")
    told = row.locator("[data-pbx]")
    expect(row.get_by_text("up to date")).to_be_visible()
    expect(told).to_have_count(0)
    mark(HW_ID.format(0x31), PbxState.PENDING, Trouble.NO_CONNECTION)
    expect(told).to_have_text("Waits for the PBX. The PBX cannot be reached.")
    mark(HW_ID.format(0x31), PbxState.FAILED, Hindrance.NO_USER)
    wanted = "Not on the PBX. The PBX has no such user. Ask your administrator."
    expect(told).to_have_text(wanted)
    mark(HW_ID.format(0x31), PbxState.FAILED, of_another_user("carol"))
    expect(told).to_contain_text("Another user of the PBX has this phone. Ask your administrator.")
    mark(HW_ID.format(0x31), PbxState.FAILED, refused(MARKUP))
    expect(told).to_contain_text(f"The PBX refused it: “{MARKUP}”. Ask your administrator.")
    expect(told.locator("*")).to_have_count(0)
    assert_open_to_everybody(page, "profile, not on the PBX")
    mark(HW_ID.format(0x31), PbxState.DONE)
    expect(told).to_have_text("on the PBX")
    assert_open_to_everybody(page, "profile, on the PBX")


def test_a_phone_becomes_a_device_of_its_user(
    visitor: Visitor, served: Served, server: PbxServer
) -> None:
    """The page says so within seconds; what was refused is tried again at the press of a button."""
    put_over_http(served, server)
    server.pbx.refuses = "object is locked"
    page = visitor.open("#/profile")
    sign_in(visitor, page, "user8")
    add_phone(served, "user8", 0x38)
    told = page.locator("[data-pbx]")
    expect(told).to_contain_text("The PBX refused it: “object is locked”.")
    server.pbx.refuses = ""
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("banner").get_by_role("button", name="Sign in").wait_for()
    visitor.sign_in(page, "admin")
    go(page, DOMAIN, "pbx")
    waiting = page.get_by_role("table", name="Phones that wait for the PBX")
    expect(waiting.get_by_role("row", name="user8")).to_contain_text("object is locked")
    page.get_by_role("button", name="Hand over all phones again").click()
    expect(page.get_by_text("The PBX has heard of every phone.")).to_be_visible()
    assert [one["hw"] for one in server.pbx.devices_of("user8")] == [HW_ID.format(0x38)]
    go(page, DOMAIN, "devices", HW_ID.format(0x38))
    expect(told).to_have_text("on the PBX")


def test_the_board_of_a_rollout_shows_it(visitor: Visitor, served: Served) -> None:
    """Live, with what an administrator can do."""
    rollout_id = make_rollout(served, ["user2"], "With a PBX")
    page = visitor.open(f"#/rollouts/{rollout_id}")
    sign_in(visitor, page)
    provision_entry(served, codes(served, rollout_id)["User 2"], 0x32)
    row = row_of(page, "user2")
    expect(row.locator(".of-phone")).to_contain_text("up to date")
    expect(row.locator("[data-pbx]")).to_have_count(0)
    mark("0090336d0032", PbxState.FAILED, Hindrance.NO_USER)
    expect(row.locator("[data-pbx]")).to_contain_text("The PBX has no such user. Make the user")
    assert_open_to_everybody(page, "board, not on the PBX")
    mark("0090336d0032", PbxState.FAILED, of_another_user("carol"))
    expect(row.locator("[data-pbx]")).to_contain_text("has this phone: carol.")
    mark("0090336d0032", PbxState.DONE)
    expect(row.locator("[data-pbx]")).to_have_text("on the PBX")


def test_devices_shows_it_in_its_list_and_on_a_page(visitor: Visitor, served: Served) -> None:
    """An administrator who rolls phones out hears of it at once there, too."""
    rollout_id = make_rollout(served, ["user3"], "With a PBX as well")
    provision_entry(served, codes(served, rollout_id)["User 3"], 0x33)
    hw_id = "0090336d0033"
    mark(hw_id, PbxState.PENDING, Trouble.PASSWORD)
    page = visitor.open()
    sign_in(visitor, page)
    go(page, DOMAIN, "devices")
    told = page.get_by_role("row", name="00-90-33-6d-00-33").locator("[data-pbx]")
    expect(told).to_contain_text("The PBX does not accept the app object or its password.")
    mark(hw_id, PbxState.DONE)
    expect(told).to_have_text("on the PBX")
    assert_open_to_everybody(page, "devices, on the PBX")
    go(page, DOMAIN, "devices", hw_id)
    told = page.locator("[data-pbx]")
    expect(told).to_have_text("on the PBX")
    mark(hw_id, PbxState.FAILED, of_another_user("carol"))
    expect(told).to_contain_text("Another user of the PBX has this phone: carol.")
    expect(told).to_contain_text("Remove it from the other user at the PBX, or release it here.")
    assert_open_to_everybody(page, "a device, not on the PBX")


def test_a_pbx_is_set_tested_and_removed(visitor: Visitor, server: PbxServer) -> None:
    """What is wrong is said at its field, and its password nowhere."""
    page = visitor.open()
    sign_in(visitor, page)
    go(page, DOMAIN, "pbx")
    form = page.get_by_role("form", name="PBX settings")
    expect(page.get_by_role("button", name="Test connection")).to_be_hidden()
    expect(form.get_by_role("button", name="Remove the PBX")).to_be_hidden()
    assert_open_to_everybody(page, "no PBX")
    form.get_by_role("button", name="Save").click()
    expect(form.locator(".fault")).to_have_text(["This is missing."] * 3)
    expect(form.get_by_label("Address")).to_be_focused()
    fill_form(page, "https://pbx.example.com", APP, "wrong")
    form.get_by_role("button", name="Save").click()
    expect(form.locator('[data-field="address"] .fault')).to_contain_text("A whole URL (wss, ws)")
    fill_form(page, server.url, APP, "wrong")
    form.get_by_role("button", name="Save").click()
    expect(form.locator(".done")).to_have_text("The PBX is saved. It hears of all phones now.")
    expect(form.get_by_text("A password is set.")).to_be_visible()
    page.get_by_role("button", name="Test connection").click()
    assert steps(page) == ["good", "good", "not needed", "good", "failed", *["not reached"] * 2]
    failed = page.locator('[data-step="password"]')
    expect(failed).to_contain_text("Set the app object's name and password as they are at the PBX.")
    assert_open_to_everybody(page, "a test that failed")
    form.get_by_label("Password of the app object").fill(PASSWORD)
    form.get_by_label("TLS only").check()
    form.get_by_label("Add and change users here").check()
    form.get_by_label("Find users by").select_option("Name")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_label("Password of the app object")).to_have_value("")
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_role("heading", name="The PBX can be spoken to.")).to_be_visible()
    assert steps(page) == ["good", "good", "not needed", *["good"] * 4]
    expect(page.get_by_text("It has no user with your SIP name.")).to_be_visible()
    assert_open_to_everybody(page, "a test that went well")
    go(page, DOMAIN, "audit")
    expect(page.get_by_role("row", name="PBX set").first).to_contain_text("password")
    go(page, DOMAIN, "pbx")
    expect(form.get_by_label("Address")).to_have_value(server.url)
    expect(form.get_by_label("TLS only")).to_be_checked()
    expect(form.get_by_label("Add and change users here")).to_be_checked()
    expect(form.get_by_label("Find users by")).to_have_value("name")
    form.get_by_label("Address").fill("wss://other.example.com")
    form.get_by_role("button", name="Save").click()
    expect(form.locator('[data-field="password"] .fault')).to_have_text("This is missing.")
    form.get_by_role("button", name="Remove the PBX").click()
    assert "At the PBX nothing changes." in confirm(page, "Remove the PBX")
    expect(form.locator(".done")).to_contain_text("The PBX is removed.")
    expect(form.get_by_label("Address")).to_have_value("")
    expect(form.get_by_label("Address")).to_be_focused()
    visitor.expect_complaints("status of 400")


def without_rights(pbx: Pbx) -> None:
    """Grant the app object nothing."""
    pbx.app_objects[APP] = AppObject(PASSWORD, frozenset())


def without_users(pbx: Pbx) -> None:
    """Grant the app object all but to list users."""
    pbx.app_objects[APP] = AppObject(PASSWORD, frozenset({ADMIN}))


@pytest.mark.parametrize(
    ("spoil", "step", "said"),
    [
        (without_rights, "PbxAdminApi", "Tick “Admin” at the app object."),
        (without_users, "PbxTableUsers", "tick “TableUsers” at the app object"),
    ],
)
def test_a_test_says_which_right_is_missing(
    visitor: Visitor,
    served: Served,
    server: PbxServer,
    spoil: Callable[[Pbx], None],
    step: str,
    said: str,
) -> None:
    """And who may list users alone is not needed."""
    spoil(server.pbx)
    put_over_http(served, server)
    page = visitor.open()
    sign_in(visitor, page)
    go(page, DOMAIN, "pbx")
    page.get_by_role("button", name="Test connection").click()
    failed = page.locator(f'[data-step="{step}"]')
    expect(failed.locator(".state")).to_contain_text("failed")
    expect(failed).to_contain_text(said)
    expect(page.locator('[data-step="password"]')).to_contain_text("good")


def test_a_test_of_what_does_not_answer_ends(visitor: Visitor) -> None:
    """Where nobody listens, the rest is not reached; it is said to those who hear, too."""
    page = visitor.open()
    sign_in(visitor, page)
    go(page, DOMAIN, "pbx")
    fill_form(page, NOBODY_LISTENS, APP, "x").get_by_role("button", name="Save").click()
    expect(page.locator(".done")).to_be_visible()
    page.get_by_role("button", name="Test connection").click()
    assert steps(page) == ["good", "failed", *["not reached"] * 5]
    heard = page.locator('.unseen[role="status"]')
    expect(heard).to_contain_text("The PBX cannot be spoken to. The PBX cannot be reached. Check")


def test_what_waits_is_shown_and_handed_over_again(visitor: Visitor, served: Served) -> None:
    """The trouble with its time, each phone with why, and a button for all."""
    add_phone(served, "user4", 0x34)
    settle_all()
    put_pbx()
    put_trouble()
    put_waiting(HW_ID.format(0x34), "user4", Hindrance.NO_USER)
    put_waiting(HW_ID.format(0x35), "user5", refused(MARKUP))
    put_waiting(HW_ID.format(0x36), "user6")
    page = visitor.open()
    sign_in(visitor, page)
    go(page, DOMAIN, "pbx")
    trouble = page.locator(".problem", has_text="Attempts")
    expect(trouble).to_contain_text("The PBX's certificate is not trusted.")
    expect(trouble).to_contain_text("Give the PBX a certificate for the name in its address")
    expect(trouble.locator("time")).to_have_count(2)
    expect(page.get_by_text("Phones that wait: 3.")).to_be_visible()
    waiting = page.get_by_role("table", name="Phones that wait for the PBX")
    row = waiting.get_by_role("row", name=MAC.format(0x34).lower())
    expect(row).to_contain_text("user4")
    expect(row).to_contain_text("Make the user at the PBX")
    expect(waiting.get_by_role("row", name="user5")).to_contain_text(f"“{MARKUP}”")
    expect(waiting.locator("img, b")).to_have_count(0)
    assert_open_to_everybody(page, "what waits")
    settle_all()
    page.get_by_role("button", name="Read again").click()
    expect(page.get_by_text("The PBX has heard of every phone.")).to_be_visible()
    expect(trouble).to_have_count(0)
    heard = page.locator('.unseen[role="status"]')
    expect(heard).to_have_text("● Nothing stands in the way of the PBX.")
    page.get_by_role("button", name="Hand over all phones again").click()
    expect(page.locator(".done")).to_contain_text("All phones are handed over once more.")
    go(page, DOMAIN, "audit")
    expect(page.get_by_role("row", name="PBX told again").first).to_be_visible()


def test_the_form_is_filled_in_with_a_keyboard(visitor: Visitor, server: PbxServer) -> None:
    """From field to field in the order in which they stand, and sent by Enter."""
    page = visitor.open()
    sign_in(visitor, page)
    go(page, DOMAIN, "pbx")
    form = page.get_by_role("form", name="PBX settings")
    form.get_by_label("Address").focus()
    for text in (server.url, APP, PASSWORD):
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    expect(form.get_by_label("Find users by")).to_be_focused()
    page.keyboard.press("ArrowDown")
    for words in ("Add and change users", "Reverse Proxy", "TLS only", "No Mobility"):
        page.keyboard.press("Tab")
        expect(form.get_by_label(words)).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    expect(form.get_by_role("button", name="Save")).to_be_focused()
    page.keyboard.press("Enter")
    expect(form.locator(".done")).to_be_visible()
    expect(form.get_by_role("button", name="Save")).to_be_focused()
    expect(form.get_by_label("No Mobility")).to_be_checked()
    expect(form.get_by_label("Find users by")).to_have_value("name")
    page.get_by_role("button", name="Test connection").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="The PBX can be spoken to.")).to_be_visible()
    expect(page.get_by_role("button", name="Test connection")).to_be_focused()


def test_it_is_all_there_in_german(visitor: Visitor, served: Served) -> None:
    """Whatever stands in the way, and the part of Devices."""
    add_phone(served, "user7", 0x37)
    hw_id = HW_ID.format(0x37)
    mark(hw_id, PbxState.FAILED, refused(MARKUP))
    page = german(visitor, "#/profile", "user7")
    told = page.locator("[data-pbx]")
    expect(told).to_have_text(
        f"Nicht an der PBX. Die PBX hat es abgelehnt: „{MARKUP}“. Fragen Sie Ihren Administrator."
    )
    put_pbx()
    put_trouble(Trouble.NO_ANSWER)
    put_waiting(hw_id, "user7", Hindrance.CHANGING)
    page.get_by_role("button", name="Abmelden").click()
    page.get_by_role("banner").get_by_role("button", name="Anmelden").wait_for()
    page = german(visitor, f"#/devices/{DOMAIN}/pbx", "admin")
    trouble = page.locator(".problem", has_text="Versuche")
    expect(trouble).to_contain_text("Die PBX antwortet nicht.")
    expect(page.get_by_role("table")).to_contain_text("Es ist nichts zu tun")
    expect(page.get_by_role("button", name="Verbindung testen")).to_be_visible()
    assert_open_to_everybody(page, "PBX in German")
    settle_all()


def test_a_user_of_another_domain_reads_nothing_of_it(visitor: Visitor) -> None:
    """Who administers no devices has no such part."""
    page = visitor.open(f"#/devices/{DOMAIN}/pbx")
    visitor.sign_in(page, "user6")
    expect(page.get_by_role("alert")).to_contain_text("This page is not for you")
