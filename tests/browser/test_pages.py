"""The frame around the pages: signing in and out, what a view costs, and what goes wrong."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Response, Route, WebSocketRoute, expect

from tests.browser.conftest import Visitor, module_url
from tests.local.served import Served

MAX_FIRST_VIEW_BYTES = 100_000
MAX_FIRST_VIEW_REQUESTS = 10
NARROW = {"width": 320, "height": 640}
THEMES = ("light", "dark")


def assert_open_to_everybody(page: Page, part: str) -> None:
    """Hold that nothing serious keeps people out, in both themes, and that 320 px are enough."""
    for theme in THEMES:
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        # all but the colours is the same in both
        options = {"runOnly": ["color-contrast"]} if theme == "dark" else None
        found = Axe().run(page, options=options).response["violations"]
        serious = [one for one in found if one["impact"] in {"serious", "critical"}]
        told = [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious]
        assert told == [], f"{part}, {theme}"
    page.emulate_media(color_scheme="light")
    size = page.viewport_size
    page.set_viewport_size({"width": NARROW["width"], "height": NARROW["height"]})
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], part
    if size:
        page.set_viewport_size(size)


def test_signing_in_and_out(visitor: Visitor) -> None:
    """At the issuer's page and back to where one was; a reload forgets the token."""
    page = visitor.open("#/profile")
    expect(page.get_by_role("alert")).to_have_text("Sign in to see this page.")
    visitor.sign_in(page, "user2")
    expect(page.get_by_role("heading", level=1)).to_have_text("Profile")
    assert page.url.endswith("#/profile")
    assert "code=" not in page.url
    stored = page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    assert "ey" not in stored
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("From the box to a dial tone")
    expect(page.get_by_role("banner").get_by_role("button", name="Sign in")).to_be_visible()


def test_who_is_refused_is_told(visitor: Visitor) -> None:
    """By the issuer, or because the sign-in was somebody else's."""
    page = visitor.open()
    page.get_by_role("banner").get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="nobody").click()
    expect(page.get_by_role("alert")).to_have_text("You were not signed in.")
    page.goto(f"{visitor.url}?state=mine&code=x")
    expect(page.get_by_role("alert")).to_contain_text("begun in another tab")


def test_what_is_not_for_somebody_is_said(visitor: Visitor) -> None:
    """And nothing that is not there leads nowhere."""
    page = visitor.open("#/nowhere")
    expect(page.get_by_role("heading", level=1)).to_have_text("From the box to a dial tone")
    visitor.sign_in(page, "user2")
    expect(page.get_by_role("heading", level=1)).to_have_text("Profile")


