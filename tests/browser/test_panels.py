"""Every panel in a real browser, against the real server with the committed models."""

import csv
import io
import json
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Page, Request, expect

from service.tasks.images import EncodedImage
from tests.browser.conftest import PHONE, WORDS, OpenPage, barriers, wait_for_pictures, weigh_words
from tests.browser.recorder import Recorder
from tests.pictures import encode, photograph
from tests.server import ROOT, Server

# Each panel with what shows that its first answer has come.
PANELS = {
    "classify": ".bars .value",
    "detect": ".overlay .box",
    "generate": ".tiles img",
    "read": WORDS,
    "numbers": ".contributions .value",
    "models": ".measured .interval",
    "status": ".timeline",
}
CARD = "models/detector/1"


def open_panel(open_page: OpenPage, panel: str, **options: object) -> Page:
    page = open_page(f"#/{panel}" if panel in PANELS else panel, **options)
    page.locator(PANELS.get(panel, "article.report h2")).first.wait_for()
    return page


@pytest.mark.parametrize(
    "look",
    [
        {},
        {"color_scheme": "dark", "locale": "ko-KR"},
        {"viewport": PHONE, "is_mobile": True, "has_touch": True},
    ],
    ids=["light", "dark-korean", "phone"],
)
def test_nothing_stands_in_the_way(open_page: OpenPage, look: dict[str, object], request: pytest.FixtureRequest):
    screenshots = request.config.getoption("--screenshots")
    page = open_panel(open_page, "classify", **look)
    for panel in [*PANELS, CARD]:
        if panel == CARD:
            page.goto(page.url.partition("#")[0] + CARD)
            page.locator("article.report img[src]").first.wait_for()
        else:
            page.goto(page.url.partition("#")[0] + f"#/{panel}")
            page.locator(PANELS[panel]).first.wait_for()
        if panel == "read":
            weigh_words(page)
        if screenshots:
            name = f"{panel.replace('/', '-')}-{request.node.callspec.id}.png"
            page.screenshot(path=screenshots / name, full_page=True)
        assert page.locator(".problem").count() == 0
        assert barriers(page) == [], panel
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (
            f"{panel} is wider than the screen"
        )
        assert page.evaluate("document.documentElement.lang") == ("ko" if "locale" in look else "en")
        assert page.locator("h1").count() == 1
    if "locale" in look:
        page.goto(page.url.partition("models/")[0])
        expect(page.locator("nav")).to_contain_text("분류")


def test_a_picture_of_ones_own_is_classified(open_page: OpenPage, server: Server, tmp_path: Path):
    page = open_panel(open_page, "classify")
    picture = tmp_path / "mine.jpg"
    picture.write_bytes(encode(photograph(300, 400), "JPEG"))
    page.get_by_label("Choose a picture").set_input_files(picture)
    with server.client() as client:
        answer = client.post("/v1/predict", content=picture.read_bytes(), headers={"content-type": "image/jpeg"}).json()
    first = answer["results"][0]["labels"][0]
    # The picture is noise, and the headline claims no more than that.
    expect(page.locator(".verdict")).to_have_text("No reliable answer ")
    expect(page.locator(".typicality.unlike")).to_contain_text("This model knows only: airplane, automobile, bird")
    expect(page.locator(".bars.muted .name").first).to_have_text(first["label"])
    page.get_by_role("button", name="Sample 2: cat").click()
    expect(page.locator(".verdict")).to_have_text(re.compile(r"cat \d\d\.\d%"))
    expect(page.locator(".truth")).to_have_text("True label: cat")
    expect(page.locator(".typicality")).to_contain_text(re.compile(r"Typical input\d\d\.\d% of ordinary inputs"))
    page.get_by_text("classifier, version 1, on cpu").click()
    assert re.search(r"network \d", page.locator(".timing").inner_text())
    # More coverage, larger sets, and the address says which.
    page.get_by_text("Prediction set at 95%").click()
    slider = page.get_by_label("Target coverage")
    sizes = []
    for key in ("Home", "End"):
        slider.press(key)
        sizes.append(page.locator("ul.chips li").count())
    assert sizes[0] == 1
    assert sizes[1] >= sizes[0]
    assert "coverage=0.99" in page.url
    page.get_by_label("Model", exact=True).select_option("classifier-transfer")
    expect(page.get_by_text("classifier-transfer, version 1")).to_be_visible()
    assert "model=classifier-transfer" in page.url


