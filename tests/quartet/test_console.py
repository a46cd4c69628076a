import sys
from pathlib import Path

import pytest

from quartet.console import as_typed


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Puts a quartet into a folder, and says how this process was called."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "quartet").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")

    def call(*words: str, python: str = "bin/python") -> None:
        module = words[0] == "-m"
        monkeypatch.setattr(sys, "orig_argv", [python, *words])
        monkeypatch.setattr(sys, "argv", ["/somewhere/__main__.py" if module else words[0], *words[1:]])

    return call


def test_a_command_is_named_as_it_was_typed(typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    typed("bin/quartet", "train", "data")
    assert as_typed() == "bin/quartet"
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert as_typed() == "quartet"


def test_a_module_is_run_by_the_same_interpreter(typed):
    typed("-m", "training", "text")
    assert as_typed("python -m training") == "bin/python -m training"
    assert as_typed() == "bin/quartet"


def test_other_programs_have_plain_names(typed):
    typed("/usr/bin/pytest")
    assert as_typed() == "quartet"
    assert as_typed("python -m training") == "python -m training"
    typed("-m", "pytest")
    assert (as_typed(), as_typed("python -m training")) == ("quartet", "python -m training")
