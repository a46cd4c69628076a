"""Shell completion: what a shell is offered, and the code that it evaluates."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quartet.command_line import main
from quartet.completion import SHELLS
from tests.server import ROOT


def offered(line: str, tmp_path: Path) -> set[str]:
    """What is offered for the end of a line."""
    found = tmp_path / "found"
    asked = {
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(found),
    }
    command = [sys.executable, "-c", "import quartet.command_line; quartet.command_line.main()"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **asked}, check=True, timeout=60)
    return {word.strip() for word in found.read_text().split("\n")}


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("quartet ", {"predict", "train", "completion"}),
        ("quartet pre", {"predict"}),
        ("quartet predict class", {"classifier", "classifier-transfer"}),
        ("quartet predict classifier --format ", {"table", "csv", "json", "jsonl"}),
        ("quartet models pro", {"promote"}),
        ("quartet models promote mine --", {"--server", "--if-agreement"}),
        ("quartet keys re", {"revoke"}),
        ("quartet serve --po", {"--port"}),
        ("quartet train data --task t", {"text", "tabular"}),
        ("quartet train data --task text --ep", {"--epochs"}),
        ("quartet evaluate top", {"topics"}),
    ],
)
def test_what_is_offered(line: str, some: set[str], tmp_path: Path):
    assert some <= offered(line, tmp_path)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_code_for_a_shell(shell: str, capsys: pytest.CaptureFixture[str]):
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "_ARGCOMPLETE" in code
    if shutil.which(shell) and shell in ("bash", "zsh"):
        subprocess.run([shell, "-n", "-c", code], check=True)