def test_several_pictures_are_a_table_to_download(open_page: OpenPage, tmp_path: Path):
    page = open_panel(open_page, "classify")
    cat = (ROOT / "service/tasks/examples/cat.jpg").read_bytes()
    files = {"cat.jpg": cat, "=1+1.jpg": cat, "broken.png": b"no image", "noise.png": encode(photograph(40, 40), "PNG")}
    page.get_by_label("Choose a picture").set_input_files(
        files=[{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files.items()]
    )
    expect(page.get_by_text("4 of 4 pictures answered")).to_be_visible()
    table = page.get_by_role("region", name="Answers by file")
    rows = [row.split("\t") for row in table.locator("tbody tr").all_inner_texts()]
    assert [row[1] for row in rows] == list(files)
    assert (rows[0][2], rows[0][4]) == ("cat", "typical")
    assert "no image of a known format" in rows[2][2]
    assert rows[3][4] == "unlike training"
    assert barriers(page) == []
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download CSV").click()
    lines = list(csv.DictReader(io.StringIO(saved.value.path().read_text())))
    assert [line["file"] for line in lines] == ["cat.jpg", "'=1+1.jpg", "broken.png", "noise.png"]
    assert lines[0]["label"] == "cat"
    assert float(lines[0]["typicality"]) > 0.2
    assert "no image" in lines[2]["error"]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download JSON").click()
    assert json.loads(saved.value.path().read_text())[0]["version"] == "1"
    page.complaints.failed_requests = True  # type: ignore[attr-defined]
    page.get_by_role("button", name="cat.jpg", exact=True).click()
    expect(page.locator(".verdict")).to_contain_text("cat")
    page.get_by_role("button", name="Back to the table").click()
    expect(table).to_be_visible()
    # Another model answers for the same pictures.
    page.get_by_label("Model", exact=True).select_option("classifier-transfer")
    expect(page.get_by_text("4 of 4 pictures answered")).to_be_visible()


def test_what_a_model_knows(open_page: OpenPage):
    page = open_panel(open_page, "read")
    known = page.locator(".knows")
    expect(known).to_contain_text("Knows 52 labels:")
    assert "zinc" not in known.inner_text()
    known.get_by_role("button", name="and 40 more").click()
    expect(known).to_contain_text("zinc")


def test_all_panels_are_in_reach_on_a_phone(open_page: OpenPage):
    page = open_panel(open_page, "classify", viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    boxes = [link.bounding_box() for link in page.locator("nav a").all()]
    assert len(boxes) == len(PANELS)
    assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] >= 44 for box in boxes)


def test_the_threshold_trades_precision_for_recall(open_page: OpenPage, server: Server):
    page = open_panel(open_page, "detect")
    with server.client() as client:
        manifest = client.get("/v1/models/detector").json()["manifest"]
    chosen, measured = (manifest[name] for name in ("curves", "test_curves"))
    f1 = chosen["overall"]["f1"]
    index = f1.index(max(f1))
    # Validation chooses where the slider begins, and test says what that does.
    expect(page.locator("output").first).to_have_text(f"{chosen['confidence'][index]:.3f}")
    expect(page.locator("p.figures")).to_contain_text(f"Precision {measured['overall']['precision'][index]:.1%}")
    expect(page.get_by_text("Measured on the 72 test pictures of BCCD")).to_be_visible()
    slider = page.get_by_label("Minimum confidence")
    point = page.locator(".chart .point")
    before = (page.locator(".overlay .box").count(), float(point.get_attribute("cx") or 0))
    slider.focus()
    for _ in range(40):
        slider.press("ArrowLeft")
    after = (page.locator(".overlay .box").count(), float(point.get_attribute("cx") or 0))
    assert after[0] > before[0], "a lower threshold shows more boxes"
    assert after[1] > before[1], "and its point lies at a higher recall"
    # The curve moves the slider too.
    value = slider.input_value()
    box = page.locator(".chart").bounding_box()
    assert box
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.15 * box["height"])
    assert int(slider.input_value()) > int(value)
    assert page.locator(".overlay .box").count() < after[0]
    # A box can be chosen with the keyboard.
    page.get_by_text("Each box with its score").click()
    page.locator(".found button").first.focus()
    assert page.locator(".overlay .selected").count() == 1
    confidence = re.search(r"confidence=([\d.]+)", page.url)
    assert confidence
    page.reload()
    page.locator(".chart .point[cx]").wait_for()
    expect(page.locator("output").first).to_have_text(f"{float(confidence[1]):.3f}")


