"""What happens on CUDA, on the CPU: options, fixed shapes, and what becomes of errors."""

import ctypes
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from service.inference import cuda
from service.inference.device import DeviceLost, DeviceUnavailable
from service.inference.golden import read_golden
from service.inference.loading import Loader
from service.inference.manifest import InvalidModel
from service.inference.scheduler import attempt
from service.inference.session import Session
from service.inference.shapes import Shapes
from service.inference.stacking import run_ragged
from service.tasks.registry import BUILT_IN, read_manifest
from tests.cuda import LOST, Recorded, fake_cuda
from tests.server import ROOT
from tests.tiny import SIZE, answer, write_model, wrong_golden
from tests.tiny_text import LONGEST, write_topics

IMAGES = np.random.default_rng(1).integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def gpu():
    with fake_cuda() as recorded:
        yield recorded


def on_cuda(folder: Path, max_batch: int = 16, device: str = "cuda", **options: Any) -> Session:
    return Session(folder / "model.onnx", device, 1, Shapes.of(read_manifest(folder), max_batch), **options)


def test_options_of_the_provider(gpu: Recorded, tmp_path: Path):
    on_cuda(write_model(tmp_path), device="cuda:1", gpu_memory_mb=1500)
    for _, options in gpu.opened:
        assert options == {
            "device_id": "1",
            "use_tf32": "0",
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "gpu_mem_limit": "1500000000",
        }


def test_each_shape_has_a_session_of_its_own_and_the_largest_is_the_first(gpu: Recorded, tmp_path: Path):
    folder = write_model(tmp_path)
    session = on_cuda(folder)
    assert session.device == "cuda"
    expected = [[(16, SIZE, SIZE, 3)], [(8, SIZE, SIZE, 3)], [(1, SIZE, SIZE, 3)]]
    assert [shapes for shapes, _ in gpu.opened] == expected
    manifest = read_manifest(folder)
    session.prepare(manifest, read_golden(folder, manifest))
    assert gpu.runs == expected


@pytest.mark.parametrize("count", [1, 2, 8, 9, 16, 17, 40])
def test_answers_are_those_of_the_cpu(gpu: Recorded, tmp_path: Path, count: int):
    session = on_cuda(write_model(tmp_path))
    (probabilities,) = session.run({"images": IMAGES[:count]})
    np.testing.assert_allclose(probabilities, answer(IMAGES[:count]), atol=1e-6)
    assert {shape for (shape,) in gpu.runs} <= {(size, SIZE, SIZE, 3) for size in (1, 8, 16)}


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=LONGEST), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_texts_of_any_lengths_run_in_fixed_shapes(topics: tuple[Session, Session, Recorded], texts: list[list[int]]):
    padded, plain, gpu = topics
    gpu.runs.clear()
    items = [np.array(ids, np.int64) for ids in texts]
    rows = run_ragged(padded.run, ("ids",), items, padded.lengths)
    assert {shape for (shape,) in gpu.runs} <= {(batch, length) for batch in (1, 8, 16) for length in (1, 3, 12)}
    for (row,), (expected,) in zip(rows, run_ragged(plain.run, ("ids",), items), strict=True):
        np.testing.assert_allclose(row, expected, atol=1e-6)


@pytest.fixture
def topics(gpu: Recorded, tmp_path: Path) -> tuple[Session, Session, Recorded]:
    write_topics(tmp_path)
    folder = tmp_path / "topics" / "1"
    return on_cuda(folder), Session(folder / "model.onnx", "cpu", 1), gpu


def test_texts_that_are_padded_to_one_length_run_together():
    batches: list[tuple[int, ...]] = []

    def run(inputs: Any) -> list[Any]:
        batches.append(inputs["ids"].shape)
        return [inputs["ids"].sum(1)]

    items = [np.ones(length, np.int64) for length in (2, 100, 31, 32, 33, 1)]
    rows = run_ragged(run, ("ids",), items, (32, 128))
    assert [row[0] for row in rows] == [2, 100, 31, 32, 33, 1]
    assert batches == [(4, 32), (2, 100)]


def test_the_golden_file_is_replayed_in_every_shape(gpu: Recorded, tmp_path: Path):
    folder = write_model(tmp_path)
    session, manifest = on_cuda(folder), read_manifest(folder)
    assert session.check(folder, manifest) <= 1e-5
    gpu.runs.clear()
    assert session.verify(read_golden(folder, manifest), manifest) <= 1e-5
    assert [shape[0] for (shape,) in gpu.runs] == [16, 8, 1, 1, 1, 1]


def test_a_wrong_answer_is_refused(gpu: Recorded, tmp_path: Path):
    folder = write_model(tmp_path, change=wrong_golden)
    with pytest.raises(InvalidModel, match="on cuda, more than the stated"):
        on_cuda(folder).check(folder, read_manifest(folder))


