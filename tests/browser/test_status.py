"""The panel Status, with an hour that is the same each time."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import PHONE, OpenPage, barriers

STATUS = "**/v1/status*"
END = 1_800_000_000
ROWS = 90
SERVER = ["Requests per second", "Latency of requests to models", "Refused or failed requests per second"]


def hour(model: str | None = None, rows: int = ROWS) -> dict[str, Any]:
    """An answer in which row n has n requests per second; row 10 is missing, and nothing ran in row 20."""
    kept = [row for row in range(rows) if row != 10]
    latency = [None if row == 20 else 0.004 for row in kept]
    quantiles = {"p50": latency, "p95": [each and 3 * each for each in latency], "p99": [1.5] * len(kept)}
    zero = [0.0] * len(kept)
    return {
        "step": 10,
        "times": [END + 10 * (row - rows) for row in kept],
        "requests": kept,
        "errors": zero,
        "latency": quantiles,
        "problems": {f"problem-{index}": [index] * len(kept) for index in range(8)},
        "event_loop_lag": [0.002] * len(kept),
        "memory": {"resident": [3.4e8] * len(kept), "available": [12e9] * len(kept), "gpu_free": [None] * len(kept)},
        "model": model,
        "queue": {
            "waiting": zero,
            "wait": quantiles,
            "items": kept,
            "batch_size": latency,
            "batch": quantiles,
            "dropped": zero,
        },
        "models": [
            {"name": name, "items": 12_345, "batch_size": 3.25, "wait_p95": 0.0021, "waiting": 2, "dropped": 0}
            for name in ("topics", "classifier")
        ],
    }


class Answers:
    """Answers /v1/status in place of the server, and keeps which models were asked for."""

    def __init__(self, page: Page) -> None:
        self.rows = ROWS
        self.gpu: float | None = None
        self.refusal: tuple[int, str] | None = None
        self.asked: list[str | None] = []
        page.route(STATUS, self._answer)

    def _answer(self, route: Route) -> None:
        model = parse_qs(urlsplit(route.request.url).query).get("model", [None])[0]
        self.asked.append(model)
        if self.refusal:
            status, detail = self.refusal
            route.fulfill(status=status, content_type="application/problem+json", body=json.dumps({"detail": detail}))
        elif model == "gone":
            problem = {"code": "unknown-model", "detail": "No model 'gone' is served."}
            route.fulfill(status=404, content_type="application/problem+json", body=json.dumps(problem))
        else:
            answer = hour(model, self.rows)
            answer["memory"]["gpu_free"] = [self.gpu] * len(answer["times"])
            route.fulfill(json=answer)


def open_status(open_page: OpenPage, query: str = "", **options: object) -> tuple[Page, Answers]:
    page = open_page("#/models", **options)
    page.locator("article").first.wait_for()
    answers = Answers(page)
    page.goto(f"{page.url.partition('#')[0]}#/status{query}")
    return page, answers


def chart(page: Page, title: str) -> Locator:
    return page.locator("figure", has=page.get_by_role("heading", name=title, exact=True))


def test_the_charts_say_in_words_what_they_show(open_page: OpenPage):
    page, _ = open_status(open_page)
    charts = page.get_by_role("img")
    expect(charts).to_have_count(12)  # that of a GPU is left out
    labels = [each.get_attribute("aria-label") for each in charts.all()]
    assert [label.partition(". ")[0] for label in labels if label][:3] == SERVER
    assert labels[0] == "Requests per second. answered: 89 now, 89 at most. server errors (5xx): 0 now, 0 at most"
    assert labels[1] is not None
    assert "p95: 12 ms now, 12 ms at most. p99: 1.5 s now" in labels[1]
    # The most frequent problems alone.
    problems = chart(page, SERVER[2])
    expect(problems.locator("li")).to_have_text([f"problem-{index} {index}" for index in (7, 6, 5, 4, 3, 2)])
    # A missing row, and one without a value, interrupt the lines.
    paths = [chart(page, title).locator("path").first.get_attribute("d") for title in SERVER[:2]]
    assert [path.count("M") for path in paths if path] == [2, 3]
    expect(chart(page, "Memory in use")).to_contain_text("340 MB")


def test_pointing_at_a_chart_shows_that_moment(open_page: OpenPage):
    page, _ = open_status(open_page)
    figure = chart(page, SERVER[0])
    figure.locator("path").first.wait_for()
    box = figure.locator("svg").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 54 / 340, box["y"] + 40)
    expect(figure.locator("li").first).to_have_text("answered 0")
    expect(figure.locator("li")).to_have_count(3)
    page.mouse.move(0, 0)
    expect(figure.locator("li").first).to_have_text("answered 89")


def test_a_model_is_chosen_and_kept_in_the_address(open_page: OpenPage):
    page, answers = open_status(open_page)
    expect(page.locator("table").first.locator("tbody tr").first).to_contain_text("topics12,3453.252.1 ms20")
    with page.expect_response("**/v1/status?model=classifier"):
        page.get_by_label("Model", exact=True).select_option("classifier")
    expect(page.get_by_label("Model", exact=True)).to_have_value("classifier")
    assert "model=classifier" in page.url
    assert "classifier" in answers.asked
    page.get_by_label("Model", exact=True).select_option("all models")
    expect(page.get_by_label("Model", exact=True)).to_have_value("")
    assert "model=" not in page.url


def test_a_model_that_is_gone_is_forgotten(open_page: OpenPage):
    page, answers = open_status(open_page, "?model=gone")
    expect(page.locator(".timeline .line").first).to_be_visible()
    assert answers.asked[:2] == ["gone", None]
    assert "gone" not in page.url
    page.complaints.failed_requests = True  # type: ignore[attr-defined]


def test_the_memory_of_a_gpu(open_page: OpenPage):
    page = open_page("#/models")
    page.locator("article").first.wait_for()
    Answers(page).gpu = 3.25e9
    page.goto(f"{page.url.partition('#')[0]}#/status")
    expect(chart(page, "Free GPU memory")).to_contain_text("free 3.25 GB")


def test_the_hour_as_a_table(open_page: OpenPage):
    page, _ = open_status(open_page)
    page.get_by_text("The hour as a table").click()
    rows = page.get_by_role("region", name="The hour as a table").locator("tbody tr")
    expect(rows).to_have_count(3)  # five minutes each
    # Means of what is per second, the highest of the rest, and nothing for what was not measured.
    expect(rows.first.locator("td")).to_have_text(
        ["74.5", "0", "28", "4 ms", "12 ms", "1.5 s", "0", "12 ms", "2 ms", "340 MB"]
    )
    assert barriers(page) == []


@pytest.mark.parametrize(
    "look",
    [{"color_scheme": "dark", "locale": "ko-KR"}, {"viewport": PHONE, "is_mobile": True, "has_touch": True}],
    ids=["dark-korean", "phone"],
)
def test_nothing_stands_in_the_way(open_page: OpenPage, look: dict[str, object]):
    page, _ = open_status(open_page, **look)
    page.locator(".timeline .line").first.wait_for()
    page.locator("details").click()
    page.locator("details table").wait_for()
    assert barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_the_key_that_is_needed_is_named(open_page: OpenPage):
    page = open_page("#/models")
    page.locator("article").first.wait_for()
    answers = Answers(page)
    answers.refusal = (403, "The key 'alice' lacks the scope 'metrics', which GET needs here.")
    page.goto(f"{page.url.partition('#')[0]}#/status")
    expect(page.locator(".status")).to_contain_text("need a key with the scope metrics")
    expect(page.locator(".status")).to_contain_text("quartet keys add NAME --scope infer --scope metrics")
    expect(page.locator(".status")).to_contain_text("'alice' lacks the scope 'metrics'")
    assert barriers(page) == []
    answers.refusal = None
    page.get_by_label("Key (kept for this tab only)").fill("another")
    page.get_by_role("button", name="Use it").click()
    expect(page.locator(".timeline .line").first).to_be_visible()
    expect(page.locator(".status")).to_be_empty()
    page.complaints.failed_requests = True  # type: ignore[attr-defined]


def test_before_the_first_row(open_page: OpenPage):
    page = open_page("#/models")
    page.locator("article").first.wait_for()
    Answers(page).rows = 0
    page.goto(f"{page.url.partition('#')[0]}#/status")
    expect(page.locator(".status")).to_have_text("The first figures come within 15 seconds.")
    expect(page.locator(".timelines").first).to_be_hidden()
