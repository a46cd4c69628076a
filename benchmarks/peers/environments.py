"""The virtual environments of the peers, made on first use and again whenever what they should contain changes."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import ROOT

FOLDER = ROOT / ".peers"
CONSTRAINTS = Path(__file__).with_name("constraints.txt")
_COMMON = ("numpy", "onnxruntime", "simplejpeg")


def python_of(peer: str, packages: Sequence[str]) -> Path:
    """The interpreter of a peer's environment, which is created if there is none with these packages.

    Args:
        peer: names the environment's folder.
        packages: beside those that `benchmarks.peers.classifier` imports, without versions.

    Raises:
        subprocess.CalledProcessError: the environment could not be made.
    """
    folder = FOLDER / peer
    python, marker = folder / "bin" / "python", folder / "contents.txt"
    wanted = [*_COMMON, *packages]
    contents = "\n".join([*wanted, CONSTRAINTS.read_text()])
    if marker.is_file() and marker.read_text() == contents:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS, *wanted], check=True)
    # Written last, so that an interrupted installation starts again.
    marker.write_text(contents)
    return python


def versions(packages: Sequence[str]) -> str:
    """The pinned versions of some packages, in words."""
    pinned = dict(line.split("==") for line in CONSTRAINTS.read_text().splitlines() if "==" in line)
    return ", ".join(f"{package} {pinned[package]}" for package in packages)
