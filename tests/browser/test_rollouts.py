"""Register phones in a browser: from the users to the last phone, and what goes wrong."""

import csv
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, WebSocket, expect

from local.phone import fetch_from, run_phone
from local.update_client import UpdateClient
from tests.browser.conftest import Visitor
from tests.browser.test_pages import assert_open_to_everybody, eventually
from tests.local.served import Served

USERS = [f"user{number}" for number in range(1, 21)]
LATE_MS = 60_000
LIFETIME_MS = 7 * 24 * 60 * 60 * 1000


def ask(served: Served, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    """Call as the administrator, from elsewhere."""
    token = served.token("admin")
    status, _, text = served.ask(method, f"/api{path}", token=token, body=body)
    assert status in {200, 201}, text
    return json.loads(text)


def add_users(served: Served, name: str, count: int) -> list[str]:
    """Add users whose sips have a name in them; they are listed after everyone else."""
    sips = [f"z-{name}{number:04}" for number in range(count)]
    ask(served, "POST", "/users", {"users": [{"sip": sip, "name": sip} for sip in sips]})
    return sips


def make_rollout(served: Served, sips: list[str], name: str = "Made elsewhere") -> str:
    """Make a rollout, from elsewhere."""
    wanted = {"name": name, "category": "Office", "users": sips}
    return str(ask(served, "POST", "/rollouts", wanted)["rollout_id"])


def codes(served: Served, rollout_id: str) -> dict[str, str]:
    """Read the codes, from elsewhere; by the users' names."""
    path = f"/api/rollouts/{rollout_id}/codes.csv"
    return codes_of(served.ask("GET", path, token=served.token("admin"))[2])


def codes_of(text: str, delimiter: str = ",") -> dict[str, str]:
    """Read a code list."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter)
    return {row["name"]: row["code"] for row in rows}


def provision(served: Served, code: str, number: int) -> None:
    """Let a simulated phone type a code and poll until nothing is left to do."""
    url = f"http://127.0.0.1:{served.port}/init"
    client = UpdateClient(f"00-90-33-6d-00-{number:02x}", "IP232", "127.0.0.1", url)
    fetch = fetch_from(f"127.0.0.{number + 20}")
    assert run_phone(client, fetch, code, pause_seconds=0.02).is_registered


def come(visitor: Visitor, where: str = "", who: str = "admin") -> Page:
    """Come to a page of Register phones, and sign in."""
    page = visitor.open(f"#/rollouts{where}")
    sign_in(visitor, page, who)
    return page


def sign_in(visitor: Visitor, page: Page, who: str = "admin") -> None:
    """Sign in, and wait until what changes is heard."""
    heard: list[str | bytes] = []

    def listen(opened: WebSocket) -> None:
        opened.on("framereceived", lambda frame: heard.append(frame))  # noqa: PLW0108 - Playwright marks what it is given

    page.on("websocket", listen)
    visitor.sign_in(page, who)
    eventually(page, lambda: bool(heard))


def go_to_users(page: Page) -> None:
    """Take the first two steps."""
    expect(page.get_by_text("The service answers.")).to_be_visible()
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("searchbox").wait_for()


def row_of(page: Page, sip: str) -> Locator:
    """Find a user's row."""
    return page.locator(f'tr[data-sip="{sip}"]')


def test_a_rollout_from_the_users_to_their_phones(
    visitor: Visitor, served: Served, tmp_path: Path
) -> None:
    """Four steps, a file and slips to hand out, and every phone shows as it comes."""
    page = come(visitor)
    page.get_by_role("link", name="New registrations").click()
    expect(page.get_by_text("Changes show live.")).to_be_visible()
    page.get_by_role("button", name="Next", exact=True).click()
    expect(page.get_by_role("combobox", name="Category")).to_have_value("Office")
    expect(page.get_by_text("Phone app")).to_be_visible()
    page.get_by_role("textbox", name="Name").fill("Autumn")
    page.get_by_role("textbox", name="Note").fill("second floor")
    page.get_by_role("textbox", name="Name").press("Enter")
    expect(page.get_by_role("heading", name="Users")).to_be_focused()
    page.get_by_role("searchbox").fill("user ")
    page.get_by_role("button", name="Select all that were found").click()
    expect(page.get_by_text("20 selected")).to_be_visible()
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("button", name="Issue codes (20)").dblclick()
    expect(page.get_by_role("heading", level=1)).to_have_text("Autumn")
    expect(page.get_by_text("0 of 20 registered")).to_be_visible()
    names = [one["name"] for one in ask(served, "GET", "/rollouts")["items"]]
    assert names.count("Autumn") == 1
    with page.expect_download() as downloading:
        page.get_by_role("combobox", name="Separator").select_option("Semicolon")
        page.get_by_role("button", name="Download codes").click()
    assert downloading.value.suggested_filename == "Autumn.csv"
    file = tmp_path / "codes.csv"
    downloading.value.save_as(file)
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    told = codes_of(file.read_text(encoding="utf-8"), ";")
    assert len(told) == len(USERS)
    assert_slips(page, told)
    stored = page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    assert not any(code in stored or code.replace(" ", "") in stored for code in told.values())
    with ThreadPoolExecutor(4) as hands:
        list(hands.map(lambda at: provision(served, list(told.values())[at], at), range(20)))
    expect(page.get_by_text("20 of 20 registered")).to_be_visible(timeout=LATE_MS)
    expect(page.locator('td .state[data-state="registered"]')).to_have_count(20)
    expect(page.get_by_text(re.compile("IP232 00-90-33-6d-00-.., up to date"))).to_have_count(20)
    page.get_by_role("button", name="pending 0").click()
    expect(page.get_by_text("None in this state.")).to_be_visible()
    page.get_by_role("link", name="All registrations").click()
    expect(page.get_by_role("row", name="Autumn")).to_contain_text("second floor")


def assert_slips(page: Page, told: dict[str, str]) -> None:
    """Hold that the slips show as the service wrote them, and go with their window."""
    page.get_by_role("button", name="Print slips").click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("article")).to_have_count(len(told))
    one = frame.get_by_role("article").filter(has_text="User 7")
    expect(one.locator(".code")).to_have_text(told["User 7"])
    size = one.locator(".code").evaluate("(code) => getComputedStyle(code).fontSize")
    assert size == "32px"  # 24pt, of the slips' own style
    page.locator("iframe").evaluate("(one) => (one.contentWindow.print = () => (one.title = '!'))")
    page.get_by_role("button", name="Print this part").click()
    expect(page.locator("iframe")).to_have_attribute("title", "!")
    page.keyboard.press("Escape")
    expect(page.locator("iframe")).to_have_count(0)


