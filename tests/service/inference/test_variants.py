"""Which graph of a version answers: the fastest that is good here, the one that was asked for, or the reference."""

import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from service.inference import loading
from service.inference.cards import ManifestBase
from service.inference.device import DeviceUnavailable
from service.inference.golden import compare, read_golden
from service.inference.loading import Loader, Opened
from service.inference.manifest import InvalidModel, sha256
from service.inference.performance import Performance
from service.inference.session import Session
from service.inference.variants import Selection, graphs
from service.tasks.registry import BUILT_IN, read_manifest
from tests import saturating
from tests.server import ROOT
from tests.tiny import answer, solid, write_model, wrong_golden
from tests.tiny_variants import int8_graph, write_slow_model, write_variant

FAST, SLOW = Performance(16, 0.001, 0.0001), Performance(16, 0.1, 0.01)


def open_tiny(
    folder: Path, wanted: str = "auto", speeds: Mapping[str, Performance] | None = None, threads: int = 1
) -> Opened:
    """Opens a version; `speeds` replaces the measured performance of each graph, by its file."""

    def stated(_: ManifestBase, session: Session, *__: object) -> Performance:
        return speeds[Path(session._file).name]

    with pytest.MonkeyPatch.context() as patch:
        if speeds:
            patch.setattr(loading, "measure", stated)
        return Loader(BUILT_IN.kinds, "cpu", threads, max_batch=64).open(folder, wanted)


def labels(opened: Opened) -> list[int]:
    images = np.stack([solid(colour) for colour in ("red", "green", "blue")])
    (probabilities,) = opened.session.run({"images": images})
    np.testing.assert_allclose(probabilities, answer(images), atol=1e-4)
    return probabilities.argmax(1).tolist()


@pytest.mark.parametrize(
    ("text", "default", "by_model"),
    [
        ("auto", "auto", {}),
        ("reference", "reference", {}),
        ("int8,detector=reference", "int8", {"detector": "reference"}),
        (" a = int8 , b=float16 ", "auto", {"a": "int8", "b": "float16"}),
    ],
)
def test_a_selection(text: str, default: str, by_model: dict[str, str]):
    selection = Selection.parse(text)
    assert selection == Selection(default, by_model)
    assert selection.of("something else") == default


@pytest.mark.parametrize("text", ["", "int8,", "a=", "=int8", "int8,float16", "a=int8,a=float16", "a=b,,c=d"])
def test_no_selection(text: str):
    with pytest.raises(ValueError, match=r"must be a VARIANT|twice"):
        Selection.parse(text)


def test_the_graphs_that_may_answer(tmp_path: Path):
    folder = write_slow_model(tmp_path)
    write_variant(folder, int8_graph(), "float16", device="cuda")
    manifest = read_manifest(folder)

    def may_answer(wanted: str, device: str) -> tuple[list[str], list[str]]:
        found, others = graphs(manifest, wanted, device)
        return [graph.name for graph in found], list(others)

    assert may_answer("auto", "cpu") == (["int8", "reference"], ["float16"])
    assert may_answer("auto", "cuda") == (["float16", "reference"], ["int8"])
    assert may_answer("int8", "cpu") == (["int8", "reference"], ["float16"])
    assert may_answer("float16", "cpu") == (["reference"], ["int8", "float16"])
    assert may_answer("reference", "cpu") == (["reference"], ["int8", "float16"])
    assert may_answer("int4", "cpu") == (["reference"], ["int8", "float16", "int4"])
    (variant, _), _ = graphs(manifest, "int8", "cpu")
    assert variant.files == ("int8.onnx", "int8.npz")
    # What was measured and fitted on its own answers holds for it, and the rest of the version's card.
    assert (variant.manifest.metrics.accuracy, manifest.metrics.accuracy) == (0.99, 1.0)
    assert len(variant.manifest.conformal) == 2
    assert variant.manifest.name == "classifier"


@pytest.mark.parametrize("wanted", ["auto", "int8"])
def test_a_faster_variant_answers(tmp_path: Path, wanted: str):
    opened = open_tiny(write_slow_model(tmp_path), wanted)
    assert (opened.variant, opened.others) == ("int8", {})
    assert opened.manifest.headline == {"accuracy": 0.99}
    assert labels(opened) == [0, 1, 2]


def test_the_reference_where_it_is_asked_for(tmp_path: Path):
    opened = open_tiny(write_slow_model(tmp_path), "reference")
    assert (opened.variant, opened.others) == ("reference", {"int8": "reference was asked for"})
    assert opened.manifest.headline == {"accuracy": 1.0}


