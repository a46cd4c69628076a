"""Adopts ONNX's own test models, and compares what is served with the expected outputs.

Each of the 2,024 models (1,884 of single operators) is either adopted and answers as expected, through the service's
loader and sessions, or is refused with a reason.

python -m benchmarks.adopt_nodes
"""

import argparse
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from rich.table import Table

from benchmarks.results import Recorder, add_json_option
from quartet.adopt.graph import CannotAdopt, inputs_of, load, set_locales
from quartet.adopt.plain import PLAIN
from quartet.adopt.version import publish
from service.inference.loading import Loader
from service.inference.stacking import runner
from service.tasks.registry import BUILT_IN

Array = npt.NDArray[Any]
_MAX_LENGTH = 4096
# Those that are installed with onnx.
KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
# The newest version that ONNX Runtime reads.
_IR = 13


class Outcome(NamedTuple):
    """What became of a model.

    Attributes:
        name: of the test.
        result: `adopted`, `adopted in batches`, `ONNX Runtime is inexact` (its own answers are not those that ONNX
            expects), `wrong answers` (not those of ONNX Runtime), or the reason of a refusal.
        why: the message of a refusal, or how answers differ.
    """

    name: str
    result: str
    why: str = ""

    @property
    def failed(self) -> bool:
        """Whether that should not happen."""
        return self.result in ("wrong answers", "error")


class Case(NamedTuple):
    """A test model, with inputs and the outputs that ONNX expects."""

    name: str
    model: onnx.ModelProto
    inputs: Sequence[Any]
    expected: Sequence[Any]
    rtol: float
    atol: float


def cases(*kinds: str) -> list[Case]:
    """ONNX's test models of some kinds, those of `KINDS` without any."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # expected outputs are computed on the fly
        return [_read(case) for kind in kinds or KINDS for case in load_model_tests(kind=kind)]


def _read(case: Any) -> Case:
    if case.model is not None:
        inputs, expected = case.data_sets[0]
        return Case(case.name, case.model, inputs, expected, case.rtol, case.atol)
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")

    def read(what: str, values: Sequence[onnx.ValueInfoProto]) -> list[Any]:
        # Of sequences only the type is looked at.
        paths = [folder / "test_data_set_0" / f"{what}_{index}.pb" for index in range(len(values))]
        tensors = [value.type.HasField("tensor_type") for value in values]
        return [
            onnx.load_tensor(path) if is_tensor and path.exists() else None
            for path, is_tensor in zip(paths, tensors, strict=True)
        ]

    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    return Case(case.name, model, read("input", inputs), read("output", model.graph.output), case.rtol, case.atol)


def try_case(case: Case, models: Path) -> Outcome:
    """Adopts a test model into a folder, and compares the answers of the version with the expected outputs."""
    try:
        folder = adopt(case.model, case.inputs, models, case.name)
    except CannotAdopt as error:
        return Outcome(case.name, error.reason, str(error))
    manifest, got = answer(folder, case.inputs)
    for wanted, result in (
        (in_runtime(case.model, case.inputs), "wrong answers"),
        (case.expected, "ONNX Runtime is inexact"),
    ):
        for index, (want, found) in enumerate(zip(wanted, got, strict=True)):
            if problem := _differ(as_fed(want), found, case.rtol, case.atol):
                return Outcome(case.name, result, f"output {index}: {problem}")
    return Outcome(case.name, "adopted in batches" if manifest.batched else "adopted")


def adopt(model: onnx.ModelProto, inputs: Sequence[Any], models: Path, name: str) -> Path:
    """Adopts a model with its test inputs as samples; returns the version's folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(model.SerializeToString())
        loaded = load(path)
        samples = Path(folder, "samples.npz")
        arrays = {value.name: _storable(each) for value, each in zip(inputs_of(loaded.model), inputs, strict=True)}
        np.savez(samples, allow_pickle=False, **arrays)
        options = argparse.Namespace(
            samples=samples, ranges=_ranges(arrays), max_length=_MAX_LENGTH, explicit_state=True
        )
        proposal = PLAIN.propose(loaded, options)
    return publish(proposal, models, name, most=8, command="quartet adopt").folder


