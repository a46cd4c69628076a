"""The commands and programs of docs/tutorial.md, run as printed and in order, beside the real servers."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.server import ROOT, Server, environment

TEXT = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"```(sh|python|json)\n(.*?)```", TEXT, re.DOTALL)
URL = "http://127.0.0.1:8000"
# What these install is installed here.
INSTALL = ("make training",)
SERVE = ("make serve", ".venv/bin/quartet serve")
# As long as the printed one takes, less would do for a test.
SHORT = " --epochs 10 --cross-validate 0 --device cpu"


def run(language: str, block: str, folder: Path, url: str) -> str:
    command = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
    quartet = f"{sys.executable} -m quartet.command_line"
    program = re.sub(r"(?m)^(.venv/bin/quartet train .*?)( *#.*)?$", rf"\1{SHORT}", block)
    program = program.replace(".venv/bin/quartet", quartet).replace(URL, url)
    done = subprocess.run(
        [*command, program],
        cwd=folder,
        env={**environment(url=url), "PYTHONPATH": os.fspath(ROOT), "no_proxy": "*"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_every_step_works(tmp_path: Path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "classifier").symlink_to(ROOT / "models" / "classifier")
    server: Server | None = None
    printed, served = [], 0
    try:
        for language, block in BLOCKS:
            if language == "json":  # what the command before answers, shortened
                for name in re.findall(r'"(\w+)": ', block):
                    assert f'"{name}":' in printed[-1]
            elif block.strip() in SERVE:
                if server is not None:
                    server.stop()
                server = Server(models=tmp_path / "models")
                served += 1
            elif block.strip() not in INSTALL:
                assert server is not None
                printed.append(run(language, block, tmp_path, server.url))
                if stated := re.findall(r"(?m)^# → (.*)$", block):
                    assert printed[-1].splitlines() == stated
        assert served == len(SERVE)
        assert '"label":"Aldo"' in "".join(printed).replace(" ", "")
        assert 'quartet_requests_total{method="POST",route="/v1/predict-tabular",status="200"} 2.0' in "".join(printed)
        log = (tmp_path / "models" / "wine" / "audit.jsonl").read_text()
        assert all(change in log for change in ("promote", "rollback"))
    finally:
        if server is not None:
            server.stop()