def test_the_committed_detector_gives_one_answer_in_every_shape(gpu: Recorded):
    """It has the operators that treat a batch as a whole: suppression of overlaps, scattering, top k."""
    folder = ROOT / "models" / "detector" / "1"
    manifest = read_manifest(folder)
    on_cuda(folder, max_batch=2).verify(read_golden(folder, manifest), manifest)
    assert [shapes[0][0] for shapes, _ in gpu.opened] == [2, 1]


def test_a_graph_whose_outputs_follow_the_length_is_refused(gpu: Recorded, tmp_path: Path):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["ids"], ["echo"])],
        "echo",
        [value("ids", TensorProto.INT64, ["batch", "length"])],
        [value("echo", TensorProto.INT64, ["batch", "length"])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(InvalidModel, match="QUARTET_DEVICE=cpu"):
        Session(tmp_path / "m.onnx", "cuda", 1, Shapes((1, 8), (4,)))


def test_a_provider_that_cannot_run_the_graph(gpu: Recorded, tmp_path: Path):
    gpu.refusal = RuntimeError("CUDA failure 35: CUDA driver version is insufficient ; GPU=-1 ; hostname=x")
    folder = write_model(tmp_path)
    with pytest.raises(DeviceUnavailable, match="CUDA error 35, CUDA driver version is insufficient"):
        on_cuda(folder)
    opened = Loader(BUILT_IN.kinds, "auto", threads=1, max_batch=16).open(folder, "auto")
    assert opened.session.device == "cpu"
    assert "CUDA error 35, CUDA driver version is insufficient" in str(opened.fallback)


def test_too_little_memory_refuses_the_model_and_says_what_to_set(gpu: Recorded, tmp_path: Path):
    folder = write_model(tmp_path)
    session = on_cuda(folder)
    gpu.errors = [RuntimeError("Failed to allocate memory for requested buffer of size 1048576")]
    with pytest.raises(InvalidModel, match=r"a batch of 16 cannot be run on cuda: .*QUARTET_GPU_MEMORY_MB"):
        session.check(folder, read_manifest(folder))


def test_an_unusable_context_is_no_items_error(gpu: Recorded, tmp_path: Path):
    session = on_cuda(write_model(tmp_path))
    gpu.errors = [RuntimeError(LOST)] * 2
    with pytest.raises(DeviceLost, match="cuda is unusable after CUDA error 700, an illegal memory access"):
        attempt(lambda items: session.run({"images": np.stack(items)}), list(IMAGES[:8]))
    assert len(gpu.errors) == 1


@pytest.mark.parametrize(
    ("message", "lost"),
    [
        (LOST, True),
        ("CUDA failure 719: unspecified launch failure ; GPU=0", True),
        ("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0 ; CUDA failure 700: an illegal … ; GPU=0", True),
        ("CUDA failure 2: out of memory ; GPU=0", False),
        ("CUDNN failure 3000: CUDNN_STATUS_NOT_SUPPORTED ; GPU=0", False),
        ("CUBLAS failure 700: nothing of the kind ; GPU=0", False),
        ("Got invalid dimensions for input", False),
    ],
)
def test_which_errors_a_context_does_not_survive(message: str, lost: bool):
    assert (cuda.fatal(RuntimeError(message)) is not None) is lost


def test_the_provider_words_its_errors_as_they_are_read_here():
    """If this fails, an upgrade has changed the wording, and a lost GPU would not be noticed."""
    library = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if not library.exists():
        pytest.skip("a build of ONNX Runtime without CUDA")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert data.find(b"%s failure %d: %s ; GPU=%d") > 0


def test_tensor_float_32_is_off_before_a_library_is_loaded(monkeypatch: pytest.MonkeyPatch):
    loaded = []
    newest = 13_000

    class Library:
        def __init__(self, name: str) -> None:
            loaded.append((name, os.environ.get("NVIDIA_TF32_OVERRIDE")))

        def cuInit(self, _: int) -> int:  # noqa: N802
            return 0

        def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
            version._obj.value = newest
            return 0

        def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
            count._obj.value = 2
            return 0

    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [cuda.PROVIDER])
    monkeypatch.setattr("onnxruntime.cuda_version", "13.0")
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda: Library("preloaded"))
    assert cuda.cuda_problem(1) is None
    assert [value for _, value in loaded] == ["0"] * 7
    assert cuda.cuda_problem(2) == "there is no GPU 2: the driver offers 2, counted from 0"
    newest = 12_040
    assert cuda.cuda_problem() == "the NVIDIA driver supports CUDA 12.4, and 13.0 is needed: update the driver"
