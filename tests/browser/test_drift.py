"""Drift on the page of a model: what differs, both distributions, and the accuracy that is promised."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from service.drift.observer import Watch
from service.drift.report import report
from service.tasks.classification.statistics import STATISTICS
from tests.browser.conftest import PHONE, OpenPage, barriers
from tests.server import Server
from tests.service.drift.drifting import MANIFEST, images, rows, written_histograms
from tests.tiny import write_model


@pytest.fixture
def drift_server(tmp_path: Path) -> Iterator[Server]:
    """A classifier with histograms, and one without."""
    write_model(tmp_path, histograms=written_histograms())
    write_model(tmp_path, "plain")
    running = Server(models=tmp_path)
    yield running
    assert running.stop() == 0, "".join(running.lines)


def drifted() -> str:
    """What the route answers after 1,000 darker images."""
    watch = Watch(MANIFEST, STATISTICS)
    pixels = images(1000, brightness=0.5)
    watch.add(pixels, rows(pixels))
    return json.dumps({"version": "1", **report(watch.manifest, watch.bins, watch.window.counts())})


@pytest.mark.parametrize(
    "look",
    [{}, {"viewport": PHONE, "is_mobile": True, "color_scheme": "dark", "locale": "ko-KR"}],
    ids=["light", "dark-korean-phone"],
)
def test_what_has_drifted_is_marked_and_drawn(
    drift_server: Server, open_page: OpenPage, look: dict[str, object], request: pytest.FixtureRequest
):
    page = open_page("#/models", url=drift_server.url, **look)

    def answer(route: Route) -> None:
        route.fulfill(content_type="application/json", body=drifted())

    page.route("**/v1/models/classifier/drift?version=1", answer)
    page.goto(f"{drift_server.url}/models/classifier/1")
    summaries = page.locator("summary", has_text="0.1")
    expect(summaries.first).to_be_visible()
    assert page.locator("summary .chip").count() >= 1
    for summary in page.locator("section .more > summary").all():
        summary.click()
    expect(page.locator("section .chart .lately")).to_have_count(3)
    expect(page.locator("section .pairs li")).to_have_count(3)
    expect(page.locator("section .problem")).to_contain_text("has no p-values")
    assert barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    if screenshots := request.config.getoption("--screenshots"):
        page.screenshot(path=screenshots / f"drift-{request.node.callspec.id}.png", full_page=True)


def test_too_few_inputs_are_not_judged(drift_server: Server, open_page: OpenPage):
    page = open_page("models/classifier/1", url=drift_server.url)
    expect(page.get_by_text("0 inputs so far. From 1,000 on, they are compared")).to_be_visible()
    assert page.locator("summary .chip").count() == 0


def test_a_model_without_histograms_has_no_section(drift_server: Server, open_page: OpenPage):
    page = open_page("models/plain/1", url=drift_server.url)
    page.locator("article.report p").first.wait_for()
    expect(page.get_by_role("heading", name="Drift")).to_have_count(0)
