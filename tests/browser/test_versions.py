"""Versions on the page: which one is asked, what trials have found, what operators can do, and with which key."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import PHONE, OpenPage, barriers
from tests.browser.test_trouble import forgive
from tests.browser.trials import HOSTILE, Trials
from tests.pictures import encode, photograph
from tests.server import Server
from tests.tiny import write_model

ADMIN = "Bearer of-the-admin"
POLICY = """load = ["1", "2"]
default = "1"

[aliases]
candidate = "2"  # stays
"""


@pytest.fixture
def versions_server(tmp_path: Path) -> Iterator[Server]:
    """Two versions of a classifier, one of which is the candidate, and one of another."""
    for version in ("1", "2"):
        write_model(tmp_path, version=version)
    write_model(tmp_path, "other")
    (tmp_path / "classifier" / "serving.toml").write_text(POLICY)
    running = Server(models=tmp_path)
    yield running
    assert running.stop() == 0, "".join(running.lines)


def open_trials(open_page: OpenPage, **options: object) -> tuple[Page, Trials]:
    """The page of a model whose trials are made up."""
    page = open_page("#/models", **options)
    trials = Trials(page, encode(photograph(32, 32), "PNG"))
    page.goto(page.url.partition("#")[0] + "models/classifier/1")
    page.locator(".versions tbody tr").first.wait_for()
    return page, trials


def test_a_model_is_listed_once_and_each_version_can_be_asked(versions_server: Server, open_page: OpenPage):
    page = open_page("#/classify", url=versions_server.url)
    expect(page.locator("summary", has_text="version")).to_contain_text("classifier, version 1")
    model = page.get_by_label("Model", exact=True)
    assert model.locator("option").all_inner_texts() == ["classifier", "other"]
    version = page.get_by_label("Version", exact=True)
    assert version.locator("option").all_inner_texts() == ["as served: 1", "candidate (2)", "1", "2"]
    with page.expect_request(lambda request: "/v1/predict" in request.url) as asked:
        version.select_option("candidate")
    assert "model=classifier%2Fcandidate" in asked.value.url
    expect(page.locator("summary", has_text="version")).to_contain_text("classifier, version 2")
    expect(version).to_be_focused()
    page.get_by_text("This request as code").click()
    expect(page.locator("pre")).to_contain_text("model=classifier%2Fcandidate")
    assert barriers(page) == []
    page.reload()
    expect(page.locator("summary", has_text="version")).to_contain_text("classifier, version 2")
    model.select_option("other")
    expect(page.locator("summary", has_text="version")).to_contain_text("other, version 1")
    expect(version).to_have_count(0)
    assert "version=" not in page.url
    page.get_by_role("link", name="Models").click()
    expect(page.locator("article")).to_have_count(2)
    page.get_by_role("link", name="1 (100%); 2 (candidate)").click()
    expect(page.locator(".versions tbody tr")).to_have_count(2)


def test_processes_that_disagree_are_named(versions_server: Server, open_page: OpenPage):
    page = open_page("#/models", url=versions_server.url)
    page.locator("article").first.wait_for()
    said = ["worker 1: 1 of 2, 1", f"worker 2: 2 of 2, 1 {HOSTILE}"]

    def answer(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "disagreeing": {"classifier": said}})

    page.route("**/v1/models", answer)
    page.reload()
    expect(page.get_by_text("different versions or policies of classifier")).to_be_visible()
    expect(page.locator(".notice li")).to_have_text(said)
    assert barriers(page) == []


def test_a_model_of_one_version_has_no_section(versions_server: Server, open_page: OpenPage):
    page = open_page("models/other/1", url=versions_server.url)
    page.locator("article.report p").first.wait_for()
    expect(page.locator(".versions")).to_have_count(0)


@pytest.mark.parametrize(
    "look",
    [{}, {"viewport": PHONE, "is_mobile": True, "color_scheme": "dark", "locale": "ko-KR"}],
    ids=["light", "dark-korean-phone"],
)
def test_trials_are_shown_and_nothing_stands_in_the_way(
    open_page: OpenPage, look: dict[str, object], request: pytest.FixtureRequest
):
    page, trials = open_trials(open_page, **look)
    page.locator(".examples .input img").first.wait_for()
    expect(page.locator(".examples > li")).to_have_count(4)
    expect(page.locator(".examples .overlay .box")).to_have_count(1)
    page.locator(".examples + button").click()
    expect(page.locator(".examples > li")).to_have_count(5)
    expect(page.locator(".examples > li").nth(4)).to_be_focused()
    page.locator(".actions summary").click()
    page.locator("article.report h2").first.wait_for()
    # A card's tables are its author's.
    page.evaluate("() => document.querySelectorAll('article.report .scroll').forEach((each) => each.remove())")
    assert barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    if screenshots := request.config.getoption("--screenshots"):
        page.screenshot(path=screenshots / f"versions-{request.node.callspec.id}.png", full_page=True)
    # All that the server says is text.
    assert page.locator("main").inner_text().count(HOSTILE) > 5
    assert page.locator("img[src=x]").count() == 0
    # An input is asked for once, and one that is gone is not asked for again.
    assert [trials.count(f"shadow/examples/{each}") for each in ("picture%2F1", "text", "row", "boxes", "gone")] == [
        1
    ] * 5
    page.locator(".actions button").first.click()
    assert barriers(page) == []
    forgive(page)


def test_the_figures_stand_side_by_side(open_page: OpenPage):
    page, trials = open_trials(open_page)
    rows = page.locator(".compared tbody tr")
    assert rows.nth(1).locator("td").all_inner_texts() == ["2 (0.03%)", "12 (0.48%)"]
    assert rows.nth(3).locator("td").all_inner_texts() == ["9.1 ms", "6.4 ms"]
    assert page.locator(".compared ~ .pairs .name").all_inner_texts() == ["dog", "cat", "ship", HOSTILE]
    assert page.locator(".pairs .value").all_inner_texts()[:4] == ["35%", "44%", "40%", "31%"]
    expect(page.locator(".steps [aria-current]")).to_have_text("25% for 30 min")
    shadow = page.get_by_role("region", name="Shadow")
    expect(shadow).to_contain_text("98.20%")
    expect(shadow).to_contain_text("Measure: same label")
    expect(shadow.locator(".intervals li").nth(2)).to_contain_text("95.0% (92.7 to 96.6; 480)")
    expect(shadow.get_by_role("img", name="97.5% at the end, 92.5% at the lowest")).to_be_visible()
    # A canary that is kept waiting after its last step says for what.
    trials.canary["waits_for"] = f"20 more calls of the canary {HOSTILE}"
    expect(page.get_by_role("region", name="Canary")).to_contain_text("It waits for: 20 more calls", timeout=15_000)
    # What ends is no longer shown.
    trials.state["canary"] = trials.state["shadow"] = None
    trials.state["verdict"] = "canary 3 withdrawn: errors 0.12 against 0.00 after 214 requests"
    expect(page.get_by_text("canary 3 withdrawn")).to_be_visible(timeout=15_000)
    expect(shadow).to_be_hidden()
    expect(page.locator(".compared")).to_be_hidden()
    forgive(page)


def test_it_refreshes_while_it_is_seen_and_slows_down_when_it_fails(open_page: OpenPage):
    page = open_page("#/models")
    page.clock.install()
    trials = Trials(page, encode(photograph(32, 32), "PNG"))
    page.goto(page.url.partition("#")[0] + "models/classifier/1")
    page.locator(".examples .input img").first.wait_for()

    def asked_within(seconds: int) -> int:
        before = trials.count("policy")
        for _ in range(seconds):
            page.clock.run_for(1000)
            page.evaluate("() => fetch('healthz/live')")  # what was asked for by then has been answered
        return trials.count("policy") - before

    def hide(hidden: bool) -> None:
        page.evaluate(
            """(hidden) => {
              Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
              document.dispatchEvent(new Event("visibilitychange"));
            }""",
            hidden,
        )

    assert 2 <= asked_within(20) <= 5
    hide(True)
    assert asked_within(60) <= 1  # one may have been on its way
    hide(False)
    assert asked_within(5) >= 1
    link = page.locator(".versions tbody a").first
    link.focus()
    trials.down = True
    assert asked_within(120) <= 6
    expect(page.locator(".problem", has_text="Something failed")).to_be_visible()
    trials.down = False
    assert asked_within(60) >= 1
    expect(page.locator(".problem")).to_have_count(0)
    # What has not changed was not drawn anew.
    expect(link).to_be_focused()
    forgive(page)


def test_operators_change_what_answers(versions_server: Server, open_page: OpenPage, tmp_path: Path):
    page = open_page("models/classifier/1", url=versions_server.url)
    page.get_by_text("Change what answers").click()
    dialog = page.get_by_role("dialog")

    def act(verb: str, **fields: str) -> None:
        page.get_by_role("button", name=verb, exact=True).click()
        for label, value in fields.items():
            dialog.get_by_label(label.replace("_", " ")).fill(value)
        dialog.get_by_role("button", name=verb).click()
        expect(dialog).to_have_count(0)

    row = {
        version: page.locator(".versions tbody tr", has=page.get_by_role("rowheader", name=version)) for version in "12"
    }
    role = {version: found.locator("td .quiet") for version, found in row.items()}
    # Nothing happens until it is confirmed.
    page.get_by_role("button", name="Promote", exact=True).click()
    expect(dialog).to_contain_text("Promote version 2 of classifier?")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Promote", exact=True)).to_be_focused()
    expect(role["1"]).to_have_text("default")
    act("Promote")
    expect(role["2"]).to_have_text("default")
    expect(page.get_by_text("Last change: promote 2, by loopback")).to_be_visible()
    act("Roll back to 1")
    expect(role["1"]).to_have_text("default")
    expect(role["2"]).to_have_text("previous default")
    act("Start canary", Share="20")
    expect(row["2"]).to_contain_text("20%")
    expect(page.get_by_role("region", name="Canary")).to_contain_text("It answers 20% of the calls now.")
    act("End canary 2")
    expect(row["2"]).to_contain_text("0%")
    act("Start shadow", Share="100")
    expect(page.get_by_role("region", name="Shadow")).to_be_visible()
    act("End shadow 2")
    act("Set alias", Alias="next")
    expect(row["2"].locator(".chips li")).to_have_text(["candidate", "next"])
    act("Pin")
    expect(role["2"]).to_have_text("default")
    assert "# stays" in (tmp_path / "classifier" / "serving.toml").read_text()
    # The server's reason is shown where it refuses.
    page.get_by_role("button", name="Set alias").click()
    dialog.get_by_label("Alias").fill("12")
    dialog.get_by_role("button", name="Set alias").click()
    expect(dialog.locator(".problem")).to_be_visible()
    assert len(dialog.locator(".problem").inner_text()) > 20
    assert barriers(page) == []
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    forgive(page)


def test_a_promotion_can_wait_for_the_figures(open_page: OpenPage):
    page, trials = open_trials(open_page)
    page.get_by_text("Change what answers").click()
    page.get_by_label("Version", exact=True).select_option("2")
    page.get_by_role("button", name="Promote").click()
    trials.refusal = (409, "conflict", f"models/classifier/serving.toml cannot be written: edit it {HOSTILE}")
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Only if so many % agree").fill("98")
    dialog.get_by_label("Decide after").fill("500")
    dialog.get_by_role("button", name="Promote").click()
    expect(dialog.locator(".problem")).to_contain_text(f"edit it {HOSTILE}")
    assert ("POST", "promote", {"version": "2", "if_agreement": 0.98, "after": 500}) in trials.asked
    forgive(page)


def test_the_scope_that_is_missing_is_named_and_another_key_is_taken(open_page: OpenPage):
    page = open_page("#/models")
    trials = Trials(page, encode(photograph(32, 32), "PNG"))
    trials.keys = {ADMIN}
    page.goto(page.url.partition("#")[0] + "models/classifier/1")
    shadow = page.get_by_role("region", name="Shadow")
    shadow.locator(".problem").wait_for()
    expect(shadow.locator(".problem")).to_contain_text("lacks the scope 'admin'")
    expect(page.locator(".examples .input img")).to_have_count(0)
    # Other figures and another list are no reason to ask again.
    trials.shadow["compared"] = 1300
    trials.shadow["examples"].pop()
    expect(shadow).to_contain_text("1,300 answers compared", timeout=15_000)
    assert sum(path.startswith("shadow/examples/") for _, path, _ in trials.asked) == 1
    page.get_by_text("Change what answers").click()
    page.get_by_role("button", name="End canary 3").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="End canary 3").click()
    expect(dialog.locator(".problem")).to_contain_text("lacks the scope 'admin'")
    assert barriers(page) == []
    dialog.get_by_label("Key (kept for this tab only)").fill(ADMIN.removeprefix("Bearer "))
    dialog.get_by_role("button", name="Use it").click()
    expect(dialog).to_have_count(0)
    assert trials.asked.count(("DELETE", "canary", None)) == 2
    # The same key shows the inputs, whose pictures are fetched with it.
    page.locator(".examples .input img").first.wait_for()
    expect(shadow.locator(".problem")).to_have_count(0)
    assert page.evaluate("JSON.stringify([localStorage, sessionStorage])").count("of-the-admin") == 1
    page.get_by_role("button", name="Forget the key").click()
    shadow.locator(".problem").wait_for()
    expect(shadow.locator(".problem")).to_contain_text("lacks the scope 'admin'")
    assert page.evaluate("sessionStorage.length") == 0
    expect(page.get_by_role("button", name="Forget the key")).to_have_count(0)
    forgive(page)


def test_a_key_that_is_not_valid_is_told_from_none(open_page: OpenPage):
    page = open_page("#/models")
    page.locator("article").first.wait_for()
    page.route(
        "**/v1/**",
        lambda route: route.fulfill(
            status=401, content_type="application/problem+json", body='{"detail": "The API key has expired."}'
        ),
    )
    page.reload()
    page.locator(".problem").wait_for()
    expect(page.locator(".problem")).to_contain_text("asks for a key")
    page.get_by_label("Key (kept for this tab only)").fill("old")
    page.get_by_role("button", name="Use it").click()
    expect(page.locator(".problem")).to_contain_text("did not accept the key")
    expect(page.locator(".problem")).to_contain_text("The API key has expired.")
    forgive(page)
