"""The session: outputs, golden file, device, threads."""

import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from service.inference.cards import TensorSpec
from service.inference.cuda import cuda_problem
from service.inference.device import DeviceUnavailable, available_cpus
from service.inference.golden import read_golden
from service.inference.manifest import InvalidModel
from service.inference.session import Session
from service.inference.shapes import Shape
from service.tasks.registry import read_manifest
from tests.tiny import answer, write_model, wrong_golden


def session_of(folder: Path) -> Session:
    return Session(folder / "model.onnx", "cpu", 1)


def check(folder: Path) -> float:
    return session_of(folder).check(folder, read_manifest(folder))


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_run(tmp_path: Path, batch: int):
    session = session_of(write_model(tmp_path))
    assert (session.inputs, session.outputs, session.device) == (["images"], ["probabilities"], "cpu")
    images = np.random.default_rng(1).integers(0, 256, (batch, 8, 8, 3), dtype=np.uint8)
    (probabilities,) = session.run({"images": images})
    np.testing.assert_allclose(probabilities, answer(images), atol=1e-6)


def test_check_gives_the_difference(tmp_path: Path):
    assert 0 <= check(write_model(tmp_path)) <= 1e-5


def test_another_answer_than_the_golden_files_is_refused(tmp_path: Path):
    folder = write_model(tmp_path, change=wrong_golden)
    with pytest.raises(InvalidModel, match=r"differs from golden.npz's by .* on cpu, more than the stated 1e-05"):
        check(folder)


def test_a_difference_within_the_tolerance_is_accepted(tmp_path: Path):
    folder = write_model(tmp_path, change=wrong_golden, golden={"rows": 4, "atol": 1.0})
    assert 1e-5 < check(folder) <= 1


def golden(**arrays: np.ndarray):
    def change(folder: Path) -> None:
        np.savez(folder / "golden.npz", **arrays)

    return change


def array_file(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


IMAGES = np.zeros((4, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        golden(images=IMAGES),
        golden(probabilities=answer(IMAGES)),
        golden(images=IMAGES, probabilities=answer(IMAGES)[:3]),
        golden(images=IMAGES, probabilities=np.full((4, 3), np.nan, dtype=np.float32)),
        golden(images=IMAGES[:, :4], probabilities=answer(IMAGES)),
        golden(images=IMAGES.astype(np.float32), probabilities=answer(IMAGES)),
        lambda folder: (folder / "golden.npz").write_bytes(b""),
        lambda folder: (folder / "golden.npz").write_bytes(b"not a zip file"),
        lambda folder: (folder / "golden.npz").write_bytes((folder / "golden.npz").read_bytes()[:300]),
        lambda folder: (folder / "golden.npz").write_bytes(array_file(IMAGES)),
    ],
    ids=[
        "no output", "no input", "fewer rows", "nan", "smaller images", "floats", "empty", "text", "cut off",
        "an array",
    ],
)  # fmt: skip
def test_a_useless_golden_file_is_refused(tmp_path: Path, change):
    folder = write_model(tmp_path, change=change)
    with pytest.raises(InvalidModel):
        check(folder)


@pytest.mark.parametrize(
    ("which", "update"),
    [
        ("inputs", {"name": "pixels"}),
        ("inputs", {"dtype": "float32"}),
        ("inputs", {"shape": (-1, 16, 16, 3)}),
        ("outputs", {"name": "logits"}),
        ("outputs", {"shape": (-1, 10)}),
        ("outputs", {"shape": (1, 3)}),
    ],
)
def test_other_tensors_than_the_manifests_are_refused(tmp_path: Path, which: str, update: dict):
    folder = write_model(tmp_path)
    manifest = read_manifest(folder)
    (spec,) = getattr(manifest, which)
    wrong = manifest.model_copy(update={which: (TensorSpec(**{**spec.model_dump(), **update}),)})
    with pytest.raises(InvalidModel, match="the manifest says"):
        session_of(folder).check(folder, wrong)


@pytest.mark.parametrize(
    "changes",
    [{"labels": ["red", "green"]}, {"image": {"height": 16, "width": 8, "channels": 3}}],
    ids=["labels", "image"],
)
def test_a_manifest_at_odds_with_its_tensors_is_refused(tmp_path: Path, changes: dict):
    folder = write_model(tmp_path, **changes)
    with pytest.raises(InvalidModel):
        check(folder)


@pytest.mark.parametrize("data", [b"", b"no graph"])
def test_a_file_that_is_not_an_onnx_graph(tmp_path: Path, data: bytes):
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(InvalidModel, match=r"model\.onnx"):
        session_of(tmp_path)


def test_warm_up_runs_each_batch(tmp_path: Path):
    folder = write_model(tmp_path)
    manifest = read_manifest(folder)
    golden = read_golden(folder, manifest)
    for batch in (1, 16):
        assert session_of(folder).warm_up(golden.batch(manifest, Shape(batch)), batch) > 0


@pytest.mark.skipif(cuda_problem() is None, reason="CUDA works here")
def test_cuda_never_falls_back_in_silence(tmp_path: Path):
    folder = write_model(tmp_path)
    with pytest.raises(DeviceUnavailable) as refusal:
        Session(folder / "model.onnx", "cuda", 1)
    assert str(refusal.value) == cuda_problem()


@pytest.mark.skipif(cuda_problem() is not None, reason="there is no CUDA here")
def test_cuda_gives_the_golden_answer(tmp_path: Path):
    folder = write_model(tmp_path)
    session = Session(folder / "model.onnx", "cuda", 1)
    assert session.device == "cuda"
    assert session.check(folder, read_manifest(folder)) <= 1e-5


def test_a_build_without_the_provider_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "no CUDA provider: in the clone, run `make install-gpu`" in str(cuda_problem())


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "rubbish"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n"}, 8),
        ({}, 8),
    ],
)
def test_threads_follow_the_containers_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cpus: int
):
    read_text = Path.read_text

    def read(path: Path) -> str:
        return read_text(tmp_path / path.relative_to("/sys/fs/cgroup"))

    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(Path, "read_text", read)
    assert available_cpus() == cpus


def test_the_runtime_keeps_the_bytes_of_a_graph_where_the_session_lets_go_of_them(tmp_path: Path):
    """If this fails, an upgrade has renamed what `runtime._open` clears: memory would hold each graph twice."""
    graph = (write_model(tmp_path) / "model.onnx").read_bytes()
    kept = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert kept._model_bytes == graph
    assert session_of(tmp_path / "classifier" / "1")._graph._session._model_bytes is None


def test_a_graph_that_reads_further_files_is_refused(tmp_path: Path):
    folder = write_model(tmp_path)
    model = onnx.load(folder / "model.onnx")
    for index, tensor in enumerate(model.graph.initializer):  # as bytes, which alone can lie elsewhere
        named = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
        model.graph.initializer[index].CopyFrom(named)
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (folder / "weights.bin").exists()
    with pytest.raises(InvalidModel, match=r"model\.onnx"):
        session_of(folder)
