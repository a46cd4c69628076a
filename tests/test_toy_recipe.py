"""A recipe from outside the package trains, exports and publishes, and the service serves what it made."""

import colorsys
import random
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from service.tasks.registry import BUILT_IN
from tests import toy_recipe
from tests.toy import COLOURS
from training import registry
from training.__main__ import main

HUES = {"red": 0.0, "green": 1 / 3, "blue": 2 / 3}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(registry.RECIPES, toy_recipe.ENTRY.name, toy_recipe.ENTRY)
    draw = random.Random(0)
    lines = []
    for name in sorted(HUES) * 60:
        colour = colorsys.hsv_to_rgb(
            (HUES[name] + draw.uniform(-0.08, 0.08)) % 1, draw.uniform(0.7, 1), draw.uniform(0.6, 1)
        )
        lines.append(f"#{bytes(round(255 * part) for part in colour).hex()} {name}")
    file = tmp_path / "colours.txt"
    file.write_text("\n".join(lines))
    return file


async def test_it_trains_publishes_and_is_served(data: Path, tmp_path: Path):
    models = tmp_path / "models"
    options = ["--epochs", "20", "--hidden", "8", "--models", models, "--run-dir", tmp_path / "run", "--workers", 1]
    assert main([*map(str, ["colours", "--data", data, "--publish", *options])]) == 0
    app = create_app(Settings(models=models, device="cpu", threads=1), BUILT_IN.with_tasks(COLOURS))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        answer = await client.post("/v1/name-colours", json=["#e6141e", "#14e61e", "#141ee6"])
    assert [result["name"] for result in answer.json()["results"]] == ["red", "green", "blue"]


def test_its_options_and_mistakes_are_those_of_every_recipe(data: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["colours", "--data", str(data), "--force"])
    assert "--force has no effect without --publish" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["colours", "--data", str(data), "--hiden", "3"])
    assert "--hidden" in capsys.readouterr().err


def test_a_name_is_taken_once(data: Path):
    with pytest.raises(ValueError, match="two recipes are called colours"):
        registry.register(toy_recipe.Entry("colours", "others", "a:A", "b:B"))