def test_pages_speak_german(visitor: Visitor) -> None:
    """Where the browser asks for it."""
    page = visitor.context.new_page()
    page.add_init_script("Object.defineProperty(navigator, 'language', {value: 'de-AT'})")
    page.goto(visitor.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("Vom Karton zum Wählton")
    assert page.locator("html").get_attribute("lang") == "de"


def test_the_first_view_is_light_and_the_second_asks_for_the_document_alone(
    visitor: Visitor,
) -> None:
    """At most 100 KB in ten requests; what never changes is not asked for again."""
    answers: list[Response] = []
    visitor.context.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 - Playwright marks what it is given
    page = visitor.open()
    page.get_by_role("heading", level=1).wait_for()
    sizes = [answer.request.sizes() for answer in answers]
    total = sum(one["responseBodySize"] + one["responseHeadersSize"] for one in sizes)
    assert len(answers) <= MAX_FIRST_VIEW_REQUESTS
    assert total <= MAX_FIRST_VIEW_BYTES
    again = visitor.context.new_page()
    told: list[dict[str, Any]] = []
    session = visitor.context.new_cdp_session(again)
    session.on("Network.responseReceived", lambda event: told.append(event["response"]))
    session.send("Network.enable")
    again.goto(visitor.url)
    again.get_by_role("heading", level=1).wait_for()
    kept = [one["url"] for one in told if one["fromDiskCache"] or one.get("fromPrefetchCache")]
    asked = {one["url"].removeprefix(visitor.url) for one in told if one["url"] not in kept}
    assert asked == {"", "config.json"}
    assert any(url.endswith("/app.js") for url in kept)


def test_a_token_is_renewed_and_its_end_loses_nothing(visitor: Visitor) -> None:
    """While the issuer renews it nobody notices; then what was typed stays on the page."""
    page = visitor.open()
    page.clock.install()
    visitor.sign_in(page, "user3")
    page.clock.fast_forward("59:30")
    page.get_by_role("combobox").select_option("Reception")
    page.get_by_role("button", name="Get a code").click()
    # the code is good for ten minutes of the service's clock, which the page's is ahead of
    expect(page.get_by_text("This code has expired.")).to_be_visible()
    page.get_by_role("button", name="Another code").click()
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.fulfill(status=400, content_type="application/json", body='{"error": "x"}')

    visitor.context.route("**/issuer/token", refuse)
    page.clock.fast_forward("02:00:00")
    page.get_by_role("combobox").select_option("Reception")
    page.get_by_role("button", name="Get a code").click()
    banner = page.get_by_text("You are not signed in any more.")
    expect(banner).to_be_visible()
    assert page.get_by_role("combobox").input_value() == "Reception"
    assert len(refused) == 1
    visitor.expect_complaints("status of 400", "status of 401")


def sign_in_beside(page: Page, name: str) -> Page:
    """Sign in again in the window that opens for it."""
    with page.expect_popup() as opened:
        page.get_by_role("status").get_by_role("button", name="Sign in").click()
    opened.value.get_by_role("link", name=f"({name})", exact=False).click()
    return opened.value


def test_signing_in_again_leaves_the_page_as_it_is(visitor: Visitor) -> None:
    """It happens in a window beside, for the same person alone; then the same button works."""
    page = visitor.open()
    visitor.sign_in(page, "user7")
    page.get_by_role("combobox").select_option("Reception")
    page.evaluate("typed = 'this page'")
    is_ended = [True]

    def end(route: Route) -> None:
        if not is_ended[0]:
            route.continue_()
            return
        body = {"type": "urn:dialtone:problem:not-signed-in", "title": "Not signed in"}
        route.fulfill(status=401, json=body, content_type="application/problem+json")

    page.route("**/api/me/codes", end)
    page.get_by_role("button", name="Get a code").click()
    expect(page.get_by_text("You are not signed in any more.")).to_be_visible()
    is_ended[0] = False
    somebody_else = sign_in_beside(page, "user8")
    expect(page.get_by_text("You signed in as somebody else")).to_be_visible()
    expect(page.get_by_role("banner")).to_contain_text("User 7")
    eventually(page, somebody_else.is_closed)
    beside = sign_in_beside(page, "user7")
    expect(page.get_by_role("status").get_by_role("button", name="Sign in")).to_have_count(0)
    eventually(page, beside.is_closed)
    assert page.evaluate("typed") == "this page"
    expect(page.get_by_role("combobox")).to_have_value("Reception")
    page.get_by_role("button", name="Get a code").click()
    page.locator(".code").wait_for()
    visitor.expect_complaints("status of 401")


def test_a_refused_login_is_said(visitor: Visitor) -> None:
    """To wait for a connection would be in vain; who signs in again has one."""
    is_refused = [True]

    def refuse(socket: WebSocketRoute) -> None:
        if is_refused[0]:
            told = json.dumps({"mt": "UserLoginResult", "error": "not allowed"})
            socket.on_message(lambda _: socket.send(told))
        else:
            socket.connect_to_server()

    visitor.context.route_web_socket("**/ws", refuse)
    page = visitor.open()
    visitor.sign_in(page, "user9")
    expect(page.get_by_text("You are not signed in any more.")).to_be_visible()
    is_refused[0] = False
    sign_in_beside(page, "user9")
    expect(page.get_by_text("You are not signed in any more.")).to_be_hidden()


def test_the_focus_stays_where_one_was(visitor: Visitor, served: Served) -> None:
    """What is replaced gives it to what stands there then; news take it from nobody."""
    page = visitor.open()
    visitor.sign_in(page, "user10")
    page.get_by_role("button", name="Get a code").press("Enter")
    code = page.locator(".code [aria-hidden]").inner_text().replace("\n", "")
    adding = page.get_by_role("region", name="Add a phone")
    expect(adding).to_be_focused()
    page.get_by_role("button", name="Copy").focus()
    served.redeem(code, "0090336e0001", "127.0.0.9")
    expect(page.get_by_text("Your phone is here.").first).to_be_visible()
    expect(adding).to_be_focused()
    page.get_by_role("button", name="Remove").press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Remove").press("Enter")
    expect(page.get_by_role("region", name="My phones")).to_be_focused()


def test_a_lost_connection_is_said_and_made_good(visitor: Visitor, served: Served) -> None:
    """What happened meanwhile is on the page as soon as there is a connection again."""
    sockets: list[WebSocketRoute] = []
    is_cut = [False]

    def through(socket: WebSocketRoute) -> None:
        if is_cut[0]:
            socket.close()
            return
        socket.connect_to_server()
        sockets.append(socket)

    visitor.context.route_web_socket("**/ws", through)
    page = visitor.open()
    visitor.sign_in(page, "user4")
    page.get_by_role("button", name="Get a code").click()
    page.locator(".code").wait_for()
    eventually(page, lambda: len(sockets) == 1)
    is_cut[0] = True
    sockets[0].close()
    expect(page.get_by_text("No connection")).to_be_visible()
    token = served.token("user4")
    (code,) = json.loads(served.ask("GET", "/api/me/codes", token=token)[2])["items"]
    served.ask("DELETE", f"/api/me/codes/{code['code_id']}", token=token)
    is_cut[0] = False
    expect(page.get_by_text("This code was revoked.")).to_be_visible()
    expect(page.get_by_text("No connection")).to_be_hidden()


def test_a_connection_that_died_in_silence_is_given_up(visitor: Visitor) -> None:
    """It takes what is sent, and nothing comes back: the next one is heard."""
    opened: list[WebSocketRoute] = []

    def through(socket: WebSocketRoute) -> None:
        number = len(opened)
        opened.append(socket)
        server = socket.connect_to_server()

        def back(told: str | bytes) -> None:
            if number > 0 or "KeepAlive" not in str(told):
                socket.send(told)

        server.on_message(back)

    visitor.context.route_web_socket("**/ws", through)
    page = visitor.open()
    page.clock.install()
    visitor.sign_in(page, "user5")
    expect(page.get_by_text("No connection")).to_be_hidden()
    eventually(page, lambda: len(opened) == 1)
    for _ in range(4):
        page.wait_for_timeout(500)
        page.clock.fast_forward("05:01")
    eventually(page, lambda: len(opened) == 2)
    expect(page.get_by_text("No connection")).to_be_hidden()
    for _ in range(4):
        page.wait_for_timeout(500)
        page.clock.fast_forward("05:01")
    assert len(opened) == 2


def eventually(page: Page, is_so: Callable[[], Any]) -> None:
    """Wait until something is so."""
    for _ in range(100):
        if is_so():
            return
        page.wait_for_timeout(100)
    pytest.fail("it did not happen")


def test_the_start_and_profile_are_open_to_everybody(visitor: Visitor) -> None:
    """Light and dark, and on a narrow screen; with a code, and without."""
    page = visitor.open()
    page.get_by_role("heading", level=1).wait_for()
    assert_open_to_everybody(page, "start")
    visitor.sign_in(page, "user5")
    page.get_by_role("heading", name="My phones").wait_for()
    assert_open_to_everybody(page, "profile")
    page.get_by_role("button", name="Get a code").click()
    page.locator(".code").wait_for()
    assert_open_to_everybody(page, "profile with a code")


def test_what_the_service_says_is_said_in_german(german: Visitor) -> None:
    """Faults at their fields, and refusals, whatever numbers are in them."""
    page = german.open()
    german.sign_in(page, "admin")
    page.goto(f"{german.url}#/devices/example.com/settings")
    page.get_by_label("Devices-URL").fill("ftp://nowhere")
    page.get_by_role("button", name="Speichern").click()
    fault = page.locator('[data-field="devices_url"] .fault')
    expect(fault).to_contain_text("Eine ganze URL (http, https, ws, wss), höchstens")
    page.goto(f"{german.url}#/rollouts/new")
    page.get_by_role("button", name="Weiter").click()
    page.get_by_role("button", name="Weiter").click()
    page.get_by_text("Benutzer aus einer Datei").click()
    file = {"name": "b.csv", "mimeType": "text/csv", "buffer": b"sip;nummer\nx1;abc\nx1;2\n"}
    page.get_by_label("Datei").set_input_files(file)  # type: ignore[arg-type] # a file payload
    page.get_by_role("button", name="Datei prüfen").click()
    expect(page.get_by_text("nur Ziffern, Leerzeichen und")).to_be_visible()
    expect(page.get_by_text("steht schon in Zeile 2")).to_be_visible()
    page.goto(f"{german.url}#/rollouts/nowhere")
    expect(page.get_by_role("alert")).to_contain_text("Diese Registrierungen gibt es nicht")
    german.expect_complaints("status of 400", "status of 404")


def test_a_hardware_id_is_written_as_it_is_printed(visitor: Visitor) -> None:
    """That of an analogue phone as its gateway's, and the interface behind it."""
    page = visitor.open()
    written = page.evaluate(
        "async ([module, ids]) => ids.map((await import(module)).hwIdOf)",
        [module_url(page, "dom.js"), ["009033460af2", "009033460af2-TEL1"]],
    )
    assert written == ["00-90-33-46-0a-f2", "00-90-33-46-0a-f2 TEL1"]
