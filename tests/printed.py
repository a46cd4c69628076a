"""Runs what documents print, beside a server of the test."""

import os
import subprocess
import sys
from pathlib import Path

from tests.server import ROOT, environment

# Of the server, as the documents have it.
URL = "http://127.0.0.1:8000"


def run(language: str, block: str, folder: Path, url: str, *, seconds: float) -> str:
    """What a block prints; it must succeed.

    Args:
        language: of the block, `sh` or `python`.
        block: commands, or a program.
        folder: in which it runs.
        url: of the server that takes the place of the documents'.
        seconds: that it may take.
    """
    command = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
    program = block.replace(".venv/bin/python", sys.executable).replace(URL, url)
    program = program.replace(".venv/bin/quartet", f"{sys.executable} -m quartet.command_line")
    done = subprocess.run(
        [*command, program],
        cwd=folder,
        env={**environment(url=url), "PYTHONPATH": os.fspath(ROOT), "no_proxy": "*"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    print(done.stdout)
    return done.stdout
