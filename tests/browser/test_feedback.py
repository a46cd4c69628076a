"""Right and wrong beside an answer: they count where the model's policy asks for feedback, and are absent elsewhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Response, expect

from tests.browser.conftest import PHONE, OpenPage, barriers
from tests.pictures import encode
from tests.server import Server
from tests.tiny import solid, write_model
from tests.tiny_detector import scene, write_detector
from tests.tiny_tabular import write_tabular

# Milliseconds, on a busy machine.
PATIENCE = 30_000


@pytest.fixture
def feedback_server(tmp_path: Path) -> Iterator[Server]:
    """Models that count feedback, one of each kind of answer, and one that does not."""
    models = tmp_path / "models"
    write_model(models)
    write_model(models, "plain")
    write_detector(models)
    write_tabular(models, kind="regression")
    for name in ("classifier", "detector", "tabular"):
        (models / name / "serving.toml").write_text("feedback = true\n")
    running = Server(models=models, captures=tmp_path / "captures")
    yield running
    assert running.stop() == 0, "".join(running.lines)


def quality(server: Server, model: str) -> dict[str, Any]:
    with server.client() as client:
        found: dict[str, Any] = client.get(f"/v1/models/{model}/quality").json()["versions"][0]
    return found


@pytest.mark.parametrize(
    ("look", "right", "wrong", "truth", "unsure", "send", "thanks"),
    [
        ({}, "Right", "Wrong", "What is right", "I do not know", "Send", "Thank you"),
        (
            {"viewport": PHONE, "is_mobile": True, "color_scheme": "dark", "locale": "ko-KR"},
            "맞음", "틀림", "맞는 답", "모름", "보내기", "감사합니다",
        ),
    ],
    ids=["light", "dark-korean-phone"],
)  # fmt: skip
def test_a_label_is_corrected_with_the_keyboard(
    feedback_server: Server, open_page: OpenPage, tmp_path: Path, look: dict[str, Any], right: str, wrong: str,
    truth: str, unsure: str, send: str, thanks: str,
):  # fmt: skip
    picture = tmp_path / "red.png"
    picture.write_bytes(encode(solid("red")))
    page = open_page("#/classify", url=feedback_server.url, **look)
    page.locator("input[type=file]").first.set_input_files(picture)
    # The answer to a sample, which comes first, has buttons too.
    page.get_by_role("button", name=right, exact=True).wait_for()
    page.wait_for_load_state("networkidle")
    yes, no = (page.get_by_role("button", name=name, exact=True) for name in (right, wrong))
    said = page.get_by_role("status").filter(has_text=thanks)
    yes.press("Enter")
    expect(said).to_be_visible(timeout=PATIENCE)
    expect(yes).to_have_attribute("aria-pressed", "true")
    assert quality(feedback_server, "classifier")["value"] == 1
    no.press("Enter")
    expect(page.get_by_label(truth)).to_be_focused()
    assert page.get_by_label(truth).input_value() == ""
    assert page.get_by_label(truth).locator("option").first.inner_text() == unsure
    assert barriers(page) == []
    page.keyboard.type("b")
    page.get_by_role("button", name=send).press("Enter")
    expect(said).to_be_visible(timeout=PATIENCE)
    expect(no).to_have_attribute("aria-pressed", "true")
    # It takes the place of what was said before.
    found = quality(feedback_server, "classifier")
    assert (found["count"], found["value"]) == (1, 0)


def test_boxes_are_judged_as_they_are_shown(feedback_server: Server, open_page: OpenPage, tmp_path: Path):
    picture = tmp_path / "scene.png"
    picture.write_bytes(encode(scene()))
    page = open_page("#/detect", url=feedback_server.url)
    page.locator("input[type=file]").first.set_input_files(picture)
    right = page.get_by_role("button", name="Right", exact=True)
    right.wait_for()
    page.wait_for_load_state("networkidle")
    asked: list[Response] = []
    page.on("response", lambda response: asked.append(response) if "/v1/detect" in response.url else None)
    with page.expect_request("**/v1/feedback") as sent:
        right.click()
    (entry,) = json.loads(sent.value.post_data or "")["feedback"]
    assert entry == {"request": asked[-1].headers["x-request-id"], "right": True}
    expect(page.get_by_text("Thank you")).to_be_visible(timeout=PATIENCE)
    assert quality(feedback_server, "detector")["figure"] == "right"


def test_the_right_number_is_typed(feedback_server: Server, open_page: OpenPage):
    page = open_page("#/numbers", url=feedback_server.url)
    page.get_by_role("button", name="Wrong", exact=True).click()
    page.get_by_label("What is right").fill("2.5")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Thank you")).to_be_visible(timeout=PATIENCE)
    assert quality(feedback_server, "tabular")["figure"] == "mean absolute error"


def test_without_a_policy_nobody_is_asked(feedback_server: Server, open_page: OpenPage):
    page = open_page("#/classify?model=plain", url=feedback_server.url)
    page.locator(".bars .value").first.wait_for()
    page.wait_for_load_state("networkidle")
    assert page.get_by_role("button", name="Right", exact=True).count() == 0
