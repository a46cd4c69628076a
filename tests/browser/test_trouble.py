"""The page where something is missing: a server that refuses, overloaded, gone; and with models of one's own."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import OpenPage, barriers, wait_for_pictures
from tests.pictures import encode, photograph
from tests.server import Server
from tests.tiny import SIZE, write_model
from tests.tiny_tabular import write_tabular

PREDICT = "**/v1/predict?*"


def refuse(page: Page, status: int, slug: str, detail: str, **headers: str) -> None:
    problem = {"type": f"/problems/{slug}", "code": slug, "status": status, "detail": detail}
    page.route(
        PREDICT,
        lambda route: route.fulfill(
            status=status, headers=headers, content_type="application/problem+json", body=json.dumps(problem)
        ),
    )


def forgive(page: Page) -> None:
    """Expects failed requests, which the browser reports in the console."""
    page.complaints.failed_requests = True  # type: ignore[attr-defined]


def test_overloaded_then_offline_then_well_again(open_page: OpenPage):
    page = open_page("#/classify")
    page.locator(".bars .value").first.wait_for()
    refuse(page, 429, "overloaded", "Too much.", **{"retry-after": "7"})
    sample = page.get_by_role("button", name="Sample 2")
    sample.click()
    expect(page.locator(".problem")).to_contain_text("about 7 s")
    assert barriers(page) == []
    page.unroute(PREDICT)
    page.route(PREDICT, lambda route: route.abort())
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".problem")).to_contain_text("does not answer")
    page.unroute(PREDICT)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".problem")).to_have_count(0)
    forgive(page)


def test_what_the_server_says_is_said_in_ones_language(open_page: OpenPage):
    page = open_page("#/classify", locale="ko-KR")
    page.locator(".bars .value").first.wait_for()
    page.locator("input[type=file]").set_input_files(
        files=[{"name": "x.png", "mimeType": "image/png", "buffer": b"no image"}]
    )
    expect(page.locator(".problem")).to_contain_text("이미지를 읽을 수 없습니다")
    expect(page.locator(".problem [lang=en]")).to_contain_text("no image of a known format")
    expect(page.locator(".bars")).to_have_count(0)  # the answer was about another picture
    assert barriers(page) == []
    page.locator(".problem a").click()
    expect(page.locator("h1")).to_have_text("Undecodable image")
    forgive(page)


def test_a_key_is_asked_for_and_kept_for_the_tab(open_page: OpenPage):
    page = open_page("#/models")
    page.locator("article").first.wait_for()

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer secret":
            route.continue_()
        else:
            route.fulfill(status=401, content_type="application/problem+json", body='{"detail": "Who are you?"}')

    page.route("**/v1/**", guard)
    page.reload()
    page.get_by_label("Key (kept for this tab only)").fill("secret")
    assert barriers(page) == []
    page.get_by_role("button", name="Use it").click()
    page.locator("article").first.wait_for()
    assert page.evaluate(
        "[sessionStorage.length, document.cookie, JSON.stringify(localStorage).includes('secret')]"
    ) == [1, "", False]
    page.goto(page.url.partition("#")[0] + "models/classifier/1")
    wait_for_pictures(page)
    page.goto(page.url.partition("models/")[0] + "#/classify")
    page.locator(".bars .value").first.wait_for()
    page.get_by_text("This request as code").click()
    expect(page.locator("pre")).to_contain_text("Authorization: Bearer $KEY")
    forgive(page)


def test_a_card_that_is_not_there(open_page: OpenPage):
    page = open_page("models/nothing/1")
    expect(page.locator(".problem")).to_contain_text("No model 'nothing' is served")
    forgive(page)


def test_live_detection_is_refused_and_begins_again(open_page: OpenPage):
    page = open_page("#/detect")
    page.locator(".overlay .box").first.wait_for()
    live = page.get_by_role("region", name="Live")
    # As a proxy refuses, without a problem document.
    page.route("**/v1/detect?*", lambda route: route.fulfill(status=503, headers={"retry-after": "3"}, body="<h1>503"))
    live.get_by_role("button", name="Use the camera").click()
    expect(live.locator(".problem")).to_contain_text("about 3 s")
    page.unroute("**/v1/detect?*")
    live.get_by_role("button", name="Try again").click()
    expect(live.get_by_text("frames per second")).to_be_visible()
    forgive(page)


HOSTILE = "<img src=x onerror=\"document.title='broken'\">"
MANY = [f"{HOSTILE}{index}" for index in range(1000)]


def tell_a_thousand_apart(folder: Path) -> None:
    """A `change` for `write_model`: a thousand classes."""
    weights = np.random.default_rng(0).normal(size=(3, len(MANY))).astype(np.float32)
    model = onnx.load(folder / "model.onnx")
    softmax = model.graph.node.pop()
    model.graph.node.extend(
        [
            helper.make_node("MatMul", ["logits", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], list(softmax.output), axis=-1),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, len(MANY)]))
    onnx.save(model, folder / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    np.savez(folder / "golden.npz", images=images, probabilities=session.run(None, {"images": images})[0])
    (folder / "report" / "README.md").write_text(
        f"# A card\n\n{HOSTILE}\n\n[link](javascript:alert(1)) <script>x()</script>\n"
    )


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A hostile classifier and a regression model of somebody's own, and a version that is refused."""
    write_model(
        tmp_path,
        change=tell_a_thousand_apart,
        labels=MANY,
        description=HOSTILE,
        outputs=[{"name": "probabilities", "dtype": "float32", "shape": [-1, len(MANY)]}],
        data={"name": HOSTILE, "fingerprint": "sha256:0", "train": 30, "validation": 30, "test": 30},
    )
    (write_model(tmp_path, version="2") / "model.onnx").write_bytes(b"damaged")
    write_tabular(tmp_path, "prices", kind="regression")
    running = Server(models=tmp_path)
    yield running
    assert running.stop() == 0, "".join(running.lines)


def test_panels_follow_what_is_served(own_server: Server, open_page: OpenPage):  # the pages are closed first
    page = open_page(url=own_server.url)
    page.locator(".bars .value").first.wait_for()
    assert page.locator("nav a").all_inner_texts() == ["Classify", "Numbers", "Models", "Status"]
    assert set(page.locator(".bars .name").all_inner_texts()) < set(MANY)
    page.get_by_label("Choose a picture").set_input_files(
        files=[{"name": f"{HOSTILE}'; rm -rf.png", "mimeType": "image/png", "buffer": encode(photograph(9, 9), "PNG")}]
    )
    page.get_by_text("This request as code").click()
    expect(page.locator("pre")).to_contain_text("rm -rf")
    page.get_by_role("link", name="Numbers").click()
    expect(page.locator(".verdict")).to_have_text(re.compile(r"\d"))
    assert page.get_by_text("Model", exact=True).count() == 0, "there is one model to ask"
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("region", name="Refused versions")).to_contain_text("classifier/2")
    expect(page.locator("article").first).to_contain_text(HOSTILE)
    page.get_by_role("link", name="Model card").first.click()
    expect(page.locator("article.report")).to_contain_text(HOSTILE)
    assert page.locator("article.report :is(img, a[href], script)").count() == 0
    # A panel whose models are gone is not there.
    page.goto(f"{own_server.url}/#/detect")
    expect(page.locator("h1")).to_have_text("Classify")