def test_users_are_imported_from_a_file_with_a_wrong_line(visitor: Visitor, served: Served) -> None:
    """The file is checked first; the wrong line says what is wrong, and can be left out."""
    page = come(visitor)
    page.get_by_text("Import users from a file").click()
    text = "sip;name;number;room\nfile1;One;201;1\nfile2;Two;not a number;2\nuser1;User 1;101;3\n"
    file = {"name": "users.csv", "mimeType": "text/csv", "buffer": text.encode()}
    page.get_by_label("File").set_input_files(file)  # type: ignore[arg-type] # a file payload
    page.get_by_role("button", name="Check the file").click()
    expect(
        page.get_by_text("1 to be added, 0 to be changed, 1 unchanged, 1 wrong.").first
    ).to_be_visible()
    expect(page.get_by_text("mean nothing here: room")).to_be_visible()
    expect(page.locator('tr[data-line="3"]')).to_contain_text("Number: digits, blanks")
    real = page.get_by_role("button", name="Import users (1)")
    expect(real).to_be_disabled()
    page.get_by_role("checkbox", name="Leave out the wrong lines").check()
    real.dblclick()
    expect(page.get_by_text("1 added, 0 changed, 1 unchanged, 1 left out.").first).to_be_visible()
    sips = {user["sip"] for user in ask(served, "GET", "/users?limit=1000")["items"]}
    assert "file1" in sips
    assert "file2" not in sips