def test_new_digits_of_a_class_are_made_and_downloaded(open_page: OpenPage):
    page = open_panel(open_page, "generate")
    expect(page.locator(".tiles img")).to_have_count(18)
    page.get_by_label("Class", exact=True).select_option("7")
    expect(page.locator(".tiles span")).to_have_text(["7"] * 18)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download (ZIP)").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert sum(name.endswith(".png") for name in archive.namelist()) == 18
    # What the other tools are set to stays in the address.
    page.get_by_role("link", name="Morph").click()
    page.locator(".strip img").first.wait_for()
    assert "label=7" in page.url
    page.go_back()
    expect(page.locator(".tiles span").first).to_have_text("7")


def test_a_digit_is_moved_along_directions(open_page: OpenPage):
    page = open_panel(open_page, "generate")
    page.get_by_role("link", name="Directions").click()
    image = page.get_by_alt_text("The picture where the sliders are")
    image.wait_for()
    expect(image).to_have_attribute("src", re.compile("^data:image/png"))
    before = image.get_attribute("src")
    expect(page.locator(".between img[src]")).to_have_count(12)
    end = page.locator(".between img").nth(1).get_attribute("src")
    page.get_by_label(re.compile("Direction 1 ")).press("End")
    expect(image).not_to_have_attribute("src", before or "")
    expect(image).to_have_attribute("src", end or "")  # the picture at the end of the slider
    assert "d1=3" in page.url


def test_a_digit_becomes_another(open_page: OpenPage):
    page = open_panel(open_page, "generate")
    page.get_by_role("link", name="Morph").click()
    image = page.get_by_alt_text("The picture between the two")
    image.wait_for()
    expect(image).to_have_attribute("src", re.compile("^data:image/png"))
    frames = page.locator(".strip button")
    expect(frames).to_have_count(11)
    expect(frames.nth(5)).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Share of the second").press("End")
    expect(image).to_have_attribute("src", frames.nth(10).locator("img").get_attribute("src") or "")
    frames.nth(2).click()
    expect(page.get_by_label("Share of the second")).to_have_value("4")
    with page.expect_response(lambda response: "/v1/decode" in response.url):
        page.get_by_role("group", name="To").get_by_role("button", name="Sample 4").click()
    assert "b=3" in page.url


def test_a_digit_is_drawn_and_restored(open_page: OpenPage):
    page = open_panel(open_page, "generate")
    page.get_by_role("link", name="Draw").click()
    bars = page.locator(".latents")
    bars.wait_for()
    sample = bars.get_attribute("aria-label")
    box = page.locator("canvas").bounding_box()
    assert box
    at = [
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in ((0.3, 0.25), (0.7, 0.25), (0.45, 0.8))
    ]
    page.mouse.move(*at[0])
    page.mouse.down()
    for spot in at[1:]:
        page.mouse.move(*spot, steps=8)
    page.mouse.up()
    # The first stroke has replaced the sample.
    expect(bars).not_to_have_attribute("aria-label", sample or "")
    expect(page.locator(".latents rect")).to_have_count(32)
    expect(page.get_by_text("Mean squared error")).to_be_visible()
    expect(page.locator(".typicality")).to_be_visible()
    page.get_by_role("button", name="10 more like it").click()
    expect(page.locator(".tiles img")).to_have_count(10)
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".latents")).to_have_count(0)
    expect(page.locator(".typicality")).to_have_count(0)