def test_the_reference_where_no_variant_is_faster(tmp_path: Path):
    folder = write_model(tmp_path)
    write_variant(folder, int8_graph())
    for int8, reference, expected in (
        (SLOW, FAST, "reference"),
        (FAST, FAST, "reference"),
        (FAST, SLOW, "int8"),
        # Faster in large batches, but slower alone.
        (Performance(16, 0.001, 0.02), SLOW, "reference"),
    ):
        opened = open_tiny(folder, speeds={"int8.onnx": int8, "model.onnx": reference})
        assert opened.variant == expected
        assert list(opened.others) == [name for name in ("int8",) if name != expected]


@pytest.mark.parametrize("wanted", ["auto", "int8"])
def test_an_int8_graph_that_saturates_is_caught_by_its_golden_file(
    tmp_path: Path, wanted: str, caplog: pytest.LogCaptureFixture
):
    """A CPU without VNNI adds two products of uint8 and int8 in 16 bits: what is exact elsewhere saturates there."""
    opened = open_tiny(write_slow_model(tmp_path, int8_graph(127, saturates=True)), wanted)
    assert opened.variant == "reference"
    assert "int8.onnx: output probabilities differs from int8.npz's by" in opened.others["int8"]
    assert "int8.onnx: output probabilities differs" in caplog.text
    assert opened.manifest.headline == {"accuracy": 1.0}
    assert labels(opened) == [0, 1, 2]


def test_the_emulated_saturation_is_the_only_fault(tmp_path: Path):
    """The same emulation is right with weights that cannot saturate."""
    assert open_tiny(write_slow_model(tmp_path, int8_graph(63, saturates=True)), "int8").variant == "int8"


def test_the_golden_file_of_the_committed_int8_graph_catches_saturation():
    """Its tolerance has to be narrow enough for that, and wide enough for what the graph means."""
    folder = ROOT / "models" / "classifier" / "1"
    found, _ = graphs(read_manifest(folder), "int8", "cpu")
    int8 = next(graph for graph in found if graph.name == "int8")
    inputs, expected = read_golden(folder, int8.manifest)
    few = {name: array[:4] for name, array in inputs.items()}
    differences = [
        compare(
            {name: array[:4] for name, array in expected.items()},
            saturating.run(folder / int8.file, few, saturates=saturates),
            int8.manifest.golden,
        )
        for saturates in (False, True)
    ]
    assert [difference.acceptable for difference in differences] == [True, False]
    # By far: what is on either side of the tolerance does not depend on the machine.
    assert differences[0].ratio < 0.01
    assert differences[1].ratio > 10


@pytest.mark.parametrize("fault", ["sha256", "missing", "graph", "golden"])
def test_a_variant_whose_files_are_no_good(tmp_path: Path, fault: str):
    folder = write_slow_model(tmp_path)
    if fault == "sha256":
        (folder / "int8.onnx").write_bytes((folder / "int8.onnx").read_bytes() + b"x")
    elif fault == "missing":
        (folder / "int8.npz").unlink()
    else:
        (folder / ("int8.onnx" if fault == "graph" else "int8.npz")).write_bytes(b"rubbish")
        card = (folder / "manifest.json").read_text()
        for file, stated in read_manifest(folder).files.items():
            card = card.replace(stated, sha256(folder / file))
        (folder / "manifest.json").write_text(card)
    opened = open_tiny(folder)
    assert opened.variant == "reference"
    says = {"sha256": "is not the file", "missing": "int8.npz: is missing", "graph": "int8.onnx", "golden": "int8.npz"}
    assert says[fault] in opened.others["int8"]


def test_a_bad_reference_is_refused_although_a_variant_is_good(tmp_path: Path):
    folder = write_model(tmp_path, change=wrong_golden)
    write_variant(folder, int8_graph())
    with pytest.raises(InvalidModel, match=r"model\.onnx: output probabilities differs"):
        open_tiny(folder)


def test_a_variant_that_its_device_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_int8(path: Path, *arguments: object) -> Session:
        if path.name == "int8.onnx":
            raise DeviceUnavailable("no")
        return Session(path, *arguments)

    folder = write_slow_model(tmp_path)
    monkeypatch.setattr(loading, "Session", no_int8)
    opened = open_tiny(folder)
    assert (opened.variant, opened.others) == ("reference", {"int8": "no"})


