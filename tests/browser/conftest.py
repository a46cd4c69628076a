"""A real browser that can reach the server and nothing else, and pages that complain of whatever goes wrong in them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, sync_playwright

from tests.server import Server
from tests.test_docs_page import CHROMIUM

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
PHONE = {"width": 375, "height": 740}
DESKTOP = {"width": 1280, "height": 900}
# The words of a text with their weights, or the button that asks for them, which is offered where an answer was slow.
WEIGHED, ASKING = ".words mark", "section.card > button"
WORDS = f"{WEIGHED}, {ASKING}"


@pytest.fixture(scope="session")
def server(everything: Server) -> Server:
    """The real server with all committed models."""
    return everything


# Playwright's loop stays the thread's running one until it ends, which other packages' asynchronous tests must not see.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--no-proxy-server",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ],
        )
        yield started
        started.close()


OpenPage = Callable[..., Page]


class Complaints(list[str]):
    """What pages logged; `failed_requests` says whether failed requests are expected.

    The browser reports a failed request at any time, also after the page has shown the error.
    """

    failed_requests = False

    def unexpected(self) -> list[str]:
        return [each for each in self if not (self.failed_requests and each.startswith("error: Failed to load"))]


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[OpenPage]:
    """Opens a page of the server at a path; at the end no page has said or asked for anything that it should not."""
    contexts = []
    complaints = Complaints()

    def listen(page: Page, url: str) -> None:
        def note(message: ConsoleMessage) -> None:
            complaints.append(f"{message.type}: {message.text}")

        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: None if request.url.startswith((url, "blob:", "data:")) else complaints.append(request.url),
        )

    def open_at(path: str = "", *, url: str | None = None, viewport: Any = DESKTOP, **options: Any) -> Page:
        base = url or server.url
        context = browser.new_context(viewport=viewport, locale=options.pop("locale", "en-GB"), **options)
        context.grant_permissions(["clipboard-read", "clipboard-write", "camera"], origin=base)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        listen(page, base)
        page.goto(f"{base}/{path}")
        page.complaints = complaints  # type: ignore[attr-defined]
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not complaints.unexpected()


def barriers(page: Page) -> list[str]:
    """What axe-core finds: WCAG 2.2 A and AA, and its best practices."""
    page.evaluate(AXE)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


def weigh_words(place: Page | Locator) -> None:
    """Returns when the words of a text have their weights, which a busy machine gives only when asked."""
    place.locator(WORDS).first.wait_for()
    if (ask := place.locator(ASKING)).is_visible():
        ask.click()
    place.locator(WEIGHED).first.wait_for()


def wait_for_pictures(page: Page) -> None:
    """Returns when every picture of a model card is there."""
    page.locator(".report img[src]").first.wait_for()
    # Playwright's own waiting would evaluate a string in the page, which its policy forbids.
    page.evaluate(
        """async () => {
          const missing = () => [...document.querySelectorAll(".report img")].filter((image) => !image.naturalWidth);
          for (let turn = 0; missing().length; turn++) {
            if (turn > 500) throw new Error(`${missing().length} pictures are missing`);
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
        }"""
    )
