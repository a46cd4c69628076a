"""The commands and programs of docs/guides/improve.md, run as printed and in order, beside the real server."""

import json
import re
from pathlib import Path

from tests.printed import URL, run
from tests.server import ROOT, Server

TEXT = (ROOT / "docs" / "guides" / "improve.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", TEXT, re.DOTALL)


def test_the_new_version_is_better_on_the_stream(tmp_path: Path):
    server: Server | None = None
    printed = []
    try:
        for language, block in BLOCKS:
            if block.strip() == ".venv/bin/quartet serve":
                server = Server(models=tmp_path / "models", captures=tmp_path / "captures")
            else:
                printed.append(run(language, block, tmp_path, server.url if server else URL, seconds=600))
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