@pytest.mark.parametrize(
    "changes",
    [{"name": "auto"}, {"name": "reference"}, {"name": "Int 8"}, {"device": "tpu"}, {"conformal": []}, {"size": 0}],
)
def test_a_card_that_is_no_variants(tmp_path: Path, changes: dict):
    folder = write_model(tmp_path)
    write_variant(folder, int8_graph(), **changes)
    with pytest.raises(InvalidModel, match=r"variants|manifest\.json: Value error"):
        read_manifest(folder)


def test_two_variants_of_a_name(tmp_path: Path):
    folder = write_slow_model(tmp_path)
    write_variant(folder, int8_graph())
    with pytest.raises(InvalidModel, match="names of their own"):
        read_manifest(folder)


def test_the_committed_int8_variant_answers_or_its_golden_file_says_why():
    folder = ROOT / "models" / "classifier" / "1"
    opened = open_tiny(folder, "int8")
    if opened.variant == "int8":
        assert opened.manifest.metrics != read_manifest(folder).metrics
    else:  # a CPU without VNNI
        assert "differs from int8.npz's by" in opened.others["int8"]


def corrupt(folder: Path, name: str, data: bytes) -> None:
    """Replaces a file, and states its sha256 in the manifest, as whoever publishes a version can."""
    stated = read_manifest(folder).files[name]
    (folder / name).write_bytes(data)
    card = folder / "manifest.json"
    card.write_text(card.read_text().replace(stated, sha256(folder / name)))


@pytest.mark.parametrize("fault", ["graph", "other answers", "pickle", "infinite tolerance", "external data"])
@pytest.mark.parametrize("wanted", ["auto", "int8"])
def test_a_variant_does_not_hide_a_damaged_reference(
    tmp_path: Path, wanted: str, fault: str, monkeypatch: pytest.MonkeyPatch
):
    folder = write_model(tmp_path, change=wrong_golden if fault == "other answers" else lambda _: None)
    write_variant(folder, int8_graph())
    if fault == "graph":
        corrupt(folder, "model.onnx", b"rubbish")
    elif fault == "pickle":
        buffer = io.BytesIO()
        np.savez(buffer, images=np.array([object()]), probabilities=np.zeros(1))
        corrupt(folder, "golden.npz", buffer.getvalue())
    elif fault == "infinite tolerance":
        card = folder / "manifest.json"
        card.write_text(re.sub(r'("atol": )[^,}]+', r"\1Infinity", card.read_text(), count=1))
    elif fault == "external data":
        monkeypatch.chdir(tmp_path)
        corrupt(folder, "model.onnx", with_external_data(folder / "model.onnx", tmp_path / "weights.bin"))
    with pytest.raises(InvalidModel, match=r"model\.onnx|golden"):
        open_tiny(folder, wanted, speeds={"int8.onnx": FAST, "model.onnx": SLOW})


def with_external_data(model: Path, weights: Path) -> bytes:
    """The graph with its largest weights in another file, where onnxruntime looks for those of a graph of bytes."""
    graph = onnx.load(model)
    tensor = graph.graph.initializer.add()
    tensor.CopyFrom(numpy_helper.from_array(np.zeros(1 << 20, np.float32), "unused"))
    weights.write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", weights.name), ("offset", "0"), ("length", str(4 << 20))):
        tensor.external_data.add(key=key, value=value)
    graph.graph.node.add(op_type="Identity", input=["unused"], output=["copied"])
    return graph.SerializeToString()


@pytest.mark.parametrize(("seconds", "sessions"), [(0.0, 2), (60.0, 1)])
def test_a_short_lone_item_gets_no_session_with_all_cores(
    tmp_path: Path, seconds: float, sessions: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loading, "_ALL_CORES_SECONDS", seconds)
    opened = open_tiny(write_model(tmp_path), threads=2)
    assert len({opened.session, opened.single}) == sessions
    assert opened.single is not None
    assert opened.single.threads == 1


def test_one_thread_needs_one_session(tmp_path: Path):
    assert open_tiny(write_model(tmp_path)).single is None


def test_another_variant_than_the_one_asked_for_does_not_answer_however_fast(tmp_path: Path):
    folder = write_model(tmp_path)
    write_variant(folder, int8_graph())
    speeds = {"int8.onnx": SLOW, "model.onnx": FAST}
    assert open_tiny(folder, "int8", speeds).variant == "int8"
    assert open_tiny(folder, "auto", speeds).variant == "reference"
