"""Try it: the phone on a page, and its update client beside the one of `make phone`."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page, Route, expect

from chalicelib.core import scripts
from chalicelib.observability import redact
from local.update_client import UpdateClient
from tests.browser.conftest import Visitor, module_url
from tests.browser.test_pages import assert_open_to_everybody
from tests.local.served import Served
from tests.local.test_phone_journeys import EVERYTHING, FORM, JOURNEY, ON_TO_DEVICES

Run = tuple[str, int, str | None]
"""A script, the hour, and the code that somebody types then."""

FACTORY_URLS = ("http://central.example/init", "https://central.example/init?x=1&mac=#m")
SOME_LINES = (
    *FORM.split("\r\n"),
    *ON_TO_DEVICES.split("\r\n"),
    *EVERYTHING.split("\r\n"),
    "config",
    "config add",
    "config add UP1",
    "config add UP1 /poll",
    "config add UP1 word /option  a%20b %zz %c3%a4 %c3 %C3a ä%a4 %ef%bb%bfx",
    "config add UP1 /url %20",
    "config add UP1 /url",
    "config add __proto__ /constructor 1",
    "config change UP1",
    "config change SYSCLIENT wss%3A%2F%2Fx%2Fsysclients /sysadmin",
    "config rem UP1 /url",
    "config rem UP1",
    "config rem X /y",
    "config rem UP1 /provision",
    "config write now",
    "config activate",
    "config write",
    "vars create A p",
    "vars create A",
    "vars create 2 h two   words",
    "vars create __proto__ p 1",
    "vars del A",
    "vars del",
    "vars create UPDATE/CHECK p 7",
    "vars create UPDATE/PROVISIONING-CODE p !'()*~ ä",
    "vars create UPDATE/PROVISIONING-CODE h prompt",
    "vars del UPDATE/PROVISIONING-CODE",
    "mod cmd UP1 setvar r-type x y",
    "mod cmd UP1 setvar",
    "mod cmd UP1 provision 3",
    "mod cmd UP1 provision",
    "mod cmd UP1 check ser 7",
    "mod cmd UP1 check ireset 8",
    "mod cmd UP1 check iresetn 9",
    "mod cmd UP1 check 9",
    "mod cmd UP1 times",
    "mod cmd UP1 times /allow 3,4",
    "mod cmd UP1 times /allow 3 /initial 5",
    "mod cmd UP1 times /initial /allow",
    "mod cmd UP0 prot http://f/p.bin ireset 134250",
    "mod cmd UP0 prot http://f/p.bin iresetn 13%34250",
    "mod cmd UP0 boot http://f/{build}$&.bin ser 131286",
    "mod cmd UP0 boot http://f/b.bin iresetn",
    "iresetn",
    "iresetn now",
    "\x1cconfig\x85write\u2003",
    "\ufeffconfig write",
    "#",
    " # comment",
    "launch rockets",
    "prompt",
)

IN_BROWSER = """async ([module, texts, url, runs]) => {
  const { EFFECTS, UpdateClient } = await import(module);
  const words = (await import(texts)).default;
  const unsaid = Object.keys(EFFECTS).filter((name) => words[`effect.${name}`] === undefined);
  const client = new UpdateClient("00-90-33-3d-12-34", "IP232", "127.0.0.1", url);
  const plain = (modules) => [...modules].map(([name, options]) => [name, [...options]]);
  const told = runs.map(([script, hour, code]) => {
    if (code !== null) client.typeCode(code);
    const steps = client.execute(script, hour).map(({ line, effect }) => [line, effect]);
    return [
      steps, client.url(), client.showsCodeForm, [...client.variables], plain(client.pending),
      plain(client.written), plain(client.active), Object.entries(client.running),
      [...client.faults],
    ];
  });
  const again = UpdateClient.started(JSON.parse(JSON.stringify(client.kept())), "127.0.0.1", url);
  const kept = [
    [...again.variables], plain(again.written), again.running, plain(again.active),
  ];
  return { told, unsaid, kept };
}"""


def in_python(url: str, runs: list[Run]) -> list[list[Any]]:
    """Run scripts on the simulated phone, and tell all of it after each."""
    client = UpdateClient("00-90-33-3d-12-34", "IP232", "127.0.0.1", url)

    def plain(configuration: dict[str, dict[str, str]]) -> list[Any]:
        return [[name, _pairs(options)] for name, options in configuration.items()]

    told = []
    for script, hour, code in runs:
        if code is not None:
            client.type_code(code)
        steps = [[step.line, step.effect] for step in client.execute(script, hour)]
        told.append(
            [
                steps,
                client.url(),
                client.shows_code_form,
                _pairs(client.variables),
                plain(client.pending),
                plain(client.written),
                plain(client.active),
                _pairs(client.running),
                list(client.faults),
            ]
        )
    return told


def _pairs(values: dict[str, str]) -> list[list[str]]:
    return [list(pair) for pair in values.items()]


@pytest.fixture
def ran(visitor: Visitor) -> Callable[[str, list[Run]], None]:
    """Run scripts on both update clients, and hold one against the other."""
    page = visitor.open()
    module, texts = module_url(page, "update_client.js"), module_url(page, "texts.en.js")

    def run(url: str, runs: list[Run]) -> None:
        given_runs = [list(one) for one in runs]
        told = page.evaluate(IN_BROWSER, [module, texts, url, given_runs])
        expected = in_python(url, runs)
        for told_one, expected_one in zip(told["told"], expected, strict=True):
            assert told_one == expected_one
        assert told["unsaid"] == []
        _, _, _, variables, _, written, _, running, _ = expected[-1]
        assert told["kept"] == [variables, written, dict(running), written]

    return run


def test_both_update_clients_do_the_same_on_a_journey(
    ran: Callable[[str, list[Run]], None],
) -> None:
    """From the form to nothing to do, through firmware, a restart and a code that ends with #."""
    form, on, everything, nothing = JOURNEY
    ran(
        FACTORY_URLS[0],
        [
            (form, 12, None),
            (on, 12, "1234 5678 9012#"),
            (everything, 12, None),
            (nothing, 12, None),
            (everything, 12, None),
            (scripts.v12_clean_up(), 12, None),
            (scripts.show_code_form(), 12, None),
        ],
    )


