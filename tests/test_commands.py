"""The curl commands of README and docs/reference/api.md, run by a shell as they are printed, beside the real server."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from service.tasks.registry import read_manifest
from tests.server import ROOT, Server

API = (ROOT / "docs" / "reference" / "api.md").read_text()
PAGES = {"README.md": (ROOT / "README.md").read_text(), "docs/reference/api.md": API}
BLOCKS = [
    pytest.param(block, id=f"{page}: {' '.join(block.split())[:60]}")
    for page, text in PAGES.items()
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    if "curl" in block
]
ADDRESS = re.compile(r"(?:http://)?(?:localhost|127\.0\.0\.1):8000")
MAGIC = {".png": b"\x89PNG", ".zip": b"PK"}
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


def run(commands: str, server: Server, folder: Path) -> str:
    """Runs commands in a folder with the examples; an answer that is no success ends them."""
    (folder / ".curlrc").write_text('silent\nshow-error\nfail-with-body\nnoproxy = "*"\n')
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", ADDRESS.sub(server.url, commands)],
        cwd=folder,
        env={**os.environ, "CURL_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, f"{commands}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.mark.parametrize("block", BLOCKS)
def test_the_commands_run_as_they_are_printed(everything: Server, tmp_path: Path, block: str):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    run(block, everything, tmp_path)
    for name in re.findall(r"-o (\S+)", block):
        assert (tmp_path / name).read_bytes().startswith(MAGIC[Path(name).suffix])


def test_base64_of_a_large_file_is_sent_as_well(everything: Server, tmp_path: Path):
    (block,) = (block.values[0] for block in BLOCKS if "base64" in str(block.values[0]))
    command = re.findall(r"^printf .*?(?=\n\n|\Z)", str(block), re.DOTALL | re.MULTILINE)[0]
    (tmp_path / "examples").mkdir()
    large = tmp_path / "examples" / "cat.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), "u1")
    PIL.Image.fromarray(noise).save(large, quality=100)
    assert large.stat().st_size > 200_000
    assert json.loads(run(command, everything, tmp_path))["results"]


def test_the_detectors_example_has_figures_of_one_of_its_thresholds():
    curves = read_manifest(ROOT / "models" / "detector" / "1").measured_curves
    stated = json.loads(re.findall(r'"threshold": (\{.*?\})', API)[0])
    index = curves.confidence.index(stated["confidence"])
    assert stated["precision"] == curves.overall.precision[index]
    assert stated["recall"] == curves.overall.recall[index]