def classify_text(page: Page, text: str) -> None:
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name=re.compile("Classify")).click()


def test_a_text_and_the_words_that_decided(open_page: OpenPage):
    page = open_panel(open_page, "read")
    text = "Crude oil prices rose 🛢 after OPEC ministers agreed to cut oil output in Quxborough."
    classify_text(page, text)
    expect(page.locator(".verdict")).to_contain_text("crude oil")
    expect(page.get_by_text("It does not know 1 of them.")).to_be_visible()
    weigh_words(page)
    expect(page.locator(".words")).to_have_text(text)
    assert {"Crude", "oil", "OPEC"} & set(page.locator(".words mark.for").all_inner_texts())
    # A word that the model does not know has no weight, and each word is named once.
    expect(page.locator(".words .unknown")).to_have_text(["Quxborough"])
    named = page.locator(".contributions .name").all_inner_texts()
    assert "oil ×2" in named
    assert len(named) == len(set(named))
    assert not [value for value in page.locator(".contributions .value").all_inner_texts() if "0.00" in value]
    classify_text(page, "!!! 123")
    expect(page.get_by_text("nothing in this input that the model can read")).to_be_visible()
    expect(page.get_by_role("heading", name="Words that decided")).to_be_hidden()
    classify_text(page, "   ")
    expect(page.get_by_text("Paste a text, or pick a sample.")).to_be_visible()


def test_a_long_text_is_answered_at_once_and_explained_when_asked(open_page: OpenPage):
    page = open_panel(open_page, "read")
    with page.expect_request(lambda request: "classify-text" in request.url) as asked:
        classify_text(page, "the company said net profit rose to mln dlrs this year " * 15_000)
    assert len(asked.value.post_data) == 100_000, "the server reads no further"
    expect(page.get_by_text("The model read only the first 512 of 165,00")).to_be_visible()
    expect(page.locator(".bars .value").first).to_be_visible()
    explained = page.get_by_role("region", name="Words that decided")
    expect(explained).to_contain_text("the model runs once for each of them")
    explained.get_by_role("button", name="Weigh the words").click()
    expect(explained).to_contain_text("Weighing 512 words")
    # Another text does not wait for the explanation.
    classify_text(page, "Coffee exports of Brazil")
    expect(page.get_by_text("The model read all 4 words")).to_be_visible()
    weigh_words(page)
    expect(page.locator(".words")).to_have_text("Coffee exports of Brazil")


def test_a_number_is_changed(open_page: OpenPage):
    page = open_panel(open_page, "numbers")
    first = page.locator(".contributions").inner_text()
    ranked = [abs(float(text.replace("−", "-"))) for text in page.locator(".contributions .value").all_inner_texts()]
    assert ranked == sorted(ranked, reverse=True)
    assert page.locator("fieldset").count() == 3
    field = page.get_by_label("worst area", exact=True)
    with page.expect_response(lambda response: "predict-tabular" in response.url):
        field.fill("9999")
    expect(page.locator(".contributions")).not_to_have_text(first)
    expect(field).to_have_class("outside")
    expect(page.get_by_text("outside the training range")).to_be_visible()
    expect(page.locator(".verdict")).to_contain_text("No reliable answer")
    assert "=9999" in page.url
    # The slider beside it sets the field.
    slider = page.locator(".column", has=field).locator("input[type=range]")
    slider.fill("700.02")
    expect(field).to_have_value("700")
    with page.expect_request(
        lambda request: "predict-tabular" in request.url and request.post_data_json["rows"][0]["worst area"] is None
    ):
        field.fill("")
    # The answer is seen where the last column is changed.
    page.get_by_label("worst fractal dimension", exact=True).scroll_into_view_if_needed()
    expect(page.locator(".verdict")).to_be_in_viewport()


