"""The command for a shell that asks an adopted model at /v2."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from service.api.v2.tensors import datatype
from service.inference.cards import ManifestBase
from service.inference.golden import Golden

# The most values that a command holds; more are in a file.
_MOST_SHOWN = 32
# The most values that the server reads as JSON.
_MOST_VALUES = 2_000_000
REQUEST = Path("report", "request.json")


def write_request(folder: Path, manifest: ManifestBase, golden: Golden) -> None:
    """Writes a request with the first golden item to `report/request.json`, unless it is too large for JSON."""
    arrays = {
        spec.name: golden.inputs[spec.name][:1] if manifest.batched else golden.inputs[spec.name][0]
        for spec in manifest.inputs
    }
    if sum(np.size(array) for array in arrays.values()) > _MOST_VALUES:
        return
    inputs = [
        {
            "name": spec.name,
            "shape": list(np.shape(arrays[spec.name])),
            "datatype": datatype(spec.dtype),
            "data": _values(arrays[spec.name], exact=spec.name in manifest.bounds),
        }
        for spec in manifest.inputs
    ]
    (folder / REQUEST).parent.mkdir(exist_ok=True)
    (folder / REQUEST).write_text(json.dumps({"inputs": inputs}) + "\n")


def ask_command(folder: Path, name: str) -> str | None:
    """A command that sends the request; None if there is none."""
    path = folder / REQUEST
    if not path.is_file():
        return None
    request = json.loads(path.read_text())
    few = sum(len(each["data"]) for each in request["inputs"]) <= _MOST_SHOWN
    data = shlex.quote(json.dumps(request) if few else f"@{path}")
    return f"curl -d {data} localhost:8000/v2/models/{name}/infer"


def _values(array: Any, *, exact: bool) -> list[Any]:
    """The values as JSON has them: no NaN and no infinity, and few digits unless a value could leave its range."""
    flat = np.ravel(array)
    if flat.dtype.kind != "f":
        values: list[Any] = flat.tolist()
        return values
    finite = np.nan_to_num(flat, posinf=0, neginf=0)
    return [float(value) if exact else float(f"{value:.4g}") for value in finite]
