"""Profile in a browser: from the code to the phone, without a reload."""

from playwright.sync_api import expect

from local.phone import fetch_from, run_phone
from local.update_client import UpdateClient
from tests.browser.conftest import Visitor
from tests.local.served import Served


def provision(served: Served, code: str, number: int) -> None:
    """Let a simulated phone type a code and poll until nothing is left to do."""
    url = f"http://127.0.0.1:{served.port}/init"
    client = UpdateClient(f"00-90-33-6c-00-{number:02x}", "IP232", "127.0.0.1", url)
    assert run_phone(client, fetch_from("127.0.0.9"), code, pause_seconds=0.02).is_registered


def test_a_person_adds_a_phone_and_removes_it(visitor: Visitor, served: Served) -> None:
    """The page says so the moment the phone is there, and shows it among theirs."""
    page = visitor.open()
    visitor.sign_in(page, "user1")
    page.get_by_role("button", name="Get a code").click()
    code = page.locator(".code [aria-hidden]")
    expect(page.locator(".countdown")).to_contain_text(":")
    provision(served, code.inner_text().replace("\n", ""), 1)
    expect(page.get_by_text("Your phone is here.").first).to_be_visible()
    row = page.get_by_role("row", name="IP232")
    expect(row.get_by_text("up to date")).to_be_visible()
    row.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("You have no phone yet.")).to_be_visible()


def test_what_becomes_of_a_code_is_told_after_a_reload_too(
    visitor: Visitor, served: Served
) -> None:
    """Somebody tries it again: the page says so at once, and to whoever comes later as well."""
    page = visitor.open()
    visitor.sign_in(page, "user2")
    page.get_by_role("button", name="Get a code").click()
    code = page.locator(".code [aria-hidden]").inner_text().replace("\n", "")
    provision(served, code, 2)
    expect(page.get_by_text("Your phone is here.").first).to_be_visible()
    served.redeem(code, "0090336c00ee", "127.0.0.90")
    told = page.get_by_text("Somebody has tried this code again.")
    expect(told).to_be_visible()
    page.get_by_role("button", name="Another code").click()
    page.get_by_role("button", name="Get a code").click()
    page.locator(".code").wait_for()
    page.reload()
    visitor.sign_in(page, "user2")
    codes = page.get_by_role("region", name="Other codes of mine")
    expect(codes.get_by_role("row")).to_have_count(3)
    expect(codes).to_contain_text("Somebody has tried this code again.")
    codes.get_by_role("button", name="Revoke").click()
    expect(codes.get_by_role("row")).to_have_count(2)


SHIFTS = """
globalThis.shifts = [];
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) {
    const moved = one.sources.map(({ node }) => node?.outerHTML?.slice(0, 80));
    if (!one.hadRecentInput) shifts.push([one.value, ...moved]);
  }
}).observe({ type: "layout-shift", buffered: true });
"""


def test_nothing_moves_when_news_come(visitor: Visitor, served: Served) -> None:
    """Neither while the page comes, nor when the phone does."""
    visitor.context.add_init_script(SHIFTS)
    page = visitor.open()
    page.get_by_role("heading", level=1).wait_for()
    assert page.evaluate("shifts") == []
    visitor.sign_in(page, "user11")
    page.get_by_text("You have no phone yet.").wait_for()
    page.get_by_role("button", name="Get a code").click()
    code = page.locator(".code [aria-hidden]").inner_text().replace("\n", "")
    page.evaluate("shifts.length = 0")  # the card that was asked for has its room now
    provision(served, code, 3)
    expect(page.get_by_role("row", name="IP232").get_by_text("up to date")).to_be_visible()
    expect(page.get_by_text("Your phone is here.").first).to_be_visible()
    assert page.evaluate("shifts") == []
