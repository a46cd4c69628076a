"""The recipes of docs/guides/client.md, run as they are printed beside the real server."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.server import ROOT, Server

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guides" / "client.md").read_text(), re.DOTALL)


def test_the_recipes_print_what_the_page_says(everything: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    assert len(BLOCKS) == 11
    for block in BLOCKS:
        program = block.replace("http://127.0.0.1:8000", everything.url)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(program, "docs/guides/client.md", "exec"), names)
        stated = [line.removeprefix("# → ") for line in block.splitlines() if line.startswith("# → ")]
        assert printed.getvalue().splitlines() == stated, block
    assert {path.name for path in tmp_path.iterdir()} == {"examples", "found.png", "sevens.npz", "seven.png"}
    names["client"].close()
