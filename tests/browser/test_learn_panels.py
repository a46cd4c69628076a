"""The course's own panels, each mounted by itself, and what they compute."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PHONE, OpenPage, barriers
from tests.pictures import encode
from tests.server import ROOT

NAMES = ("neuron", "xor", "kernel", "iou", "ap", "recurrence")
# A picture of 100 × 100 pixels with three objects, and four boxes in it.
SCENE = {
    "image": "image.png",
    "width": 100,
    "height": 100,
    "label": "Cell",
    "overlap": 0.5,
    "truths": [[10, 10, 30, 30], [50, 10, 80, 40], [20, 60, 40, 90]],
    "boxes": [
        {"score": 0.9, "box": [11, 10, 31, 30], "iou": 0.9, "truth": 0, "hit": True},
        {"score": 0.8, "box": [60, 60, 80, 80], "iou": 0.0, "truth": None, "hit": False},
        {"score": 0.7, "box": [50, 12, 80, 42], "iou": 0.88, "truth": 1, "hit": True},
        {"score": 0.2, "box": [0, 0, 10, 10], "iou": 0.0, "truth": None, "hit": False},
    ],
}
# Puts a panel alone on the page of the course's contents.
MOUNT = """async (names) => {
  const base = new URL("../", document.querySelector('script[type="module"]').src);
  const { t } = await import(new URL("js/i18n.js", base));
  const main = document.getElementById("main");
  const headed = (tag, textContent) => Object.assign(document.createElement(tag), { textContent });
  main.replaceChildren(headed("h1", "Course"), headed("h2", "Panels"));
  window.leaving = new AbortController();
  for (const name of names) {
    const { mount } = await import(new URL(`js/learn/${name}.js`, base));
    const place = Object.assign(document.createElement("section"), { className: "card stack" });
    const element = document.createElement("div");
    place.dataset.panel = name;
    place.setAttribute("aria-label", t(`learn.panel.${name}`));
    place.append(headed("h3", t(`learn.panel.${name}`)), element);
    main.append(place);
    await mount(element, {
      models: [], memory: {}, signal: leaving.signal, file: (path) => new URL(`learn/files/${path}`, base),
    });
  }
}"""
# Calls a function of a module of the page.
CALL = """async ([module, code, given]) => {
  const base = new URL("../", document.querySelector('script[type="module"]').src);
  const found = await import(new URL(`js/learn/${module}.js`, base));
  return (FUNCTION)(found, given);
}"""

Call = Callable[..., Any]


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    opened = open_page("learn")
    opened.locator("article h1").wait_for()
    return opened


@pytest.fixture
def call(page: Page) -> Call:
    """Calls code with a module of the panels and an argument."""

    def with_module(module: str, code: str, given: object = None) -> Any:
        return page.evaluate(CALL.replace("FUNCTION", code), [module, None, given])

    return with_module


def mounted(page: Page, *names: str) -> Locator:
    """The last of these panels."""
    page.route("**/learn/files/ap/ap.json", lambda route: route.fulfill(json=SCENE))
    picture = encode(np.full((100, 100, 3), 200, np.uint8))
    page.route("**/learn/files/ap/image.png", lambda route: route.fulfill(body=picture, content_type="image/png"))
    page.evaluate(MOUNT, list(names))
    name = names[-1]
    return page.locator(f'[data-panel="{name}"]')


@pytest.mark.parametrize(
    "look",
    [
        {},
        {"color_scheme": "dark", "locale": "ko-KR"},
        {"viewport": PHONE, "is_mobile": True, "has_touch": True, "reduced_motion": "reduce"},
    ],
    ids=["light", "dark-korean", "phone"],
)
def test_nothing_stands_in_the_way(open_page: OpenPage, look: dict[str, object], request: pytest.FixtureRequest):
    page = open_page("learn", **look)
    page.locator("article h1").wait_for()
    mounted(page, *NAMES)
    page.locator('[data-panel="xor"] summary').click()
    if screenshots := request.config.getoption("--screenshots"):
        page.screenshot(path=screenshots / f"learn-panels-{request.node.callspec.id}.png", full_page=True)
    assert barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_gradients_are_the_slopes_of_the_loss(call: Call):
    networks = [(0, "none"), (1, "tanh"), (3, "none"), (3, "tanh"), (3, "sigmoid"), (8, "relu")]
    found = call(
        "network",
        """({ network }, networks) => networks.map(([hidden, activation]) => {
          const net = network(hidden, activation, 7);
          const points = [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0.3, 0.8, 1]];
          return [...net.gradient(points)].map((slope, at) => {
            const [weight, tiny] = [net.weights[at], 1e-5];
            const [above, below] = [tiny, -tiny].map((by) => {
              net.weights[at] = weight + by;
              return net.loss(points);
            });
            net.weights[at] = weight;
            return [slope, (above - below) / (2 * tiny)];
          });
        })""",
        networks,
    )
    for (hidden, _), slopes in zip(networks, found, strict=True):
        assert len(slopes) == (4 * hidden + 1 if hidden else 3)
        for slope, measured in slopes:
            assert slope == pytest.approx(measured, abs=1e-8)


def test_xor_takes_a_hidden_layer_that_is_not_linear(call: Call):
    solves = {(0, "tanh"): False, (1, "tanh"): False, (4, "none"): False, (2, "tanh"): True, (3, "sigmoid"): True}
    found = call(
        "network",
        """({ network }, networks) => networks.map(([hidden, activation]) => {
          const net = network(hidden, activation, 10);
          const points = [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]];
          for (let step = 0; step < 5000; step++) net.step(points, 1);
          return [net.right(points), net.loss(points)];
        })""",
        list(solves),
    )
    for ((hidden, activation), solved), (right, loss) in zip(solves.items(), found, strict=True):
        assert (right == 4) is solved
        assert (loss < 0.05) is solved
        if hidden == 0 or activation == "none":
            assert loss == pytest.approx(math.log(2), abs=1e-3)  # the best is the answer 0.5 to everything


def test_the_playground_learns_and_stops(page: Page):
    panel = mounted(page, "xor")
    said = panel.locator("[role=status]")
    panel.get_by_role("slider", name="Learning rate").fill("4")
    panel.get_by_role("button", name="Play").click()
    expect(said).to_contain_text("All 4 points are right", timeout=15_000)
    expect(panel.get_by_role("button", name="Play")).to_be_visible()
    expect(panel).to_contain_text("4 of 4 right")
    panel.locator("summary").click()
    assert panel.locator("tbody tr").count() == 3
    hidden = panel.get_by_role("slider", name="Hidden units")
    hidden.fill("0")
    expect(panel).to_contain_text("Step 0 ·")
    step = panel.get_by_role("button", name="One step")
    step.focus()
    for _ in range(3):
        page.keyboard.press("Enter")
    expect(panel).to_contain_text("Step 3 ·")
    expect(said).to_contain_text("of 4 points are right after 3 steps")
    assert panel.locator("tbody tr").count() == 1
    panel.get_by_label("Data").select_option("and")
    panel.get_by_role("button", name="Play").click()
    expect(panel).to_contain_text("4 of 4 right", timeout=15_000)


def test_nothing_goes_on_when_the_section_is_left(page: Page):
    panel = mounted(page, "xor")
    panel.get_by_role("slider", name="Hidden units").fill("0")
    panel.get_by_role("button", name="Play").click()
    expect(panel.locator("p.number:not(.live)")).not_to_contain_text("Step 0 ·")
    page.evaluate("leaving.abort()")
    page.wait_for_timeout(100)
    steps = panel.inner_text()
    page.wait_for_timeout(200)
    assert panel.inner_text() == steps


def test_nothing_is_computed_out_of_view(page: Page):
    panel = mounted(page, "xor")
    panel.get_by_role("slider", name="Hidden units").fill("0")
    panel.get_by_role("button", name="Play").click()
    steps = panel.locator("p.number:not(.live)")
    expect(steps).not_to_contain_text("Step 0 ·")
    panel.evaluate("element => { element.style.visibility = 'hidden'; element.style.marginTop = '300vh'; }")
    page.wait_for_timeout(200)
    resting = steps.text_content()
    page.wait_for_timeout(200)
    assert steps.text_content() == resting
    panel.evaluate("element => { element.style.visibility = ''; element.style.marginTop = ''; }")
    expect(steps).not_to_have_text(resting or "")


def test_a_panel_keeps_its_values_when_the_language_changes(open_page: OpenPage):
    page = open_page("learn/0-neuron")
    page.locator('[data-panel="neuron"]').scroll_into_view_if_needed()
    panel = page.locator('[data-panel="neuron"]')
    panel.get_by_role("slider", name="w₁").fill("-2.5")
    panel.get_by_label("Activation").select_option("tanh")
    page.locator("#language").click()
    expect(panel.get_by_label("활성화 함수")).to_have_value("tanh")
    expect(panel.get_by_role("slider", name="w₁")).to_have_value("-2.5")


def test_a_surface_has_the_colours_of_the_theme(page: Page):
    panel = mounted(page, "neuron")
    light = panel.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    page.get_by_role("button", name="Light or dark").click()
    page.wait_for_timeout(50)
    assert panel.locator("canvas").evaluate("canvas => canvas.toDataURL()") != light


def test_less_motion_means_fewer_pictures(open_page: OpenPage):
    page = open_page("learn", reduced_motion="reduce")
    page.locator("article h1").wait_for()
    panel = mounted(page, "xor")
    panel.get_by_role("button", name="Play").click()
    steps = panel.locator("p.number:not(.live)")
    expect(steps).not_to_contain_text("Step 0 ·")
    # Each picture stands for thirty frames of three steps.
    count = re.match(r"Step (\d+) ", steps.text_content() or "")
    assert count
    assert int(count[1]) % 90 == 0


def test_a_neuron_is_set_by_keyboard_and_pointer(page: Page):
    panel = mounted(page, "neuron")
    said = panel.locator("[role=status]")
    expect(said).to_contain_text("3 of 4 points of AND")
    expect(panel).to_contain_text("2.0 · 0.9 + (−1.0) · 0.4 + (−0.5) = 0.90")
    expect(panel).to_contain_text("step(0.90) = 1.00")
    for name, value in (("w₁", "1"), ("w₂", "1"), ("bias", "-1.4")):
        panel.get_by_role("slider", name=name).fill(value)
    panel.get_by_role("slider", name="bias").focus()
    page.keyboard.press("ArrowLeft")
    expect(said).to_contain_text("All 4 points of AND")
    panel.get_by_label("Activation").select_option("sigmoid")
    expect(panel).to_contain_text("1.0 · 0.9 + 1.0 · 0.4 + (−1.5) = −0.20")
    expect(panel).to_contain_text("sigmoid(−0.20) = 0.45")
    panel.get_by_label("Activation").select_option("relu")
    expect(panel).to_contain_text("ReLU(−0.20) = 0.00")
    panel.locator(".plane svg").click(position={"x": 5, "y": 5})
    assert float(panel.get_by_role("slider", name="x₁").input_value()) < -0.8
    assert float(panel.get_by_role("slider", name="x₂").input_value()) > 1.8


def test_convolutions_are_those_of_numpy(call: Call):
    random = np.random.default_rng(1)
    picture, kernel = random.random((7, 7)), random.normal(size=9)
    options = [{"padding": padding, "stride": stride} for padding in (0, 1, 2) for stride in (1, 2, 3)]
    found = call(
        "convolution",
        "({ convolve }, [picture, kernel, all]) => all.map((each) => convolve(picture, kernel, each))",
        [picture.tolist(), kernel.tolist(), options],
    )
    for each, output in zip(options, found, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(picture, each["padding"]), (3, 3))
        expected = (windows * kernel.reshape(3, 3)).sum((2, 3))[:: each["stride"], :: each["stride"]]
        np.testing.assert_allclose(np.array(output), expected, atol=1e-12)


def test_an_output_cell_shows_what_makes_it(page: Page):
    panel = mounted(page, "kernel")
    said = panel.locator("[role=status]")
    output = panel.locator(".output")
    expect(panel).to_contain_text("⌊(5 + 2·0 − 3) / 1⌋ + 1 = 3")
    expect(said).to_contain_text("Row 3, column 1 of the feature map: the nine products add up to 3.")
    assert output.locator("text").all_text_contents() == ["1", "1", "0", "2", "2", "0", "3", "3", "0"]
    panel.get_by_label("Picture", exact=True).select_option("digit")
    expect(panel).to_contain_text("⌊(12 + 2·0 − 3) / 1⌋ + 1 = 10")
    output.focus()
    page.keyboard.press("ArrowDown")
    expect(said).to_contain_text("Row 4, column 1")
    box = output.locator("svg").bounding_box()
    assert box
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    expect(said).to_contain_text("Row 1, column 1")
    expect(panel.locator(".products span")).to_have_count(9)
    panel.get_by_role("slider", name="Stride").fill("2")
    panel.get_by_role("slider", name="Padding").fill("1")
    expect(panel).to_contain_text("⌊(12 + 2·1 − 3) / 2⌋ + 1 = 6")
    assert output.locator("rect.plus, rect.minus").count() == 36
    panel.get_by_label("Weight, row 2, column 2").fill("5")
    expect(panel.get_by_label("Kernel", exact=True)).to_have_value("own")
    panel.get_by_label("Kernel", exact=True).select_option("identity")
    expect(panel.get_by_label("Weight, row 2, column 2")).to_have_value("1")


def test_moved_boxes_stay_on_the_paper(call: Call):
    boxes = call(
        "geometry",
        """({ moved, area, overlap, WIDTH, HEIGHT }) => {
          let box = [4, 3, 12, 8];
          const all = [];
          for (let turn = 0; turn < 400; turn++) {
            const by = [(turn * 7) % 11 - 5, (turn * 5) % 9 - 4];
            box = moved(box, by, [[0, 1, 2, 3], [0, 1], [2, 1], [0, 3], [2, 3]][turn % 5]);
            all.push([...box, area(box), overlap(box, box)]);
          }
          return all.map((each) => [...each, WIDTH, HEIGHT]);
        }""",
    )
    for left, top, right, bottom, area, same, width, height in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert area == (right - left) * (bottom - top)
        assert same == 1


def test_boxes_are_moved_by_keyboard_and_mouse(page: Page):
    panel = mounted(page, "iou")
    said = panel.locator("[role=status]")
    expect(panel).to_contain_text("12 + 12 − 4 = 20")
    expect(panel).to_contain_text("4 / 20 = 0.20")
    expect(said).to_contain_text("no hit")
    panel.get_by_role("button", name="A third off").click()
    expect(panel).to_contain_text("24 / 48 = 0.50")
    expect(said).to_contain_text("a hit if 0.5 is asked for")
    found = panel.get_by_role("application", name="Found box")
    found.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(said).to_contain_text("IoU 1.00: a hit at 0.5 and at 0.75")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Shift+ArrowRight")
    expect(panel).to_contain_text("7 × 6 = 42")
    expect(found).to_have_attribute("aria-label", "Found box: from 3, 1 to 10, 7")
    panel.get_by_role("button", name="Close").click()
    expect(found).to_have_attribute("aria-label", "Found box: from 4, 2 to 12, 8")
    stage = panel.locator(".boxes-stage").bounding_box()
    body = found.locator(".body").bounding_box()
    assert stage
    assert body
    unit = stage["width"] / 17
    page.mouse.move(body["x"] + body["width"] / 2, body["y"] + body["height"] / 2)
    page.mouse.down()
    page.mouse.move(body["x"] + body["width"] / 2 + 6 * unit, body["y"] + body["height"] / 2 + 2 * unit, steps=4)
    page.mouse.up()
    # It stops at the paper's edge.
    expect(found).to_have_attribute("aria-label", "Found box: from 8, 4 to 16, 10")
    expect(panel).to_contain_text("48 + 48 − 12 = 84")


def test_a_box_is_moved_by_a_finger_and_the_page_is_not(open_page: OpenPage):
    page = open_page("learn", viewport=PHONE, is_mobile=True, has_touch=True)
    page.locator("article h1").wait_for()
    panel = mounted(page, "neuron", "iou")
    panel.scroll_into_view_if_needed()
    found = panel.get_by_role("application", name="Found box")
    body = found.locator(".body").bounding_box()
    assert body
    x, y = body["x"] + body["width"] / 2, body["y"] + body["height"] / 2
    scrolled = page.evaluate("scrollY")
    fingers = page.context.new_cdp_session(page)
    for kind, down in (("touchStart", 0), ("touchMove", 15), ("touchMove", 40), ("touchEnd", None)):
        points = [] if down is None else [{"x": x, "y": y + down}]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(found).not_to_have_attribute("aria-label", "Found box: from 6, 4 to 10, 7")
    assert page.evaluate("scrollY") == scrolled


def test_average_precision_grows_box_by_box(page: Page):
    panel = mounted(page, "ap")
    said = panel.locator("[role=status]")
    expect(said).to_contain_text("No box counts yet. There are 3 true boxes of Cell.")
    assert panel.locator(".scene .truth").count() == 3
    further = panel.get_by_role("button", name="Next box")
    further.click()
    expect(said).to_contain_text("Box 1 is a hit: precision 1.000, recall 0.333. Area so far: 0.333.")
    further.click()
    expect(said).to_contain_text("Box 2 is false: precision 0.500, recall 0.333. Area so far: 0.333.")
    further.click()
    expect(said).to_contain_text("Box 3 is a hit: precision 0.667, recall 0.667. Area so far: 0.556.")
    assert panel.locator(".scene .hit").count() == 2
    assert panel.locator(".scene .miss").count() == 1
    panel.get_by_role("slider").fill("1")
    assert panel.locator(".scene .hit, .scene .miss").count() == 1
    assert panel.locator("tbody tr.later").count() == 3
    panel.get_by_role("button", name="Back").click()
    expect(said).to_contain_text("No box counts yet")


def test_average_precision_is_that_of_the_record(call: Call):
    """The panel counts for itself what `python -m course.ap` has written down."""
    record = json.loads((ROOT / "docs" / "course" / "ap" / "ap.json").read_text())
    points, area, steps = call(
        "ap",
        """({ curveOf, areaOf, envelope }, { boxes, truths }) => {
          const points = curveOf(boxes.map(({ hit }) => hit), truths.length);
          return [points, areaOf(points), envelope(points)];
        }""",
        record,
    )
    assert area == pytest.approx(record["ap"], abs=5e-4)
    for point, box in zip(points, record["boxes"], strict=True):
        assert point["precision"] == pytest.approx(box["precision"], abs=5e-4)
        assert point["recall"] == pytest.approx(box["recall"], abs=5e-4)
    hits = [box["envelope"] for box in record["boxes"] if box["hit"]]
    assert [step["precision"] for step in steps] == pytest.approx(hits, abs=5e-4)


def test_the_area_is_that_below_the_envelope(call: Call):
    area = call(
        "ap", "({ curveOf, areaOf }) => areaOf(curveOf([true, false, true, false, false, true], 4))"
    )  # precision 1, 2/3 and 1/2 at recall 1/4, 2/4 and 3/4
    assert area == pytest.approx((1 + 2 / 3 + 1 / 2) / 4)


def test_padding_changes_the_state_unless_it_is_masked(call: Call):
    found = call(
        "recurrent",
        """({ readAll, answerOf, SENTENCES, PAD }) => SENTENCES.map((sentence) => {
          const words = sentence.split(" ");
          const padded = [...words, ...Array(8).fill(PAD)];
          return [readAll(words, false), readAll(padded, false), readAll(padded, true)].map((states) => states.at(-1))
            .map((state) => [state, answerOf(state)]);
        })""",
    )
    for (whole, answer), (padded, _), (masked, same) in found:
        assert masked == whole
        assert same == answer
        assert sum(answer) == pytest.approx(1)
        assert max(abs(one - other) for one, other in zip(whole, padded, strict=True)) > 0.1
    best = [[int(np.argmax(answer)) for _, answer in each] for each in found]
    assert [whole for whole, _, _ in best] == [0, 1, 2, 0, 1]
    assert any(padded != whole for whole, padded, _ in best)
    # The last two sentences have the same words in another order.
    assert found[3][0] != found[4][0]


def test_a_sentence_is_read_word_by_word(page: Page):
    panel = mounted(page, "recurrence")
    said = panel.locator("[role=status]")
    expect(said).to_contain_text("Nothing read yet")
    panel.get_by_role("button", name="Next word").click()
    expect(said).to_contain_text("After “opec”")
    assert panel.locator("tbody tr").count() == 3
    panel.get_by_role("button", name="To the end").click()
    expect(said).to_contain_text("After “rose”: oil 56%")
    panel.get_by_role("slider", name="Padding tokens").fill("8")
    expect(said).to_contain_text("After “[PAD]”: oil 30%, grain 48%")
    panel.get_by_label("Mask the padding").check()
    expect(said).to_contain_text("After “[PAD]”: oil 56%")
    expect(panel).to_contain_text("padding is skipped")
    panel.locator(".tokens button").nth(1).click()
    expect(panel.locator("[aria-current=step]")).to_have_text("cut")
    panel.get_by_role("button", name="Reset").click()
    panel.get_by_role("button", name="Play").click()
    expect(said).to_contain_text("After “cut”")
    panel.get_by_role("button", name="Pause").click()
