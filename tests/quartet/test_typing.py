"""The types of the client, as mypy sees them in a strict program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT


def test_every_kind_of_input_has_a_type(tmp_path: Path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    (tmp_path / "typed.py").write_bytes((ROOT / "tests" / "quartet" / "typed.py").read_bytes())
    # As a program of somebody else sees the installed package: errors inside it are not reported.
    options = ("--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={ROOT / '.mypy_cache' / 'typed'}")
    command = [sys.executable, "-m", "mypy", *options, "typed.py"]
    checked = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