def test_a_file_that_is_no_list_of_users_is_refused(visitor: Visitor) -> None:
    """With what is wrong with it."""
    page = come(visitor)
    page.get_by_text("Import users from a file").click()
    file = {"name": "users.csv", "mimeType": "text/csv", "buffer": b"colour;size\nred;9\n"}
    page.get_by_label("File").set_input_files(file)  # type: ignore[arg-type] # a file payload
    page.get_by_role("button", name="Check the file").click()
    expect(page.get_by_role("alert")).to_contain_text("no column has the user's sip")
    visitor.expect_complaints("status of 400")


def test_users_are_searched_and_selected_over_all_pages(visitor: Visitor, served: Served) -> None:
    """A page of them is in the document, however many there are."""
    add_users(served, "many", 230)
    count = len(ask(served, "GET", "/users?limit=1000")["items"])
    page = come(visitor, "/new")
    go_to_users(page)
    expect(page.locator("tr[data-sip]")).to_have_count(100)
    page.get_by_role("searchbox").fill("user20")
    expect(page.get_by_text("users loaded so far were searched")).to_be_visible()
    page.get_by_role("button", name="Search all users").click()
    expect(page.locator("tr[data-sip]")).to_have_count(1)
    page.get_by_role("checkbox", name="Select User 20").check()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Next page").click()
    expect(page.locator(".pager").get_by_text("Page 2")).to_be_visible()
    page.get_by_role("checkbox", name="Select everyone on this page").check()
    expect(page.get_by_text("101 selected")).to_be_visible()
    page.get_by_role("button", name="Select all users").click()
    expect(page.get_by_text(f"{count} selected, of {count} users.")).to_be_visible()
    expect(page.locator("tr[data-sip]")).to_have_count(100)
    page.get_by_role("button", name="Select none").click()
    expect(page.get_by_role("button", name="Next", exact=True)).to_be_disabled()


def test_adding_goes_on_after_a_reload(visitor: Visitor, served: Served) -> None:
    """Also after the service was busy; everyone gets one code."""
    sips = add_users(served, "again", 450)
    page = come(visitor, "/new")
    go_to_users(page)
    page.get_by_role("searchbox").fill("again")
    page.get_by_role("button", name="Search all users").click()
    page.get_by_role("button", name="Select all that were found").click()
    page.get_by_role("button", name="Next", exact=True).click()
    calls: list[Route] = []

    def interrupt(route: Route) -> None:
        """Be busy at first, then add some, then never answer."""
        calls.append(route)
        if len(calls) == 1:
            body = {"type": "urn:dialtone:problem:unavailable", "title": "busy"}
            told = {"Retry-After": "1", "Content-Type": "application/problem+json"}
            route.fulfill(status=503, headers=told, body=json.dumps(body))
        elif len(calls) == 2:
            route.continue_()

    page.route("**/api/rollouts/*/entries", interrupt)
    page.get_by_role("button", name="Issue codes (450)").click()
    expect(page.get_by_text("asks to wait for 1 seconds")).to_be_visible()
    expect(page.get_by_text("users done: 200 of 450")).to_be_visible(timeout=LATE_MS)
    page.reload()
    page.unroute("**/api/rollouts/*/entries")
    sign_in(visitor, page)
    expect(page.get_by_text("0 of 450 registered")).to_be_visible(timeout=LATE_MS)
    (newest, *_) = ask(served, "GET", "/rollouts")["items"]
    assert len(codes(served, newest["rollout_id"])) == len(sips)
    assert page.evaluate("sessionStorage.length") == 0
    expect(page.locator("tr[data-sip]")).to_have_count(50)
    page.get_by_role("button", name="Next page").click()
    expect(page.locator(".pager").get_by_text("Page 2")).to_be_visible()
    expect(page.locator("tr[data-sip]")).to_have_count(50)
    page.get_by_role("button", name="Print slips").click()
    expect(page.frame_locator("iframe").get_by_role("article")).to_have_count(100)
    first = page.frame_locator("iframe").locator(".code").first.inner_text()
    page.get_by_role("button", name="Next part").click()
    expect(page.get_by_text("Part 2; there are more.")).to_be_visible()
    expect(page.frame_locator("iframe").locator(".code").first).not_to_have_text(first)
    visitor.expect_complaints("status of 503")