@pytest.mark.parametrize("url", FACTORY_URLS)
def test_both_update_clients_do_the_same_with_every_kind_of_line(
    ran: Callable[[str, list[Run]], None], url: str
) -> None:
    """One line after another on the same phone, the odd ones as well; and all of them together."""
    ran(url, [(line, at % 24, None) for at, line in enumerate(SOME_LINES)])
    ran(url, [("\n".join(SOME_LINES), 3, None), ("\r\n".join(SOME_LINES), 4, "12#3#")])


def test_both_update_clients_do_the_same_with_anything(
    ran: Callable[[str, list[Run]], None],
) -> None:
    """Whatever stands in a script, in whatever order."""
    words = sorted({word for line in SOME_LINES for word in line.split()} | {"ireset", "8", "9"})
    odd = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    made = st.lists(st.one_of(st.sampled_from(words), odd), max_size=7).map(" ".join)
    lines = st.lists(st.one_of(st.sampled_from(SOME_LINES), made), max_size=8)
    whole = lines.flatmap(
        lambda some: st.sampled_from(("\n", "\r\n")).map(lambda end: end.join(some))
    )
    runs = st.lists(st.tuples(whole, st.integers(0, 23), st.none() | odd), min_size=1, max_size=3)

    @given(url=st.sampled_from(FACTORY_URLS), runs=runs)
    def hold(url: str, runs: list[Run]) -> None:
        ran(url, runs)

    hold()


def test_the_page_masks_what_the_service_masks(visitor: Visitor) -> None:
    """The same texts, the same masks."""
    texts = [
        "http://x/init?PROVISIONING-CODE=1234%205678%209012&CHECK=",
        "http://x/init?PROVISIONING-CODE=prompt&device_token=abc",
        "http://x/?url=y%3Ftoken%3Dabc%2526x%26z%3D1&code%253dabc%2526rest",
        "config add UP1 /url http%3A%2F%2Fx%3Fsn%3D%23m%26device_token%3D" + "t" * 43,
        "config add PHONE /name 009033aabbcc /pwd s%20ecret /gk-id x",
        "config add CMD0 /user admin,secret%2Cmore",
        "config add CMD0 /user admin%2csecret",
        "Authorization: Bearer abc.def== eyJh.eyJi.c",
        "type 1234 5678 9012, 1234-5678-9012 or 123456789012; not 00-90-33-12-34-56",
        "nothing to hide: /devices/update?CHECK=abc",
        *SOME_LINES,
    ]
    page = visitor.open()
    masked = page.evaluate(
        "async ([module, texts]) => texts.map((await import(module)).redact)",
        [module_url(page, "redact.js"), texts],
    )
    assert masked == [redact(text) for text in texts]
    assert len([text for text, left in zip(texts, masked, strict=True) if text != left]) >= 9


# --- the page


