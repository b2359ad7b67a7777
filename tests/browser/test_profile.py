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
