"""Pictures of every page, light and dark, wide and narrow: `make pictures` puts them into docs/.

They show demo data alone. Whoever changes how a page looks takes them anew, and looks at them.
"""

import base64
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.test_profile import provision
from tests.local.conftest import running
from tests.local.served import Served

FOLDER = Path("docs/pictures")
SIZES = {"wide": (1280, 800), "narrow": (320, 640)}
THEMES = ("light", "dark")
MAX_HEIGHT = 1600
HW_ID = "0090336c0001"

Take = Callable[[str], None]


def main() -> None:
    """Start everything, and take the pictures."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    FOLDER.mkdir(exist_ok=True)
    with running({"SCHEDULE_SECONDS": "1"}) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        url = f"http://127.0.0.1:{served.port}/api/"
        prepare(served)
        user(browser, served, url)
        administrator(browser, url)
        browser.close()


def prepare(served: Served) -> None:
    """Let there be phones, jobs, and a rollout on its way."""
    provision(served, served.code(served.token("user1")), 1)
    admin = served.token("admin")
    body = {
        "name": "Second floor",
        "note": "Desks 201 to 212",
        "category": "Office",
        "app": "phone",
    }
    rollout = json.loads(served.ask("POST", "/api/rollouts", token=admin, body=body)[2])
    path = f"/api/rollouts/{rollout['rollout_id']}"
    users = [f"user{number}" for number in range(3, 15)]
    served.ask("POST", f"{path}/entries", token=admin, body={"users": users})
    entries = served.ask("GET", f"{path}/codes.csv", token=admin)[2]
    for number, line in enumerate(entries.splitlines()[1:6], 2):
        code = "".join(sign for sign in line.split(",")[5] if sign.isdigit())
        provision(served, code, number)
    gone = {"users": ["user5"]}
    served.ask("POST", f"{path}/revoke", token=admin, body=gone)


def shot(page: Page, path: Path, width: int) -> None:
    """Take one picture, small enough to be kept beside the code."""
    whole = page.evaluate("document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": width, "height": min(whole, MAX_HEIGHT), "scale": 1}
    session = page.context.new_cdp_session(page)
    asked = {"format": "webp", "quality": 60, "clip": clip, "captureBeyondViewport": True}
    path.write_bytes(base64.b64decode(session.send("Page.captureScreenshot", asked)["data"]))


def taken(page: Page) -> Take:
    """Make what takes a page in both themes and widths."""

    def take(name: str) -> None:
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            for theme in THEMES:
                page.emulate_media(
                    color_scheme="dark" if theme == "dark" else "light", reduced_motion="reduce"
                )
                shot(page, FOLDER / f"{name}-{size}-{theme}.webp", width)
        width, height = SIZES["wide"]
        page.set_viewport_size({"width": width, "height": height})

    return take


def come(browser: Browser, url: str, name: str | None) -> tuple[Page, Take]:
    """Open the service in a browser of somebody's own, signed in unless nobody is named."""
    width, height = SIZES["wide"]
    context = browser.new_context(locale="en-GB", viewport={"width": width, "height": height})
    page = context.new_page()
    page.goto(url)
    page.get_by_role("heading", level=1).wait_for()
    if name:
        page.get_by_role("banner").get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name=f"({name})").click()
        page.get_by_role("button", name="Sign out").wait_for()
    return page, taken(page)


def user(browser: Browser, served: Served, url: str) -> None:
    """Take what everybody sees: the start, signing in, Profile, and the phone to try it with."""
    page, take = come(browser, url, None)
    take("start")
    page.get_by_role("banner").get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Who are you?").wait_for()
    take("sign-in")
    page, take = come(browser, url, "user1")
    page.get_by_role("row", name="IP232").wait_for()
    page.get_by_role("button", name="Get a code").click()
    page.locator(".code").wait_for()
    take("profile")
    page.goto(f"{url}#/try")
    page.get_by_role("textbox").wait_for()
    take("try")
    code = served.code(served.token("user2"))
    page.get_by_role("textbox").fill(code)
    page.get_by_role("button", name="OK").click()
    page.locator('.display[data-says="try.registered"]').wait_for()
    take("try-registered")


def administrator(browser: Browser, url: str) -> None:
    """Take Register phones and Devices."""
    page, take = come(browser, url, "admin")
    page.goto(f"{url}#/rollouts")
    page.get_by_role("link", name="Second floor").wait_for()
    take("rollouts")
    page.get_by_role("link", name="Second floor").click()
    page.locator("tr[data-sip]").first.wait_for()
    take("rollout")
    page.get_by_role("button", name="Print slips").click()
    page.frame_locator("iframe").get_by_role("article").first.wait_for()
    take("slips")
    page.get_by_role("button", name="Close").click()
    page.goto(f"{url}#/rollouts/new")
    for name in ("connection", "category", "users"):
        if name != "connection":
            page.get_by_role("button", name="Next", exact=True).click()
        shows = {"connection": "Changes show live.", "category": "Name", "users": "0 selected"}
        page.get_by_text(shows[name]).first.wait_for()
        take(f"rollout-new-{name}")
    page.get_by_role("button", name="Select all").click()
    page.get_by_role("button", name="Next", exact=True).click()
    take("rollout-new-codes")
    devices(page, take, ["devices", f"devices/{HW_ID}", "jobs", "categories", "automatic"])
    devices(page, take, ["settings", "pbx", "audit"])
    page, take = come(browser, url, "platform")
    devices(page, take, ["platform"])


def devices(page: Page, take: Take, parts: list[str]) -> None:
    """Take parts of Devices."""
    for part in parts:
        page.evaluate(f"location.hash = '#/devices/example.com/{part}'")
        page.locator("h2#part").wait_for()
        page.locator("[aria-busy]").wait_for(state="detached")
        if part == "automatic":
            page.get_by_role("button", name="Set the token").click()
            page.get_by_role("dialog").get_by_role("button", name="Set the token").click()
            page.get_by_role("region", name="Lines for").wait_for()
        if part == "pbx":
            page.get_by_role("button", name="Test connection").click()
            page.get_by_role("heading", name="The PBX can be spoken to.").wait_for()
            page.get_by_role("region", name="Users of the PBX").get_by_text("Last read").wait_for()
        take("device" if "/" in part else f"devices-{part}" if part != "devices" else part)


if __name__ == "__main__":
    main()
