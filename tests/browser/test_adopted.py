"""The page with models that were trained elsewhere: no data set, no figures, no statistics of the columns."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenPage, barriers
from tests.quartet.adopt.tabular.pipelines import STRICT, SURVIVAL
from tests.quartet.adopt.tabular.test_task import adopt
from tests.server import Server


@pytest.fixture
def adopted(tmp_path: Path) -> Iterator[Server]:
    assert adopt(tmp_path, SURVIVAL) == adopt(tmp_path, STRICT, "--name", "strict") == 0
    running = Server(models=tmp_path / "models")
    yield running
    assert running.stop() == 0, "".join(running.lines)


def test_the_fields_are_the_columns_of_the_graph(adopted: Server, open_page: OpenPage):  # the pages are closed first
    page = open_page("#/numbers?model=survived", url=adopted.url)
    expect(page.locator(".contributions .value").first).to_be_visible()
    assert page.get_by_label("sex", exact=True).locator("option").all_inner_texts()[:3] == ["", "female", "male"]
    expect(page.get_by_text("was never evaluated here")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text("null")
    expect(page.locator("body")).not_to_contain_text("NaN")
    assert barriers(page) == []
    with page.expect_response(lambda response: "predict-tabular" in response.url and response.status == 200):
        page.get_by_label("age", exact=True).fill("")

    page = open_page("#/numbers?model=strict", url=adopted.url)
    # No value can be left out, and an integer moves in steps of one.
    expect(page.get_by_text("needs every value")).to_be_visible()
    assert page.get_by_label("deck", exact=True).locator("option").all_inner_texts() == ["3", "5", "8"]
    assert page.get_by_label("age", exact=True).get_attribute("step") == "1"