def answer(folder: Path, inputs: Sequence[Any]) -> tuple[Any, list[Array]]:
    """The manifest of a version, and its answers as the service gives them."""
    opened = Loader(BUILT_IN.kinds, "cpu", 1, 64).open(folder, "reference")
    manifest = opened.manifest
    run = runner(opened.session, manifest)
    arrays = [as_fed(each) for each in inputs]
    if not manifest.batched:
        (rows,) = run([arrays[0] if len(arrays) == 1 else tuple(arrays)])
        return manifest, list(rows)
    items = list(arrays[0]) if len(arrays) == 1 else list(zip(*arrays, strict=True))
    return manifest, [np.stack(column) for column in zip(*run(items), strict=True)]


def in_runtime(model: onnx.ModelProto, inputs: Sequence[Any]) -> list[Array]:
    """The answers of ONNX Runtime to the file, with an IR version and locales that are there."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(copy.ir_version, _IR)
    set_locales(copy)
    session = ort.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    answers: list[Array] = session.run(None, dict(zip(names, map(as_fed, inputs), strict=True)))
    return answers


def _storable(value: Any) -> Array:
    array = as_fed(value)
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def as_fed(value: Any) -> Array:
    """The array of a test input or output, as a session takes it."""
    array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    return array.astype(np.object_) if array.dtype.kind in "UO" else array


def _ranges(arrays: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    """The values of the test inputs."""
    return {
        name: (float(array.min()), float(array.max()))
        for name, array in arrays.items()
        if array.dtype.kind in "iuf" and array.size and np.isfinite(array).all()
    }


def _differ(want: Array, got: Array, rtol: float, atol: float) -> str | None:
    if want.shape != got.shape:
        return f"shape {got.shape}, not {want.shape}"
    if want.dtype.kind in "OUS":
        return None if np.array_equal(want.astype(str), got.astype(str)) else "other strings"
    wide, found = want.astype(np.float64), got.astype(np.float64)
    if np.allclose(wide, found, rtol=rtol, atol=max(atol, 1e-5), equal_nan=True):
        return None
    with np.errstate(invalid="ignore"):
        return f"differs by {np.nanmax(np.abs(wide - found)):.2g}"


def outcomes(every: Sequence[Case], models: Path) -> Iterator[Outcome]:
    """What becomes of each test model."""
    for case in every:
        try:
            yield try_case(case, models)
        except Exception as error:  # a bug here, which the table shows
            yield Outcome(case.name, "error", f"{type(error).__name__}: {error}")


def main() -> None:
    """Prints how many models were adopted, and why the others were refused."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adopt_nodes", description=__doc__)
    parser.add_argument("--kind", choices=KINDS, action="append", help="of ONNX's test models (default: all of them)")
    parser.add_argument("--only", default="", metavar="TEXT", help="models whose names contain this")
    parser.add_argument("--details", action="store_true", help="print every refusal")
    add_json_option(parser)
    options = parser.parse_args()
    every = [case for case in cases(*options.kind or ()) if options.only in case.name]
    with tempfile.TemporaryDirectory() as models:
        found = list(outcomes(every, Path(models)))
    for outcome in found:
        if outcome.failed or (options.details and outcome.why):
            print(f"{outcome.name}: {outcome.result}: {outcome.why}")
    console = Recorder()
    table = Table("outcome", "models", "for example", title=f"{len(found):,} test models of ONNX, adopted")
    for result, count in Counter(outcome.result for outcome in found).most_common():
        table.add_row(result, str(count), next(outcome.name for outcome in found if outcome.result == result))
    console.print(table)
    console.write(options.json, "benchmarks.adopt_nodes")


if __name__ == "__main__":
    main()
