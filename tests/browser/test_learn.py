"""The course in a real browser: its text, the way through its sections, and the page's panels inside."""

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import DESKTOP, PHONE, WORDS, OpenPage, barriers, weigh_words
from tests.server import ROOT, Server
from tests.tiny import write_model

CONTENTS = json.loads((ROOT / "service" / "web" / "learn" / "contents.json").read_text())
SECTIONS = [name for name in CONTENTS["en"] if name != "index"]
KOREAN = {"color_scheme": "dark", "locale": "ko-KR", "viewport": DESKTOP}
ON_A_PHONE = {"viewport": PHONE, "is_mobile": True, "has_touch": True}
# What shows that a panel of the page has its first answer.
EMBEDDED = {
    "threshold": ".overlay .box",
    "classify": ".bars .value",
    "draw": ".trio figure svg",
    "morph": ".strip img",
    "importance": WORDS,
    "numbers": ".contributions .value",
    "typicality": ".typicality strong",
}


def open_lesson(open_page: OpenPage, name: str, **options: object) -> Page:
    page = open_page(f"learn/{name}", **options)
    page.locator("article.lesson h1").wait_for()
    return page


def put_panels(page: Page, *names: str) -> None:
    """Shows a text with these panels and a picture in place of the next section that is opened."""
    picture = '<figure><img src="learn/files/detector/overlap.jpg" alt="Boxes" width="1400" height="400"></figure>'
    places = "".join(f'<h2>{name}</h2><div data-panel="{name}">{picture}</div>' for name in names)
    body = f"<h1>Panels</h1><p>Before.</p>{places}<p>After.</p>"
    page.route(re.compile(r"/learn/(en|ko)/"), lambda route: route.fulfill(content_type="text/html", body=body))


@pytest.mark.parametrize("look", [{}, KOREAN, ON_A_PHONE], ids=["light", "dark-korean", "phone"])
@pytest.mark.parametrize("name", ["", *SECTIONS])
def test_nothing_stands_in_the_way(open_page: OpenPage, name: str, look: dict[str, object]):
    page = open_lesson(open_page, name, **look)
    for place in page.locator("[data-panel]").all():
        place.scroll_into_view_if_needed()
        place.locator(".panel > *").first.wait_for()
    assert page.locator(".problem").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.lang") == ("ko" if "locale" in look else "en")
    page.wait_for_load_state("networkidle")
    assert barriers(page) == []


def test_one_walks_through_the_sections(open_page: OpenPage):
    page = open_page("#/models")
    page.get_by_role("link", name="Learn").click()
    page.locator("article.lesson h1").wait_for()
    expect(page.get_by_role("link", name="Learn")).to_have_attribute("aria-current", "page")
    assert page.title() == "Learn · Quartet"
    page.evaluate("window.kept = true")
    page.get_by_role("navigation", name="Sections before and after").get_by_role("link").click()
    first, second = (CONTENTS["en"][name] for name in SECTIONS[:2])
    expect(page.locator("h1")).to_have_text(first)
    expect(page.locator("h1")).to_be_focused()
    assert page.title() == f"{first} · Quartet"
    assert page.url.endswith(f"/learn/{SECTIONS[0]}")
    contents = page.get_by_role("navigation", name="Contents of the course")
    expect(contents.locator("[aria-current=page]")).to_have_text(first)
    page.evaluate("scrollTo(0, 500)")
    contents.get_by_role("link", name=second).click()
    expect(page.locator("h1")).to_have_text(second)
    assert page.evaluate("scrollY") == 0
    page.go_back()
    expect(page.locator("h1")).to_have_text(first)
    expect(page.locator("h1")).to_be_focused()
    assert page.evaluate("scrollY") == 500
    page.go_forward()
    expect(page.locator("h1")).to_have_text(second)
    assert page.evaluate("window.kept"), "the page was loaded anew"
    # The page's panels are where they were.
    page.get_by_role("link", name="Models").click()
    page.locator(".measured .interval").first.wait_for()


def test_the_language_changes_and_the_place_stays(open_page: OpenPage):
    page = open_lesson(open_page, "2-convolution")
    second = page.locator("article > h2").nth(1)
    second.scroll_into_view_if_needed()
    page.evaluate("(heading) => scrollBy(0, heading.getBoundingClientRect().top)", second.element_handle())
    page.wait_for_timeout(100)
    page.evaluate("document.getElementById('language').click()")
    expect(page.locator("h1")).to_have_text(CONTENTS["ko"]["2-convolution"])
    assert page.title() == f"{CONTENTS['ko']['2-convolution']} · Quartet"
    assert page.url.endswith("/learn/2-convolution")
    assert abs(page.locator("article > h2").nth(1).bounding_box()["y"]) < 60
    expect(page.locator("article")).to_have_attribute("lang", "ko")


def test_an_anchor_leads_to_its_heading(open_page: OpenPage):
    page = open_lesson(open_page, "3-transfer")
    heading = page.locator("article > h2").last
    page.get_by_role("navigation", name="Contents").get_by_role("link", name=heading.text_content(), exact=True).click()
    assert page.evaluate("location.hash")
    address = page.url
    expect(heading).to_be_in_viewport()
    expect(page.locator("h1")).to_have_count(1)
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("article > h2").last).to_be_in_viewport()


def test_what_was_read_to_the_end_is_ticked(open_page: OpenPage):
    page = open_lesson(open_page, "1-numbers")
    expect(page.locator(".read")).to_have_count(0)
    page.locator(".turn").scroll_into_view_if_needed()
    page.locator(".turn [rel=next]").click()
    expect(page.locator("h1")).to_have_text(CONTENTS["en"]["2-convolution"])
    expect(page.locator(".contents li", has=page.locator(".read"))).to_have_count(1)
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("article td .read")).to_have_text("(read)")


