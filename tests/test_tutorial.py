"""The commands and programs of docs/tutorial.md, run as printed and in order, beside the real servers."""

import re
from pathlib import Path

from tests.printed import run
from tests.server import ROOT, Server

TEXT = (ROOT / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"```(sh|python|json)\n(.*?)```", TEXT, re.DOTALL)
# What these install is installed here.
INSTALL = ("make training",)
SERVE = ("make serve", ".venv/bin/quartet serve")
# As long as the printed one takes, less would do for a test.
SHORT = " --epochs 10 --cross-validate 0 --device cpu"


def shortened(block: str) -> str:
    return re.sub(r"(?m)^(.venv/bin/quartet train .*?)( *#.*)?$", rf"\1{SHORT}", block)


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
                printed.append(run(language, shortened(block), tmp_path, server.url, seconds=300))
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
