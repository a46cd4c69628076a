"""quartet: one name for every command, each of which its own module answers."""

import subprocess
import sys

import pytest

from quartet import __version__
from quartet.command_line import COMMANDS, main
from tests.server import ROOT
from training.command_line import PUBLISHED


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in COMMANDS)
    assert main([]) == 2
    assert capsys.readouterr().out == said
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"quartet {__version__}\n"


def test_a_command_that_there_is_not_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]):
    assert main(["serv"]) == 2
    assert capsys.readouterr().err == "error: there is no command 'serv': did you mean serve?\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_parser_of_its_name(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"usage: quartet {name} ")


def test_wrong_options_are_refused_before_anything_heavy_is_imported():
    code = (
        "import sys; from quartet.command_line import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print({'numpy', 'pydantic', 'fastapi', 'onnxruntime', 'torch'} & set(sys.modules))"
    )
    # What is done with published models brings its options with it.
    for name in COMMANDS.keys() - PUBLISHED.keys():
        done = subprocess.run(
            [sys.executable, "-c", code, name, "--nonsense"], cwd=ROOT, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (2, "set()\n"), done.stderr
