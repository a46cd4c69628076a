"""The command line: help and mistakes are answered before anything heavy is imported."""

import subprocess
import sys

import pytest

from service.__main__ import main
from service.settings import Settings
from tests.server import ROOT


def test_help_and_mistakes_need_no_library():
    """What takes time to import is not there, whatever the machine's speed."""
    code = (
        "import sys; from service.__main__ import main\n"
        "try: main(arguments=sys.argv[1:])\n"
        "finally: print({'numpy', 'pydantic', 'fastapi', 'onnxruntime'} & set(sys.modules))"
    )
    for arguments, status in ((["--help"], 0), (["--nonsense"], 2), (["serv"], 2), (["doctor", "--seconds", "x"], 2)):
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert done.stdout.endswith("set()\n")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(arguments=["--help"])
    text = capsys.readouterr().out
    assert "serve" in text
    assert "quartet --help" in text


def test_help_of_serve_lists_every_setting(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(arguments=["serve", "--help"])
    text = capsys.readouterr().out
    for name in Settings.model_fields:
        assert f"QUARTET_{name.upper()} " in text


def test_a_server_imports_no_offline_command():
    code = (
        "import sys, service.launch, service.server; print([name for name in sys.modules if 'quartet.offline' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize("command", ["models", "predict", "score", "doctor"])
def test_offline_commands_run_by_their_names(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(arguments=[command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m service {command} ")