def test_only_what_is_read_is_loaded(open_page: OpenPage, server: Server):
    page = open_page("docs")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(server.url)))
    page.goto(f"{server.url}/#/models")
    page.locator(".measured .interval").first.wait_for()
    assert not [each for each in asked if "learn" in each]
    asked.clear()
    page.goto(f"{server.url}/learn")
    page.locator("article.lesson h1").wait_for()
    page.wait_for_load_state("networkidle")
    assert [each for each in asked if each.endswith(".html")] == [
        each for each in asked if "/learn/en/index.html" in each
    ]
    assert not [each for each in asked if re.search(r"/files/|js/panels/|js/learn/(xor|kernel|iou|typicality)", each)]


@pytest.mark.parametrize("look", [{}, {**KOREAN, "viewport": PHONE}], ids=["light", "dark-korean-phone"])
def test_the_panels_of_the_page_are_inside(open_page: OpenPage, look: dict[str, object]):
    page = open_page("docs", **look)
    put_panels(page, *EMBEDDED)
    page.goto(page.url.replace("docs", "learn/4-detection"))
    page.locator("article.lesson h1").wait_for()
    for name, shown in EMBEDDED.items():
        place = page.locator(f"[data-panel={name}]")
        place.scroll_into_view_if_needed()
        place.locator(shown).first.wait_for()
        if name == "importance":
            weigh_words(place)
        assert place.locator("img[alt=Boxes]").count() == 0  # the panel replaces it
    assert page.locator("h1").count() == 1
    assert page.locator(".problem").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    # No section has two that answer.
    assert [each for each in barriers(page) if not each.startswith("landmark-unique")] == []
    assert "#" not in page.url  # panels keep their settings to themselves here


def test_a_strange_picture_is_not_familiar(open_page: OpenPage):
    page = open_page("docs")
    put_panels(page, "typicality")
    page.goto(page.url.replace("docs", "learn/7-unknown"))
    panel = page.get_by_role("region", name="how familiar")
    panel.locator(".typicality").wait_for()
    panel.get_by_role("button", name="Noise").click()
    panel.locator(".typicality.unlike").wait_for()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one small classifier."""
    folder = tmp_path_factory.mktemp("small")
    write_model(folder, "colours")
    running = Server(models=folder)
    yield running
    assert running.stop() == 0


def test_a_panel_without_its_model_says_so(small: Server, open_page: OpenPage):
    page = open_page("docs", url=small.url)
    put_panels(page, "threshold", "classify")
    page.goto(f"{small.url}/learn/4-detection")
    place = page.locator("[data-panel=threshold]")
    expect(place).to_contain_text("this server has no model for it")
    expect(place.get_by_role("img", name="Boxes")).to_be_visible()
    page.locator("[data-panel=classify] .panel > *").first.wait_for()


def test_links_to_cards_are_only_of_models_that_are_served(small: Server, open_page: OpenPage):
    page = open_page("docs", url=small.url)
    body = '<h1>Links</h1><p><a href="models/colours/1">one</a> <a href="models/detector/1">other</a></p>'
    page.route("**/learn/en/**", lambda route: route.fulfill(content_type="text/html", body=body))
    page.goto(f"{small.url}/learn/4-detection")
    expect(page.locator("article p")).to_have_text("one other")
    assert [link.get_attribute("href") for link in page.locator("article a").all()] == [f"{small.url}/models/colours/1"]


def test_the_text_is_there_without_a_key(open_page: OpenPage):
    """What needs a model asks for the key in its place."""
    page = open_page("docs")

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer secret":
            route.continue_()
        else:
            route.fulfill(status=401, content_type="application/problem+json", body='{"detail": "Who are you?"}')

    page.route("**/v1/**", guard)
    put_panels(page, "classify")
    page.goto(page.url.replace("docs", "learn/2-convolution"))
    expect(page.locator("h1")).to_have_text("Panels")
    page.get_by_label("Key (kept for this tab only)").fill("secret")
    page.get_by_role("button", name="Use it").click()
    page.locator("[data-panel=classify] .bars .value").first.wait_for()
    page.complaints.failed_requests = True


def test_it_works_below_a_prefix(open_page: OpenPage, server: Server):
    """As behind a proxy that serves it below /learn/quartet."""
    page = open_page("docs")
    prefix = "/learn/quartet"

    def pass_on(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace(prefix, "", 1)))

    page.route(f"**{prefix}/**", pass_on)
    page.goto(f"{server.url}{prefix}/learn/2-convolution")
    expect(page.locator("h1")).to_have_text(CONTENTS["en"]["2-convolution"])
    picture = page.locator("article img").first
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("(image) => image.naturalWidth") > 100
    page.locator(".turn [rel=next]").click()
    expect(page.locator("h1")).to_have_text(CONTENTS["en"]["3-transfer"])
    assert page.url == f"{server.url}{prefix}/learn/3-transfer"
    page.goto(f"{server.url}{prefix}/")
    page.locator(".bars .value").first.wait_for()


def test_pictures_keep_their_places(open_page: OpenPage):
    """Their sizes are known before they are loaded, so nothing moves."""
    page = open_lesson(open_page, "2-convolution", **ON_A_PHONE)
    shifts = page.evaluate(
        """async () => {
          let sum = 0;
          new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) if (!entry.hadRecentInput) sum += entry.value;
          }).observe({ type: "layout-shift", buffered: true });
          document.querySelectorAll("[data-panel]").forEach((place) => place.remove());
          for (let y = 0; y < document.body.scrollHeight; y += 400) {
            scrollTo(0, y);
            await new Promise((resolve) => setTimeout(resolve, 60));
          }
          return sum;
        }"""
    )
    assert shifts < 0.1