def issue(visitor: Visitor, name: str) -> tuple[Page, str]:
    """Sign somebody in and get them a code: the tab, and the 12 digits."""
    profile = visitor.open("#/profile")
    visitor.sign_in(profile, name)
    profile.get_by_role("button", name="Get a code").click()
    digits = profile.locator(".code [aria-hidden]").inner_text().replace("\n", "")
    return profile, digits


def said(page: Page) -> Any:  # noqa: ANN401 - Playwright's own type
    """Hold what the display says."""
    return expect(page.locator(".display").get_by_role("status"))


def press(page: Page, keys: str) -> None:
    """Press keys of the keypad, one after another."""
    keypad = page.get_by_role("group", name="Keypad")
    for key in keys:
        keypad.get_by_role("button", name={"*": "Star"}.get(key, key), exact=True).click()


def mac_of(page: Page) -> str:
    """Read the phone's MAC off the page."""
    return page.locator(".inside dd").first.inner_text().split()[-1]


def asking(visitor: Visitor) -> Page:
    """Open the page; the phone asks for a code."""
    page = visitor.open("#/try")
    said(page).to_have_text("Type the provisioning code and press OK.")
    return page


def test_the_front_page_leads_to_the_phone(visitor: Visitor) -> None:
    """Nobody has to sign in, and the first thing to type is the code."""
    page = visitor.open()
    page.get_by_role("link", name="Try it with a phone").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Try it")
    expect(page.get_by_label("Provisioning code:")).to_be_focused()
    with visitor.context.expect_page() as opened:
        page.get_by_role("link", name="Profile in another tab").click()
    expect(opened.value.get_by_role("alert")).to_have_text("Sign in to see this page.")


def test_a_code_typed_by_clicks_brings_the_phone_to_its_person(visitor: Visitor) -> None:
    """Profile shows it without a reload, and the phone says so; no secret is on the page."""
    profile, digits = issue(visitor, "user6")
    page = asking(visitor)
    press(page, digits[:5] + "*" + "0")
    page.get_by_role("button", name="Correct the last digit").click()
    press(page, digits[5:])
    expect(page.get_by_label("Provisioning code:")).to_have_value(
        f"{digits[:4]} {digits[4:8]} {digits[8:]}"
    )
    page.get_by_role("button", name="OK").click()
    said(page).to_have_text("Registered, up to date.")
    expect(profile.get_by_text("Your phone is here.").first).to_be_visible()
    row = profile.get_by_role("row", name="IP232")
    expect(row).to_contain_text(mac_of(page))
    expect(row.get_by_text("up to date")).to_be_visible()
    expect(page.locator(".inside dl")).to_contain_text("134250")
    told = page.locator(".inside").inner_text()
    assert "device_token%3D***" in told
    assert "PROVISIONING-CODE=***" in told
    token = json.loads(page.evaluate("sessionStorage.getItem('phone')"))
    (written,) = [dict(options) for name, options in token["written"] if name == "UP1"]
    secret = written["/url"].partition("device_token=")[2].partition("&")[0]
    assert len(secret) >= 22
    for hidden in (secret, digits, f"{digits[:4]} {digits[4:8]} {digits[8:]}"):
        assert hidden not in told


def test_a_code_typed_on_the_keyboard_does_the_same(visitor: Visitor) -> None:
    """In the field with Enter or #, and on the keys of the phone; a reload is a power cycle."""
    profile, digits = issue(visitor, "user7")
    page = asking(visitor)
    page.keyboard.type(f"{digits[:4]} {digits[4:6]}99")
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.get_by_role("button", name="7", exact=True).focus()
    page.keyboard.type(digits[6:9])
    page.keyboard.press("Backspace")
    page.keyboard.type(f"{digits[8:]}#")
    said(page).to_have_text("Registered, up to date.")
    expect(profile.get_by_role("row", name=mac_of(page)).get_by_text("up to date")).to_be_visible()
    mac = mac_of(page)
    page.reload()
    said(page).to_have_text("Registered, up to date.")
    assert mac_of(page) == mac
    page.get_by_label("Model").select_option("IP112")
    page.get_by_role("button", name="Factory reset").click()
    said(page).to_have_text("Type the provisioning code and press OK.")
    assert mac_of(page) != mac
    expect(page.locator(".inside dd").first).to_contain_text("IP112 00-90-33-")