def test_who_is_no_user_any_more_keeps_nobody_from_a_code(visitor: Visitor, served: Served) -> None:
    """And what was left to do in this tab is said where one comes back to it."""
    rollout_id = make_rollout(served, [], "Half done")
    left = {"rollout_id": rollout_id, "name": "Half done", "left": ["user1", "gone", "user2"]}
    state = {**left, "total": 3, "added": 0, "already": 0, "gone": 0}
    keyed = {**state, "key": "of-this-test", "who": "admin@example.com"}
    page = visitor.open()
    page.evaluate("([kept]) => sessionStorage.setItem('rollout-adding', kept)", [json.dumps(keyed)])
    page.goto(f"{visitor.url}#/rollouts")
    sign_in(visitor, page)
    expect(page.get_by_text("users still to be added: 3")).to_be_visible()
    page.get_by_role("link", name="Go on").click()
    expect(page.get_by_text("0 of 2 registered")).to_be_visible()
    visitor.expect_complaints("status of 400")


def test_what_was_typed_is_there_after_a_reload(visitor: Visitor) -> None:
    """Or after signing in again."""
    page = come(visitor, "/new")
    expect(page.get_by_text("The service answers.")).to_be_visible()
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("textbox", name="Name").fill("Typed")
    page.get_by_role("combobox", name="Category").select_option("Reception")
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("checkbox", name="Select User 3").check()
    page.reload()
    sign_in(visitor, page)
    go_to_users(page)
    expect(page.get_by_role("checkbox", name="Select User 3")).to_be_checked()
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_role("textbox", name="Name")).to_have_value("Typed")
    expect(page.get_by_role("combobox", name="Category")).to_have_value("Reception")


def test_back_leads_to_the_step_before(visitor: Visitor) -> None:
    """With all that was typed; and past the first to the list, as it does from the new rollout."""
    page = come(visitor)
    page.get_by_role("link", name="New registrations").click()
    expect(page.get_by_text("The service answers.")).to_be_visible()
    page.get_by_role("button", name="Next", exact=True).click()
    name = page.get_by_role("textbox", name="Name")
    name.fill("Step by step")
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("checkbox", name="Select User 4", exact=True).check()
    page.get_by_role("button", name="Next", exact=True).click()
    page.go_back()
    expect(page.get_by_role("heading", name="Users")).to_be_focused()
    expect(page.get_by_role("checkbox", name="Select User 4", exact=True)).to_be_checked()
    page.go_back()
    expect(name).to_have_value("Step by step")
    name.fill("")
    page.evaluate("history.go(2)")
    page.wait_for_function("history.state.step === 1")
    expect(name).to_be_visible()
    name.fill("Step by step")
    page.evaluate("history.go(-2)")
    expect(page.get_by_role("heading", name="What was begun")).to_be_visible()
    page.evaluate("history.go(4)")
    page.get_by_role("button", name="Issue codes (1)").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Step by step")
    page.go_back()
    expect(page.get_by_role("heading", name="What was begun")).to_be_visible()
    page.go_forward()
    expect(page.get_by_role("heading", level=1)).to_have_text("Step by step")


