"""ONNX Runtime does not report to its maker, whichever program loads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT


def reports(program: str, folder: Path) -> bool:
    """Whether the runtime has prepared a report while a program ran: their queue is in the cache folder."""
    silent = {"ORT_DISABLE_TELEMETRY", "CI"}
    inherited = {name: value for name, value in os.environ.items() if name not in silent}
    own = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=inherited | own, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
    return any(folder.rglob("*nnxruntime*"))


@pytest.mark.skipif(sys.platform != "linux", reason="the cache folder is elsewhere")
def test_the_runtime_would_report(tmp_path: Path):
    """If this fails after an upgrade, the test below shows nothing any more."""
    assert reports("import onnxruntime; onnxruntime.disable_telemetry_events()", tmp_path)


@pytest.mark.parametrize(
    "program",
    [
        "import service.inference.runtime",
        "import training.export.golden",
        "from quartet.command_line import main; main(['adopt', 'missing.onnx', '--name', 'x'])",
        "from quartet.command_line import main; main(['doctor', '--help'])",
    ],
)
def test_nothing_is_reported(program: str, tmp_path: Path):
    assert not reports(program, tmp_path)