def test_a_wrong_code_brings_the_form_again(visitor: Visitor) -> None:
    """With a word on it; too few digits are not even sent."""
    page = asking(visitor)
    page.keyboard.type("1234")
    page.keyboard.press("Enter")
    said(page).to_have_text("A code has 12 digits, this has 4.")
    page.keyboard.type("5678 9012")
    page.keyboard.press("Enter")
    said(page).to_have_text("This code was not accepted. Check it and type it again.")
    expect(page.get_by_label("Provisioning code:")).to_have_value("")
    expect(page.get_by_label("Provisioning code:")).to_be_focused()


def test_a_phone_that_was_given_up_asks_again(visitor: Visitor) -> None:
    """And can be had by somebody else with another code."""
    profile, digits = issue(visitor, "user8")
    page = asking(visitor)
    page.keyboard.type(f"{digits}#")
    said(page).to_have_text("Registered, up to date.")
    row = profile.get_by_role("row", name=mac_of(page))
    row.get_by_role("button", name="Remove").click()
    profile.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(profile.get_by_text("You have no phone yet.")).to_be_visible()
    page.get_by_role("button", name="Ask now").click()
    said(page).to_have_text("Type the provisioning code and press OK.")
    profile.get_by_role("button", name="Another code").click()
    profile.get_by_role("button", name="Get a code").click()
    digits = profile.locator(".code [aria-hidden]").inner_text().replace("\n", "")
    page.get_by_label("Provisioning code:").fill(digits)
    page.keyboard.press("Enter")
    said(page).to_have_text("Registered, up to date.")


def test_a_service_that_has_no_time_costs_no_code(visitor: Visitor, served: Served) -> None:
    """No answer, and the comment that asks to come back: the phone keeps what was typed."""
    code = served.code(served.token("user9"))
    page = asking(visitor)

    def late(route: Route) -> None:
        route.fulfill(content_type="text/plain", body="# dialtone: too many attempts\r\n")

    page.route("**/api/init*", lambda route: route.abort())
    page.keyboard.type(code)
    page.keyboard.press("Enter")
    said(page).to_have_text("No answer. The phone keeps what was typed and asks again.")
    page.unroute("**/api/init*")
    page.route("**/api/init*", late)
    page.get_by_role("button", name="Ask now").click()
    said(page).to_have_text(
        "The service asks to wait. The phone keeps what was typed and asks again."
    )
    page.unroute("**/api/init*")
    page.get_by_role("button", name="Ask now").click()
    said(page).to_have_text("Registered, up to date.")
    visitor.expect_complaints("net::ERR_FAILED")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (scripts.update_client("https://elsewhere.example/u").text, "https://elsewhere.example"),
        (scripts.sysclient("wss://devices.example/x/sysclients").text, "wss://devices.example"),
        (scripts.update_client("no address").text, "no address"),
    ],
)
def test_where_a_browser_may_not_go_is_said(visitor: Visitor, line: str, words: str) -> None:
    """Another address, or a websocket of the phone's own."""

    def away(route: Route) -> None:
        body = f"{line}\r\nvars del UPDATE/PROVISIONING-CODE\r\nconfig write\r\nconfig activate\r\n"
        route.fulfill(content_type="text/plain", body=body)

    page = visitor.context.new_page()
    page.route("**/api/init*", away)
    page.goto(f"{visitor.url}#/try")
    said(page).to_contain_text(words)


def test_firmware_takes_its_time_where_motion_is_wanted(visitor: Visitor, served: Served) -> None:
    """A bar, a restart, and then the phone goes on by itself; leaving the page ends it."""
    page = visitor.context.new_page()
    page.emulate_media(reduced_motion="no-preference")
    page.goto(f"{visitor.url}#/try")
    said(page).to_have_text("Type the provisioning code and press OK.")
    page.get_by_label("Provisioning code:").fill(served.code(served.token("user10")))
    page.keyboard.press("Enter")
    expect(page.get_by_role("progressbar", name="Progress")).to_be_visible()
    said(page).to_have_text("Restarting …")
    said(page).to_have_text("Registered, up to date.")
    expect(page.get_by_role("progressbar")).to_be_hidden()
    page.get_by_role("link", name="Dialtone").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("From the box to a dial tone")


def test_try_it_is_open_to_everybody(visitor: Visitor, served: Served) -> None:
    """Light and dark, and on a narrow screen; asking, refused, and registered."""
    page = asking(visitor)
    assert_open_to_everybody(page, "asking")
    page.get_by_label("Provisioning code:").fill("12")
    page.keyboard.press("Enter")
    assert_open_to_everybody(page, "too short")
    page.get_by_label("Provisioning code:").fill(served.code(served.token("user11")))
    page.keyboard.press("Enter")
    said(page).to_have_text("Registered, up to date.")
    assert_open_to_everybody(page, "registered")
