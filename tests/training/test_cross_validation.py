"""Cross-validation trains other networks, each measured on a part of the items that it has not seen."""

import json
import os
import random
import signal

import pytest

from tests import toy_recipe
from training import cross_validation, registry
from training.__main__ import main
from training.cross_validation import limit_of, work

NAMES = {"red": "e6141e", "green": "14e61e", "blue": "141ee6"}


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains the recipe of `tests.toy_recipe` with cross-validation."""
    monkeypatch.setitem(registry.RECIPES, toy_recipe.ENTRY.name, toy_recipe.ENTRY)
    draw, lines = random.Random(0), []
    for name in sorted(NAMES) * 40:
        parts = (min(255, int(NAMES[name][i : i + 2], 16) + draw.randrange(20)) for i in (0, 2, 4))
        lines.append(f"#{bytes(parts).hex()} {name}")
    (tmp_path / "colours.txt").write_text("\n".join(lines))
    command = ["colours", "--data", tmp_path / "colours.txt", "--run-dir", tmp_path / "run", "--device", "cpu"]
    return lambda *more: main([*map(str, [*command, "--cross-validate", 3, *more])])


def test_the_card_has_the_figures_of_each_part(train, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tests.toy.ColourManifest.headline", property(lambda self: {"accuracy": 0.5, "other": 1}))
    assert train() == 0
    out = capsys.readouterr().out
    assert [f"part {number}/3: accuracy 0.5000, other 1.0000" in out for number in (1, 2, 3)] == [True] * 3
    assert "Mean ± standard deviation: accuracy 0.5000 ± 0.0000, other 1.0000 ± 0.0000 (3 parts)." in out
    assert out.count("epoch ") == 8  # those of the published network alone have lines
    (study,) = json.loads((tmp_path / "run" / "export" / "report" / "record.json").read_text())["studies"]
    assert [row[:2] for row in study["rows"]] == [["1", "32"], ["2", "32"], ["3", "32"]]
    assert "## Cross-validation" in (tmp_path / "run" / "export" / "report" / "README.md").read_text()
    assert not (tmp_path / "run" / "part").exists()


def test_it_ends_when_its_time_is_up(train, capsys, monkeypatch):
    monkeypatch.setattr(cross_validation, "_SECONDS", 0)
    monkeypatch.setattr(cross_validation, "_TRAININGS", 0)
    monkeypatch.setattr("tests.toy.ColourManifest.headline", property(lambda self: {"accuracy": 0.5}))
    assert train() == 0
    assert "accuracy 0.5000 (1 of 3 parts, since the time was up)." in capsys.readouterr().out


def test_what_fails_costs_only_the_study(train, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cross_validation, "_study", lambda *_: 1 / 0)
    assert train() == 0
    assert "The cross-validation failed (ZeroDivisionError" in capsys.readouterr().out
    assert (tmp_path / "run" / "export" / "manifest.json").is_file()
    card = (tmp_path / "run" / "export" / "report" / "README.md").read_text()
    assert "without the following parts, which failed: cross-validation" in card


def test_ctrl_c_says_in_which_part(train, tmp_path, capsys, monkeypatch):
    real = cross_validation._measure

    def measure(run, make):
        if run.title == "part 2/3":
            os.kill(os.getpid(), signal.SIGINT)
        return real(run, make)

    monkeypatch.setattr(cross_validation, "_measure", measure)
    assert train() == 130
    assert "stopped in part 2 of 3, in the cross-validation" in capsys.readouterr().err
    assert (tmp_path / "run" / "export" / "manifest.json").is_file()
    assert not (tmp_path / "run" / "part").exists()


@pytest.mark.parametrize(
    ("more", "message"), [(["--cross-validate", "1"], "from 2 to 100"), (["--init-from", "x"], "from scratch")]
)
def test_what_cannot_be_cross_validated_is_refused(train, capsys, more, message):
    with pytest.raises(SystemExit):
        train(*more)
    assert message in capsys.readouterr().err


def test_the_estimate_counts_the_parts_up_to_the_limit():
    assert (limit_of(10), limit_of(1000)) == (600, 2000)
    assert [work(5, seconds, seconds).seconds for seconds in (10, 200, 1000)] == [50, 600, 2000]
    assert [work(5, 10, fold).seconds for fold in (20, 300, 700)] == [100, 600, 700]  # the first is always done


def test_more_parts_than_items_are_refused(train, tmp_path, capsys):
    path = tmp_path / "colours.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:30]))
    assert train("--cross-validate", "30") == 1
    assert "--cross-validate 30: there are only 24 colours to divide" in capsys.readouterr().err
