"""The commands and programs of docs/guides/improve.md, run as printed and in order, beside the real server.

The data are digits in the form of CIFAR-10, of which fewer become the data set, so that trainings take seconds.
"""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image
from sklearn.datasets import load_digits

from tests.printed import URL, run
from tests.server import ROOT, Server

TEXT = (ROOT / "docs" / "guides" / "improve.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", TEXT, re.DOTALL)
# Less than the printed ones, so that it takes less time.
SHORT = {"PHOTOS, STREAM = 5000, 1600": "PHOTOS, STREAM = 400, 1600"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder beside a data set like CIFAR-10, with what the commands need of a clone."""
    digits = load_digits()
    pixels = np.uint8(15.9 * np.roll(np.concatenate((digits.images, np.roll(digits.images, 1, 2))), 300, 0))
    labels = np.roll(np.concatenate((digits.target, digits.target)), 300)
    rows = [{"bytes": _png(image), "path": None} for image in pixels[:2000]]
    features = Features({"img": ImageFeature(), "label": ClassLabel(names=[f"class {digit}" for digit in range(10)])})
    (tmp_path / "cifar10").mkdir()
    data = Dataset.from_dict({"img": rows, "label": labels[:2000].tolist()}, features=features)
    for split in ("train", "test"):
        data.to_parquet(tmp_path / "cifar10" / f"{split}-00000-of-00001.parquet")
    clone = tmp_path / "clone"
    (clone / "models").mkdir(parents=True)
    (clone / "models" / "classifier").symlink_to(ROOT / "models" / "classifier")
    return clone


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    large = np.asarray(Image.fromarray(image).resize((32, 32)))
    # In colour: the committed classifier's weights are for three channels.
    Image.fromarray(np.uint8(large[..., None] * [1.0, 0.8, 0.6])).save(file, "PNG")
    return file.getvalue()


def test_the_new_version_is_better_on_the_stream(folder: Path):
    server: Server | None = None
    printed = []
    try:
        for language, block in BLOCKS:
            for long, short in SHORT.items():
                block = block.replace(long, short)
            if block.strip() == ".venv/bin/quartet serve":
                server = Server(models=folder / "models", captures=folder / "captures")
            else:
                printed.append(run(language, block, folder, server.url if server else URL, seconds=600))
                for _ in range(3):  # as the page says, where too few requests were looked at
                    if "drift.json" in block and printed[-1].strip() == "None":
                        printed.append(run(language, block, folder, server.url if server else URL, seconds=600))
        assert server is not None
        assert "'brightness'" in "".join(printed)
        assert json.loads((folder / "drift.json").read_text())["items"] >= 1000
        quality, _ = json.JSONDecoder().raw_decode(printed[-1], printed[-1].index("{"))
        new, old = quality["versions"]
        assert (new["version"], new["count"], old["version"], old["count"]) == ("2", 500, "1", 200)
        assert old["high"] < new["low"]
        assert "photos/2 agrees with photos/1 on" in printed[-1]
        assert "200 were captured while" in (folder / "models" / "photos" / "2" / "report" / "README.md").read_text()
    finally:
        if server is not None:
            server.stop()
