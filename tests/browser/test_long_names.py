"""Names as long as they may be, on a screen of 320 px."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route

from tests.browser.conftest import Visitor
from tests.browser.test_devices import HW_ID, add_phone
from tests.browser.test_rollouts import ask
from tests.local.served import Served

NAME = "W" * 200
CATEGORY = "K" * 100
SIP = "s" * 64
NARROW = {"width": 320, "height": 640}
OUT_OF_SIGHT = """() => [...document.querySelectorAll("button, a, input, select, textarea")]
  .filter((one) => one.checkVisibility() && !one.matches(".skip"))
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
  .map((one) => one.outerHTML.slice(0, 80))"""


def assert_fits(page: Page, part: str) -> None:
    """Hold that nothing goes further than the screen, so that nobody has to scroll sideways."""
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], part
    assert page.evaluate(OUT_OF_SIGHT) == [], part


@pytest.fixture(scope="module")
def rollout_id(served: Served) -> str:
    """Let everything that has a name have a long one."""
    add_phone(served, "user1", 0x21)
    domain = "/domains/example.com"
    types = {"provisioning": True, "device_types": ["PHONE"]}
    ask(served, "PUT", f"{domain}/categories/{CATEGORY}", types)
    ask(served, "PATCH", f"{domain}/devices/{HW_ID.format(0x21)}", {"name": NAME})
    ask(served, "POST", "/users", {"users": [{"sip": SIP, "name": NAME, "number": "1" * 20}]})
    wanted = {"name": NAME, "note": NAME, "category": CATEGORY, "users": [SIP]}
    return str(ask(served, "POST", "/rollouts", wanted)["rollout_id"])


@pytest.fixture
def come(visitor: Visitor) -> Callable[[str], Page]:
    """Come to a page as an administrator with a long name and a small screen."""

    def rename(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "name": NAME})

    def to(where: str) -> Page:
        visitor.context.route("**/api/me", rename)
        page = visitor.open(f"#/{where}")
        page.set_viewport_size({"width": NARROW["width"], "height": NARROW["height"]})
        visitor.sign_in(page, "admin")
        page.locator(".page:not([aria-busy])").wait_for()
        return page

    return to


def test_register_phones_has_room_for_long_names(
    come: Callable[[str], Page], rollout_id: str
) -> None:
    """Its list, its board and its slips."""
    page = come("rollouts")
    assert_fits(page, "list")
    page.get_by_role("link", name=NAME).click()
    page.locator(f'tr[data-sip="{SIP}"]').wait_for()
    assert_fits(page, "board")
    page.get_by_role("button", name="Print slips").click()
    slip = page.frame_locator("iframe").get_by_role("article")
    slip.wait_for()
    assert_fits(page, "slips")
    frame = page.locator("iframe").evaluate(
        "({ contentDocument: { documentElement: { scrollWidth, clientWidth } } }) =>"
        " scrollWidth - clientWidth"
    )
    assert frame == 0
    heights = "(one) => [one.clientHeight, one.querySelector('iframe').clientHeight]"
    whole, seen = page.get_by_role("dialog").evaluate(heights)
    assert seen > whole / 3


def test_the_steps_have_room_for_long_names(come: Callable[[str], Page], rollout_id: str) -> None:
    """Each of them, and what is shown before the codes are issued."""
    page = come("rollouts/new")
    page.get_by_text("The service answers.").wait_for()
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("combobox", name="Category").select_option(CATEGORY)
    page.get_by_role("textbox", name="Name").fill(NAME)
    assert_fits(page, "category")
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("checkbox", name=f"Select {NAME}").check()
    assert_fits(page, "users")
    page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_role("button", name="Issue codes (1)").wait_for()
    assert_fits(page, "codes")


@pytest.mark.parametrize(
    "part", ["devices", f"devices/{HW_ID.format(0x21)}", "jobs", "categories", "automatic", "audit"]
)
def test_devices_has_room_for_long_names(
    come: Callable[[str], Page], rollout_id: str, part: str
) -> None:
    """Each part, and the question before a phone is replaced."""
    page = come(f"devices/example.com/{part}")
    assert_fits(page, part)
    if "/" not in part:
        return
    page.get_by_label("MAC of the new phone").fill(HW_ID.format(0x22))
    page.get_by_role("button", name="Replace").click()
    page.get_by_role("dialog").get_by_role("button", name="Replace").scroll_into_view_if_needed()
    assert_fits(page, "question")
