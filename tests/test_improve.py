"""The commands and programs of docs/guides/improve.md, run as printed and in order, beside the real server."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.server import ROOT, Server, environment

TEXT = (ROOT / "docs" / "guides" / "improve.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", TEXT, re.DOTALL)
URL = "http://127.0.0.1:8000"


def run(language: str, block: str, folder: Path, url: str) -> str:
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
        timeout=600,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    print(done.stdout)
    return done.stdout


def test_the_new_version_is_better_on_the_stream(tmp_path: Path):
    server: Server | None = None
    printed = []
    try:
        for language, block in BLOCKS:
            if block.strip() == ".venv/bin/quartet serve":
                server = Server(models=tmp_path / "models", captures=tmp_path / "captures")
            else:
                printed.append(run(language, block, tmp_path, server.url if server else URL))
        assert server is not None
        quality, _ = json.JSONDecoder().raw_decode(printed[-1], printed[-1].index("{"))
        new, old = quality["versions"]
        assert (new["version"], new["count"], old["version"], old["count"]) == ("2", 297, "1", 300)
        assert old["high"] < 0.4 < 0.5 < new["low"]
        assert "digits/2 agrees with digits/1 on" in printed[-1]
        assert "200 were captured while" in (tmp_path / "models" / "digits" / "2" / "report" / "README.md").read_text()
    finally:
        if server is not None:
            server.stop()
