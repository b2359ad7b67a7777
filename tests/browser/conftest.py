"""Real pages of a running server in a real browser: Debian's chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.local.conftest import running
from tests.local.served import Served

SOON_MS = 60_000
expect.set_options(timeout=SOON_MS)


def module_url(page: Page, name: str) -> str:
    """Tell where a module of the pages is, for it is under its version."""
    script = page.locator("script[src]").get_attribute("src") or ""
    return str(page.evaluate("(path) => new URL(path, document.baseURI).href", script)).replace(
        "app.js", name
    )


@pytest.fixture(scope="session")
def chromium() -> str:
    """Find the browser; where it must be there, it fails for want of it."""
    found = shutil.which("chromium")
    if found is None:
        reason = "chromium is not installed: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return str(found)


@pytest.fixture(scope="module")
def served(chromium: str) -> Iterator[Served]:
    """Serve what `make run` starts."""
    with running({}) as made:
        yield made


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Start the browser once a module: as long as it is driven, no other event loop runs here."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@dataclass
class Visitor:
    """Somebody with a browser of their own; whatever its console complains of is kept."""

    context: BrowserContext
    url: str
    words: tuple[str, str] = ("Sign in", "Sign out")
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def open(self, where: str = "") -> Page:
        """Open a page of the service in a tab."""
        page = self.context.new_page()
        page.set_default_timeout(SOON_MS)
        page.on("console", lambda told: self._note(told.type, told.text))
        page.on("pageerror", lambda error: self._note("error", str(error)))
        page.goto(f"{self.url}{where}")
        return page

    def sign_in(self, page: Page, name: str) -> None:
        """Sign in as a demo person, on the issuer's page."""
        page.get_by_role("banner").get_by_role("button", name=self.words[0]).click()
        page.get_by_role("link", name=f"({name})", exact=False).click()
        page.get_by_role("button", name=self.words[1]).wait_for()

    def expect_complaints(self, *parts: str) -> None:
        """Say which complaints have to come by the end, each by a part of it."""
        self.expected += parts

    def surprises(self) -> list[str]:
        """Tell what was complained of and not expected, and what was expected and did not come."""
        told = [one for one in self.complaints if not any(part in one for part in self.expected)]
        missing = [
            part for part in self.expected if not any(part in one for one in self.complaints)
        ]
        return [*told, *(f"not complained of: {part}" for part in missing)]

    def _note(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)


@pytest.fixture
def visitor(browser: Browser, served: Served) -> Iterator[Visitor]:
    """Come with a new browser; nothing may have been complained of in the end."""
    context = browser.new_context(locale="en-GB", reduced_motion="reduce")
    yield from coming(Visitor(context, f"http://127.0.0.1:{served.port}/api/"))


@pytest.fixture
def german(browser: Browser, served: Served) -> Iterator[Visitor]:
    """Come with a browser that asks for German."""
    context = browser.new_context(locale="de-DE", reduced_motion="reduce")
    url = f"http://127.0.0.1:{served.port}/api/"
    yield from coming(Visitor(context, url, ("Anmelden", "Abmelden")))


def coming(made: Visitor) -> Iterator[Visitor]:
    """Lend a visitor, and hold in the end that nothing surprised them."""
    yield made
    made.context.close()
    assert made.surprises() == []
