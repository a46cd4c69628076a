"""What schemathesis, which `tests/test_schema.py` runs, has to know of this API beyond its document.

It makes inputs that a model can use (real images, tables with the model's columns), asks for models and labels that
there are, and says which data is refused although its schema allows it, for want of a way to say so in OpenAPI.
"""

import base64
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import positive_data_acceptance

from tests.pictures import encode
from tests.tiny import solid
from tests.tiny_detector import scene
from tests.tiny_tabular import COLUMNS

# Of the server in tests/test_schema.py.
MAX_ITEMS = 20
IMAGES = st.sampled_from([encode(solid("red")), encode(scene()), encode(solid("blue", 20), "JPEG")])
CELLS = st.floats(-1e6, 1e6).map(repr) | st.integers(-(10**9), 10**9).map(str) | st.just("")


def table(rows: list[tuple[str, ...]]) -> str:
    return "\n".join([",".join(COLUMNS), *map(",".join, rows)])


schemathesis.openapi.media_type("image/*", IMAGES)
schemathesis.openapi.format("csv", st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5).map(table))
schemathesis.openapi.format("binary", IMAGES)
schemathesis.openapi.format("byte", IMAGES.map(lambda image: base64.b64encode(image).decode()))


@schemathesis.hook
def before_load_schema(ctx: Any, raw_schema: dict[str, Any]) -> None:
    """The document has names of models, versions and labels as examples: others are refused."""
    for item in raw_schema["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in ("model", "version", "label", "classes") and parameter["in"] == "query":
                    names = parameter["schema"].get("examples", ["none"])
                    parameter["schema"] = {
                        "enum": [*names, *range(len(names))] if parameter["name"] == "label" else names
                    }
    for path, media_type in (("/v1/classify-text", "text/plain"), ("/v1/predict-tabular", "text/csv")):
        content = raw_schema["paths"][path]["post"]["requestBody"]["content"]
        content["application/octet-stream"]["schema"] = content[media_type]["schema"]
    # Its options may be in the query or in the body, each once.
    del raw_schema["paths"]["/v1/generate"]["post"]["requestBody"]


@schemathesis.serializer("text/csv")
def send_table(ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.check
def valid_data_is_accepted(ctx: Any, response: schemathesis.Response, case: schemathesis.Case) -> None:
    """`positive_data_acceptance`, but for options that exclude each other or bound how much may be sent."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return

    def is_true(option: str) -> bool:
        return str(case.query.get(option)).lower() == "true"

    body = case.body if isinstance(case.body, dict) else {}
    inputs = max((len(value) for value in body.values() if isinstance(value, list)), default=1)
    if case.media_type == "multipart/form-data" and sum(map(_count, body.values())) > MAX_ITEMS:
        assert response.status_code == 413  # fields of any name may hold files
    elif case.path.endswith("/canary") and case.method == "PUT" and not _is_canary(body):
        assert response.status_code in (404, 422)
    elif case.path == "/v1/feedback" and not all(_is_feedback(entry) for entry in body["feedback"]):
        assert response.status_code == 422
    elif (
        len({"confidence", "precision", "recall"} & set(case.query)) > 1
        or is_true("strict")  # no model here has p-values
        or (is_true("render") and inputs > 1)
        or (is_true("explain") and inputs > 8)
    ):
        assert response.status_code in (404, 422)  # an alias may be gone
    else:
        positive_data_acceptance(ctx, response, case)


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else 1


def _is_feedback(entry: dict[str, Any]) -> bool:
    """Whether an entry says either what is right or what is true."""
    return ("right" in entry) != ("truth" in entry)


def _is_canary(body: dict[str, Any]) -> bool:
    """Whether a canary has either a share or steps, of which all but the last have minutes."""
    steps = body.get("steps") or []
    return (body.get("share") is None) != (not steps) and all(step.get("minutes") for step in steps[:-1])