def test_the_answer_stays_in_sight_on_a_phone(open_page: OpenPage):
    page = open_panel(open_page, "numbers", viewport=PHONE, is_mobile=True, has_touch=True)
    page.get_by_label("worst fractal dimension", exact=True).scroll_into_view_if_needed()
    expect(page.locator(".verdict")).to_be_in_viewport()


def test_pasted_rows_are_answered_in_a_table(open_page: OpenPage, server: Server, tmp_path: Path):
    page = open_panel(open_page, "numbers")
    with server.client() as client:
        rows = [client.get(f"/v1/models/tabular/1/samples/{index}").json()["rows"][0] for index in range(3)]
        answers = client.post("/v1/predict-tabular", json={"rows": rows}).json()["results"]
    names = list(rows[0])
    lines = ["\t".join(str(row[name]) for name in names) for row in rows]
    page.get_by_text("Paste rows, or choose a CSV file").click()
    pasted = page.get_by_label("Rows, with or without a header")
    predict = page.get_by_role("button", name="Predict")
    # As they are copied from a spreadsheet, without a header.
    pasted.fill("\n".join(lines))
    predict.click()
    table = page.get_by_role("region", name="Answers for the rows").locator("tbody tr")
    expect(table).to_have_count(3)
    for index, answer in enumerate(answers):
        expect(table.nth(index)).to_contain_text(answer["labels"][0]["label"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    with Path(download.value.path()).open(newline="") as file:
        saved = list(csv.DictReader(file))
    assert [row["predicted diagnosis"] for row in saved] == [answer["labels"][0]["label"] for answer in answers]
    assert [float(row["worst area"]) for row in saved] == [row["worst area"] for row in rows]
    # A row of the table opens in the form; so does a single row that is pasted.
    table.nth(2).get_by_role("button").click()
    expect(page.get_by_label("worst area", exact=True)).to_have_value(str(rows[2]["worst area"]))
    file = tmp_path / "one.csv"
    file.write_text(",".join(names) + "\n" + ",".join(str(rows[1][name]) for name in names) + "\n")
    page.get_by_label("Choose a CSV file").set_input_files(file)
    expect(page.get_by_label("worst area", exact=True)).to_have_value(str(rows[1]["worst area"]))
    pasted.fill("1,2,3")
    predict.click()
    expect(page.locator(".problem")).to_contain_text("Row 1 has 3 cells where 30 are expected")
    assert barriers(page) == []


def test_models_and_their_cards(open_page: OpenPage, server: Server):
    page = open_panel(open_page, "models")
    assert page.locator("article").count() == len(list((ROOT / "models").iterdir()))
    page.locator("article", has_text="detector").first.get_by_role("link", name="Model card").click()
    expect(page.locator("h1")).to_have_text("detector")
    assert page.url == f"{server.url}/{CARD}"
    # The contents lead to the sections, and tables have their numbers at the right.
    contents = page.get_by_role("navigation", name="Contents")
    contents.get_by_role("link", name="Training").click()
    expect(page.get_by_role("heading", name="Training")).to_be_in_viewport()
    assert page.url == f"{server.url}/{CARD}"
    assert page.locator(".report td.num").count() > 20
    wait_for_pictures(page)
    assert page.locator(".report img").count() > 3
    # A chart is told from a photograph, which stays as it is in the dark.
    expect(page.get_by_alt_text("Learning curves")).to_have_class("chart-image")
    assert page.locator(".report img:not(.chart-image)").count() > 0
    page.get_by_role("link", name="Try it").click()
    expect(page.locator("h1")).to_have_text("Detect")
    assert page.url.startswith(f"{server.url}/#/detect?model=detector")


def sent(request: Request) -> tuple[str, dict[str, list[str]]]:
    """The path and the options of a request of the page."""
    url = urlsplit(request.url)
    return url.path, parse_qs(url.query)


PANEL_MODELS = {"classify": "classifier", "detect": "detector"}


@pytest.fixture
def recorder(server: Server) -> Iterator[Recorder]:
    with Recorder(server.url) as recorder:
        yield recorder


@pytest.mark.parametrize("panel", ["classify", "detect"])
def test_the_code_is_the_request(open_page: OpenPage, server: Server, recorder: Recorder, panel: str, tmp_path: Path):
    page = open_panel(open_page, panel)
    operation = {"classify": "predict"}.get(panel, panel)
    with page.expect_request(f"**/v1/{operation}?*") as asked:
        page.get_by_role("button", name="Sample 2").click()
    wanted = sent(asked.value)
    path = f"/v1/models/{PANEL_MODELS[panel]}/1/samples/1"
    with server.client() as client:
        sample = client.get(path).content
    expect(page.get_by_role("button", name="Sample 2")).to_have_attribute("aria-pressed", "true")
    page.get_by_text("This request as code").click()
    expect(page.locator(".code pre")).to_contain_text(path)  # the code follows the answer
    for language in ("curl", "Python", "JavaScript"):
        page.get_by_role("tab", name=language).click()
        code = page.locator(".code pre").inner_text()
        if language == "JavaScript":
            with page.expect_request(f"**/v1/{operation}?*") as made:
                page.evaluate(f"async () => {{ const console = {{log: () => null}}; {code} }}")
            assert sent(made.value) == wanted
            continue
        run = ["bash", "-ec"] if language == "curl" else [sys.executable, "-c"]
        subprocess.run([*run, code.replace(page.url.partition("/#")[0], recorder.url)], cwd=tmp_path, check=True)
        assert recorder.asked[-1][:2] == wanted, language
        assert recorder.asked[-1][2] == sample, language


@pytest.mark.parametrize("panel", ["classify", "numbers"])
def test_the_code_runs_as_it_is_copied(open_page: OpenPage, panel: str, tmp_path: Path):
    page = open_panel(open_page, panel)
    page.get_by_text("This request as code").click()
    copied = {}
    for language in ("curl", "Python", "JavaScript"):
        page.get_by_role("tab", name=language).click()
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_text("Copied.")).to_be_visible()
        copied[language] = page.evaluate("navigator.clipboard.readText()")
    shell = subprocess.run(["bash", "-ec", copied["curl"]], capture_output=True, text=True, cwd=tmp_path, check=True)
    python = subprocess.run([sys.executable, "-c", copied["Python"]], capture_output=True, text=True, check=True)
    script = page.evaluate(
        f"async () => {{ let said; const console = {{log: (it) => said = it}}; {copied['JavaScript']}; return said; }}"
    )
    assert '"results"' in shell.stdout
    assert "Prediction(" in python.stdout
    assert script["results"]
    assert shlex.split(copied["curl"])[0] == "curl"


def test_the_links_lead_to_the_documentation(open_page: OpenPage, server: Server):
    with server.client() as client:
        known = {
            operation["operationId"]
            for item in client.get("/openapi.json").json()["paths"].values()
            for operation in item.values()
        }
    page = open_panel(open_page, "classify")
    for panel in ("classify", "detect", "generate", "read", "numbers"):
        page.goto(f"{server.url}/#/{panel}")
        link = page.locator(".code a")
        link.wait_for(state="attached")
        assert (link.get_attribute("href") or "").rpartition("/")[2] in known, panel


def test_live_detection_of_a_camera_and_a_file(open_page: OpenPage, tmp_path: Path):
    page = open_panel(open_page, "detect")
    live = page.get_by_role("region", name="Live")
    live.get_by_role("button", name="Use the camera").click()
    expect(live.get_by_text("frames per second")).to_be_visible()
    live.get_by_role("button", name="Stop").click()
    video = tmp_path / "cells.webm"
    video.write_bytes(bytes(page.evaluate(RECORD)))
    live.get_by_label("Choose a video file").set_input_files(video)
    expect(live.get_by_text("frames per second")).to_be_visible()
    expect(live.get_by_text(re.compile(r"[1-9]\d* boxes"))).to_be_visible()
    live.get_by_label("Choose a video file").set_input_files(
        files=[{"name": "x.webm", "mimeType": "video/webm", "buffer": b"none"}]
    )
    expect(live.get_by_text("cannot play this file")).to_be_visible()


# A second of the first sample, moving.
RECORD = """async () => {
  const picture = await createImageBitmap(await (await fetch("v1/models/detector/1/samples/0")).blob());
  const canvas = Object.assign(document.createElement("canvas"), {width: 320, height: 240});
  const recorder = new MediaRecorder(canvas.captureStream(20), {mimeType: "video/webm"});
  const parts = [];
  recorder.ondataavailable = ({data}) => parts.push(data);
  const ended = new Promise((resolve) => recorder.onstop = resolve);
  recorder.start();
  for (let step = 0; step < 20; step++) {
    canvas.getContext("2d").drawImage(picture, step % 5, 0, 320, 240);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  recorder.stop();
  await ended;
  return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
}"""


def test_a_photograph_is_taken_pasted_and_dropped(open_page: OpenPage):
    page = open_panel(open_page, "classify")
    answered = lambda response: "/v1/predict" in response.url  # noqa: E731
    with page.expect_response(answered):
        page.get_by_role("button", name="Take a photograph").click()
        page.get_by_role("button", name="Take the picture").click()
    for kind in ("paste", "drop"):
        with page.expect_response(answered):
            page.evaluate(HAND_OVER, kind)


HAND_OVER = """async (kind) => {
  const data = new DataTransfer();
  const picture = await (await fetch("v1/models/classifier/1/samples/1")).blob();
  data.items.add(new File([picture], "cat.png", {type: "image/png"}));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
    : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
  document.querySelector(".drop").dispatchEvent(event);
}"""


def test_everything_by_keyboard(open_page: OpenPage):
    page = open_panel(open_page, "classify")

    def press_until(selector: str, key: str = "Tab", most: int = 60) -> None:
        for _ in range(most):
            page.keyboard.press(key)
            if page.evaluate("(wanted) => document.activeElement.matches(wanted)", selector):
                return
        raise AssertionError(f"{selector} cannot be reached")

    press_until(".skip")
    press_until(".samples li:nth-child(2) button")
    with page.expect_response(lambda response: "/v1/predict" in response.url):
        page.keyboard.press("Enter")
    press_until(".more summary")
    page.keyboard.press("Enter")
    press_until("input[type=range]")
    page.keyboard.press("ArrowRight")
    assert "coverage=0.96" in page.url
    press_until(".code summary")
    page.keyboard.press("Enter")
    press_until("[role=tab]")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Python")).to_have_attribute("aria-selected", "true")
    press_until("a[href$='#/generate']", "Shift+Tab", 80)
    page.keyboard.press("Enter")
    page.locator(".tiles img").first.wait_for()
    assert page.evaluate("document.activeElement.id") == "main"
    press_until("a[href*='tool=draw']")
    page.keyboard.press("Enter")
    page.locator(".latents").wait_for()
    press_until(".sketch")
    for key in (" ", *["ArrowDown"] * 8, " "):
        page.keyboard.press(key)
    expect(page.locator(".latents rect")).to_have_count(32)
    press_until("#language", "Shift+Tab", 80)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("생성")
    assert page.evaluate("document.activeElement.id") == "language"


def test_the_theme_and_the_language_are_kept(open_page: OpenPage):
    page = open_panel(open_page, "models")
    page.get_by_role("button", name="Light or dark").click()
    page.get_by_role("button", name="한국어").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    expect(page.locator("h1")).to_have_text("모델")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    assert np.mean([int(each) for each in re.findall(r"\d+", dark)]) < 60


def test_the_samples_are_what_was_said(server: Server):
    with server.client() as client:
        sample = client.get("/v1/models/detector/1/samples/0")
        image = client.get("/v1/models/detector").json()["manifest"]["image"]
    # The photographs are of 640 by 480 pixels; what fills the model's frame is not in the sample.
    assert EncodedImage.open(sample.content).upright_size == (image["width"] * 3 // 4, image["width"])


def test_the_first_paint(open_page: OpenPage):
    paints = []
    for _ in range(3):
        page = open_page()
        page.locator(".bars .value").first.wait_for()
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    print(f"\nfirst contentful paint: {', '.join(f'{paint:.0f}' for paint in paints)} ms")