def test_from_a_rollout_that_is_not_there_leads_a_way_back(visitor: Visitor) -> None:
    """It may have gone since somebody kept its address."""
    page = come(visitor, "/gone")
    expect(page.get_by_role("alert")).to_have_text(
        "There are no such registrations, or not any more."
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("Register phones")
    page.get_by_role("link", name="All registrations").click()
    page.get_by_role("link", name="New registrations").wait_for()
    visitor.expect_complaints("status of 404")


def test_codes_are_revoked_extended_and_reissued(visitor: Visitor, served: Served) -> None:
    """All that are pending, or those that are selected; only if it is meant, and once."""
    rollout_id = make_rollout(served, USERS[:4])
    before = codes(served, rollout_id)
    page = come(visitor, f"/{rollout_id}")
    page.get_by_role("checkbox", name="Select User 1", exact=True).check()
    page.get_by_role("button", name="Revoke selected (1)").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Revoke selected (1)").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("Codes revoked: 1.")).to_be_visible()
    expect(row_of(page, "user1").locator('[data-state="revoked"]')).to_be_visible()
    expect(page.get_by_role("button", name="revoked 1")).to_be_visible()
    page.get_by_role("button", name="Extend all pending").click()
    page.get_by_role("dialog").get_by_role("button", name="Extend").click()
    expect(page.get_by_text("Codes extended: 3.")).to_be_visible()
    page.get_by_role("button", name="Reissue all pending and expired").click()
    page.get_by_role("dialog").get_by_role("button", name="Reissue").click()
    expect(page.get_by_text("Codes issued anew: 3.")).to_be_visible()
    expect(page.get_by_role("button", name="Reissue all pending and expired")).to_be_focused()
    after = codes(served, rollout_id)
    assert {name for name in before if before[name] == after[name]} == set()
    assert after["User 1"] == ""
    page.get_by_role("checkbox", name="Select User 1", exact=True).check()
    page.get_by_role("button", name="Reissue selected (1)").click()
    page.get_by_role("dialog").get_by_role("button", name="Reissue").click()
    expect(row_of(page, "user1").locator('[data-state="pending"]')).to_be_visible()


def test_what_happens_elsewhere_shows_without_moving_the_rows(
    visitor: Visitor, served: Served
) -> None:
    """Rows change in their places; what is not on the page is offered."""
    sips = add_users(served, "live", 60)
    rollout_id = make_rollout(served, sips)
    page = come(visitor, f"/{rollout_id}")
    expect(page.locator("tr[data-sip]")).to_have_count(50)
    shown = page.locator("tr[data-sip]").evaluate_all("(all) => all.map((one) => one.dataset.sip)")
    (hidden, *_) = set(sips) - set(shown)
    place = row_of(page, shown[9]).bounding_box()
    revoked = {"users": [shown[4], hidden]}
    ask(served, "POST", f"/rollouts/{rollout_id}/revoke", revoked)
    expect(row_of(page, shown[4]).locator('[data-state="revoked"]')).to_be_visible()
    show = page.get_by_role("button", name="Show newer changes")
    expect(show).to_be_visible()
    expect(page.get_by_role("button", name="revoked 2")).to_be_visible()
    assert row_of(page, shown[9]).bounding_box() == place
    show.click()
    expect(row_of(page, hidden)).to_be_visible()
    expect(show).to_be_hidden()
    page.get_by_role("button", name="revoked 2").click()
    expect(page.locator("tr[data-sip]")).to_have_count(2)


def test_a_refused_attempt_is_said_in_words(visitor: Visitor, served: Served) -> None:
    """At its row, with its time, while one looks at it."""
    rollout_id = make_rollout(served, ["user6"], "Refused")
    page = come(visitor, f"/{rollout_id}")
    expect(row_of(page, "user6").locator('[data-state="pending"]')).to_be_visible()
    code = codes(served, rollout_id)["User 6"]
    provision(served, code, 60)
    expect(row_of(page, "user6")).to_contain_text("IP232 00-90-33-6d-00-3c, up to date")
    served.redeem(code.replace(" ", ""), "0090336d00ee", "127.0.0.90")
    expect(row_of(page, "user6")).to_contain_text("Somebody tried this code again")
    expect(row_of(page, "user6").locator(".warning time")).to_be_visible()


def test_a_code_expires_by_the_clock(visitor: Visitor, served: Served) -> None:
    """Without a word from the service."""
    rollout_id = make_rollout(served, ["user7"], "Old")
    page = visitor.open(f"#/rollouts/{rollout_id}")
    page.clock.install()
    sign_in(visitor, page)
    expect(row_of(page, "user7").locator('[data-state="pending"]')).to_be_visible()
    page.clock.fast_forward(LIFETIME_MS)
    expect(row_of(page, "user7").locator('[data-state="expired"]')).to_be_visible()
    # by the same clock the person has been signed out for long
    expect(page.get_by_text("You are not signed in any more.")).to_be_visible()
    visitor.expect_complaints("status of 401")


def test_a_new_rollout_of_another_tab_is_offered(visitor: Visitor, served: Served) -> None:
    """The list does not move by itself."""
    page = come(visitor)
    expect(page.get_by_role("heading", name="What was begun")).to_be_visible()
    make_rollout(served, ["user8"], "Of another tab")
    page.get_by_role("button", name="Show what is newer").click()
    expect(page.get_by_role("link", name="Of another tab")).to_be_focused()


def test_a_user_without_the_role_is_told(visitor: Visitor) -> None:
    """And is not shown the way there."""
    page = come(visitor, who="user9")
    expect(page.get_by_role("alert")).to_contain_text("This page is not for you")
    expect(page.get_by_role("link", name="Register phones")).to_have_count(0)


def test_a_refusal_of_the_service_is_said_in_words(visitor: Visitor) -> None:
    """Where a role was taken away meanwhile, or there is no such rollout."""
    page = come(visitor, "/new")
    expect(page.get_by_text("The service answers.")).to_be_visible()
    body = {"type": "urn:dialtone:problem:not-allowed", "title": "no"}
    page.route(
        "**/api/rollouts/options",
        lambda route: route.fulfill(status=403, json=body, content_type="application/problem+json"),
    )
    page.get_by_role("button", name="Check again").click()
    expect(page.get_by_role("alert")).to_contain_text("You may not do this")
    expect(page.get_by_role("button", name="Next", exact=True)).to_be_disabled()
    page.evaluate("location.hash = '#/rollouts/nowhere'")
    expect(page.get_by_role("alert")).to_contain_text("There are no such registrations")
    visitor.expect_complaints("status of 403", "status of 404")


@pytest.mark.parametrize("has_category", [False, True])
def test_an_empty_domain_says_what_to_do_first(visitor: Visitor, *, has_category: bool) -> None:
    """A category, then users."""
    options = {"categories": ["Only"] if has_category else [], "phone_apps": []}
    visitor.context.route("**/api/rollouts/options", lambda route: route.fulfill(json=options))
    nobody: dict[str, Any] = {"items": [], "next": None}
    visitor.context.route(
        re.compile(r"/api/(users|rollouts)\?"), lambda route: route.fulfill(json=nobody)
    )
    page = come(visitor)
    expect(page.get_by_text("No registrations yet.")).to_be_visible()
    page.get_by_role("link", name="New registrations").click()
    page.get_by_role("button", name="Next", exact=True).click()
    if not has_category:
        expect(page.get_by_text("Make one first: under Devices")).to_be_visible()
        expect(page.get_by_role("button", name="Next", exact=True)).to_be_disabled()
        return
    expect(page.get_by_text("Only", exact=True)).to_be_visible()
    expect(page.get_by_role("combobox")).to_have_count(0)
    page.get_by_role("button", name="Next", exact=True).click()
    expect(page.get_by_text("Import them from a file first.")).to_be_visible()
    expect(page.get_by_label("File")).to_be_visible()


def test_register_phones_is_open_to_everybody(visitor: Visitor, served: Served) -> None:
    """Each step and the board, light and dark, and on a narrow screen."""
    rollout_id = make_rollout(served, USERS[9:12], "For everybody")
    page = come(visitor)
    page.get_by_role("link", name="For everybody").wait_for()
    assert_open_to_everybody(page, "list")
    page.get_by_role("link", name="New registrations").click()
    expect(page.get_by_text("Changes show live.")).to_be_visible()
    assert_open_to_everybody(page, "connection")
    page.get_by_role("button", name="Next", exact=True).click()
    assert_open_to_everybody(page, "category")
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("checkbox", name="Select User 12").check()
    page.get_by_text("Import users from a file").click()
    file = {"name": "users.csv", "mimeType": "text/csv", "buffer": b"sip;number\nx1;2\nx2;no\n"}
    page.get_by_label("File").set_input_files(file)  # type: ignore[arg-type] # a file payload
    page.get_by_role("button", name="Check the file").click()
    page.locator('tr[data-line="3"]').wait_for()
    assert_open_to_everybody(page, "users")
    page.get_by_role("button", name="Next", exact=True).click()
    assert_open_to_everybody(page, "codes")
    page.goto(f"{visitor.url}#/rollouts/{rollout_id}")
    row_of(page, "user10").wait_for()
    assert_open_to_everybody(page, "board")
    page.get_by_role("button", name="Revoke all pending").click()
    page.get_by_role("dialog").wait_for()
    assert_open_to_everybody(page, "question")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Print slips").click()
    page.frame_locator("iframe").get_by_role("article").first.wait_for()
    assert_open_to_everybody(page, "slips")
