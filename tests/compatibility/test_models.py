"""Models with manifests of every earlier form are served, and answer their golden inputs over HTTP as before."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import quartet
from service.app import create_app
from service.inference.golden import read_golden
from service.settings import Settings
from service.tasks.registry import read_manifest
from tests.compatibility.write_models import ADOPTED, FOLDER, FORMS

ALL_FORMS = [*FORMS, ADOPTED]
VERSIONS = sorted(FOLDER.glob("*/*/1"))
FORMER_TASKS = {
    "classification": "image-classification",
    "detection": "object-detection",
    "autoencoder": "image-reconstruction",
    "encoder": "image-encoding",
    "decoder": "image-generation",
    "text": "text-classification",
}


def stated(folder: Path) -> dict[str, Any]:
    """The manifest as it is written."""
    document: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return document


def test_every_form_is_there():
    assert {folder.parents[1].name for folder in VERSIONS} == {*ALL_FORMS}
    assert len(VERSIONS) > 20


def test_the_first_manifests_state_other_names_of_their_tasks():
    tasks = {
        task: former
        for folder in VERSIONS
        if (former := stated(folder)["task"]) != (task := read_manifest(folder).task)
    }
    assert tasks == FORMER_TASKS


@pytest.mark.parametrize("variant", ["reference", "int8"])
@pytest.mark.parametrize("form", ALL_FORMS)
async def test_golden_inputs_are_answered_as_before(form: str, variant: str):
    app = create_app(Settings(models=FOLDER / form, device="cpu", threads=1, variant=variant))
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        served = {version.name: version for version in app.repository.versions}
        assert served.keys() == {folder.parent.name for folder in VERSIONS if folder.parents[1].name == form}
        for name, version in served.items():
            manifest = version.manifest
            assert version.variant == (variant if manifest.variants else "reference")
            inputs, answers = read_golden(FOLDER / form / name / "1", manifest)
            found = await infer(client, name, inputs)
            for spec in manifest.outputs:
                tolerance = manifest.golden.tolerances.get(spec.name, manifest.golden.atol)
                np.testing.assert_allclose(found[spec.name], answers[spec.name], atol=tolerance, rtol=0, err_msg=name)


async def infer(client: httpx.AsyncClient, name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A model's outputs, by the Open Inference Protocol with binary tensors."""
    types = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}
    tensors = [
        {"name": each, "shape": array.shape, "datatype": types[str(array.dtype)],
         "parameters": {"binary_data_size": array.nbytes}}
        for each, array in inputs.items()
    ]  # fmt: skip
    head = json.dumps({"inputs": tensors}).encode()
    response = await client.post(
        f"/v2/models/{name}/infer",
        content=b"".join([head, *(array.tobytes() for array in inputs.values())]),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert response.status_code == 200, response.text
    return {each["name"]: np.reshape(each["data"], each["shape"]) for each in response.json()["outputs"]}


@pytest.mark.parametrize("form", ALL_FORMS)
async def test_operations_of_their_tasks_answer(form: str):
    app = create_app(Settings(models=FOLDER / form, device="cpu", threads=1))
    picture = np.full((40, 50, 3), 90, np.uint8)
    async with (
        app.router.lifespan_context(app),
        quartet.AsyncClient("http://x", transport=httpx.ASGITransport(app), retry_for=0) as client,
    ):
        for version in app.repository.versions:
            name, manifest = version.name, version.manifest
            match manifest.task:
                case "classification":
                    answer = await client.predict(picture, model=name, coverage=0.9 if manifest.conformal else None)
                    assert answer.label in manifest.labels
                    assert bool(answer.label_set) == bool(manifest.conformal)
                case "detection":
                    found = await client.detect(picture, model=name, confidence=0.1)
                    assert found.counts == {manifest.labels[0]: len(found.boxes)}
                case "autoencoder":
                    assert (await client.reconstruct(picture, model=name)).error >= 0
                case "encoder":
                    assert len((await client.encode(picture, model=name)).latents) == manifest.latent
                case "decoder":
                    assert len((await client.generate(2, seed=1, label=3, model=name)).images) == 2
                case "text":
                    assert (await client.classify_text("the price of oil", model=name)).label in manifest.labels
                case "tabular":
                    row = {column.name: 1.0 for column in manifest.columns}
                    assert (await client.predict_tabular(row, model=name)).labels[0].label in manifest.labels
                case "tensors":
                    pass  # it has no operations but /v2
                case other:
                    raise AssertionError(f"no call for {other}")
