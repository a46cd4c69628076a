"""The checks of the protocol over REST, in the order of its text."""

import json
import math
from typing import Any

import httpx

from quartet.conformance.suite import (
    Failed,
    NotOffered,
    Session,
    Suite,
    check_same,
    compress,
    need,
    read_binary,
    read_json,
)

CHECKS = Suite()
check = CHECKS.check


def _answered(response: httpx.Response) -> httpx.Response:
    need(response.status_code == 200, f"answered {response.status_code}")
    return response


@check("server live")
def _(session: Session) -> None:
    _answered(session.send("GET", "/v2/health/live"))


@check("server ready")
def _(session: Session) -> None:
    _answered(session.send("GET", "/v2/health/ready"))


@check("health as a JSON document", required=False)
def _(session: Session) -> None:
    for what in ("live", "ready"):
        response = session.send("GET", f"/v2/health/{what}")
        if not response.content:
            raise NotOffered("the body is empty, which KServe's client cannot read")
        need(response.json().get(what) is True, f'the body is not {{"{what}": true}}')


@check("server metadata")
def _(session: Session) -> None:
    document = session.json("GET", "/v2")
    need(isinstance(document.get("name"), str), "it has no name")
    need(isinstance(document.get("version"), str), "it has no version")
    need(isinstance(document.get("extensions", []), list), "its extensions are no list")


@check("model ready")
def _(session: Session) -> None:
    _answered(session.send("GET", session.path("ready")))


@check("model metadata")
def _(session: Session) -> None:
    document = session.metadata
    need(document.get("name") == session.model, f"its name is {document.get('name')!r}")
    need(isinstance(document.get("platform"), str), "it has no platform")
    for part in ("inputs", "outputs"):
        need(document.get(part), f"it has no {part}")
        for tensor in document[part]:
            complete = {"name", "datatype", "shape"} <= tensor.keys()
            need(complete and isinstance(tensor["shape"], list), f"an entry of {part} lacks name, datatype or shape")


@check("inference, flat JSON")
def _(session: Session) -> None:
    document = session.json("POST", session.path("infer"), json_body=session.body())
    need(document.get("model_name") == session.model, f"model_name is {document.get('model_name')!r}")
    outputs, described = read_json(document), session.metadata["outputs"]
    for tensor in described:
        need(tensor["name"] in outputs, f"the output {tensor['name']!r} is missing")
        output = outputs[tensor["name"]]
        need(output.datatype == tensor["datatype"], f"the output {tensor['name']!r} is {output.datatype}")
        need(
            len(output.values) == math.prod(output.shape), f"the output {tensor['name']!r} has other values than shape"
        )


@check("inference, nested JSON")
def _(session: Session) -> None:
    body = {"inputs": [each.to_json(nested=True) for each in session.inputs]}
    check_same(read_json(session.json("POST", session.path("infer"), json_body=body)), session.reference)


@check("inference without a Content-Type")
def _(session: Session) -> None:
    content = json.dumps(session.body()).encode()
    _answered(session.send("POST", session.path("infer"), content=content))


@check("the id is repeated")
def _(session: Session) -> None:
    document = session.json("POST", session.path("infer"), json_body=session.body(id="conformance-1"))
    need(document.get("id") == "conformance-1", f"the id is {document.get('id')!r}")


@check("only the outputs that are asked for")
def _(session: Session) -> None:
    name = session.metadata["outputs"][-1]["name"]
    document = session.json("POST", session.path("infer"), json_body=session.body(outputs=[{"name": name}]))
    outputs = read_json(document)
    need(list(outputs) == [name], f"the outputs are {', '.join(outputs)}")
    check_same(outputs, session.reference)


@check("the same answer to the same request")
def _(session: Session) -> None:
    check_same(read_json(session.json("POST", session.path("infer"), json_body=session.body())), session.reference)


@check("a version of the model", required=False)
def _(session: Session) -> None:
    versions = session.metadata.get("versions")
    if not versions:
        raise NotOffered("the metadata names no versions")
    for end in ("", "ready"):
        response = session.send("GET", session.path(end, versions[-1]))
        need(response.status_code == 200, f"{end or 'metadata'}: answered {response.status_code}")
    document = session.json("POST", session.path("infer", versions[-1]), json_body=session.body())
    need(document.get("model_version") == versions[-1], f"model_version is {document.get('model_version')!r}")


@check("unknown model: 404 or 400, with an error")
def _(session: Session) -> None:
    for method, end in (("GET", ""), ("POST", "/infer")):
        path = f"/v2/models/no-such-model{end}"
        content = json.dumps(session.body()) if method == "POST" else None
        session.refused(path, session.send(method, path, content=content), 404, 400)


@check("malformed requests: 400, with an error")
def _(session: Session) -> None:
    (first, *rest) = [each.to_json() for each in session.inputs]
    bodies: dict[str, Any] = {
        "no JSON": b"{",
        "no inputs": {},
        "an empty list of inputs": {"inputs": []},
        "an input of another name": {"inputs": [{**first, "name": "no-such-input"}, *rest]},
        "an input that is missing": {"inputs": rest},
        "an input twice": {"inputs": [first, first, *rest]},
        "another datatype": {
            "inputs": [{**first, "datatype": "FP64" if first["datatype"] != "FP64" else "INT8"}, *rest]
        },
        "an unknown datatype": {"inputs": [{**first, "datatype": "COMPLEX"}, *rest]},
        "a negative axis": {"inputs": [{**first, "shape": [-1, *first["shape"][1:]]}, *rest]},
        "fewer values than the shape says": {"inputs": [{**first, "data": first["data"][:-1]}, *rest]},
        "more axes than the model has": {"inputs": [{**first, "shape": [*first["shape"], 1, 1]}, *rest]},
        "neither data nor its size": {"inputs": [{k: v for k, v in first.items() if k != "data"}, *rest]},
        "an unknown output": {"inputs": [first, *rest], "outputs": [{"name": "no-such-output"}]},
    }
    failures = []
    for what, body in bodies.items():
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            session.refused(what, session.send("POST", session.path("infer"), content=content), 400)
        except Failed as error:
            failures.append(str(error))
    if failures:
        raise Failed("; ".join(failures))


@check("the server still answers")
def _(session: Session) -> None:
    check_same(read_json(session.json("POST", session.path("infer"), json_body=session.body())), session.reference)


def _binary_inputs(session: Session) -> tuple[dict[str, Any], list[bytes]]:
    described, blobs = zip(*(each.to_binary() for each in session.inputs), strict=True)
    return {"inputs": list(described)}, list(blobs)


def _offers_binary(session: Session) -> None:
    extensions = session.json("GET", "/v2").get("extensions", [])
    if not {"binary_tensor_data", "binary_data"} & set(extensions):
        raise NotOffered("the server's extensions do not name binary_tensor_data")


@check("binary inputs and outputs", required=False)
def _(session: Session) -> None:
    _offers_binary(session)
    document, blobs = _binary_inputs(session)
    response = _answered(session.binary({**document, "parameters": {"binary_data_output": True}}, *blobs))
    check_same(read_binary(response), session.reference)


@check("binary inputs, JSON outputs", required=False)
def _(session: Session) -> None:
    _offers_binary(session)
    document, blobs = _binary_inputs(session)
    response = _answered(session.binary(document, *blobs))
    check_same(read_json(response.json()), session.reference)


@check("JSON inputs, one output binary", required=False)
def _(session: Session) -> None:
    _offers_binary(session)
    name = session.metadata["outputs"][0]["name"]
    asked = [{"name": name, "parameters": {"binary_data": True}}]
    response = _answered(session.send("POST", session.path("infer"), content=json.dumps(session.body(outputs=asked))))
    check_same(read_binary(response), session.reference)


@check("binary sizes that disagree: 400, with an error", required=False)
def _(session: Session) -> None:
    _offers_binary(session)
    document, blobs = _binary_inputs(session)
    size = document["inputs"][0]["parameters"]["binary_data_size"]
    for what, wrong in (("a size less than the shape says", size - 1), ("a size past the body", size + 10**6),
                        ("a negative size", -1)):  # fmt: skip
        first = {**document["inputs"][0], "parameters": {"binary_data_size": wrong}}
        session.refused(what, session.binary({"inputs": [first, *document["inputs"][1:]]}, *blobs), 400)
    for what, length in (("a header length past the body", "99999999"), ("a negative header length", "-5")):
        content = json.dumps(document).encode() + b"".join(blobs)
        headers = {"Inference-Header-Content-Length": length}
        session.refused(what, session.send("POST", session.path("infer"), content=content, headers=headers), 400)


@check("the whole body as the only input", required=False)
def _(session: Session) -> None:
    _offers_binary(session)
    open_axes = [size for each in session.metadata["inputs"] for size in each["shape"][1:] if int(size) < 0]
    if len(session.inputs) != 1 or open_axes or session.inputs[0].datatype == "BYTES":
        raise NotOffered("the body does not tell the shape of the model's inputs")
    _, data = session.inputs[0].to_binary()
    headers = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}
    response = session.send(
        "POST", session.path("infer"), content=data[: len(data) // session.inputs[0].shape[0]], headers=headers
    )
    need(response.status_code == 200, f"answered {response.status_code}")
    read_binary(response)


@check("compressed requests", required=False)
def _(session: Session) -> None:
    content = json.dumps(session.body()).encode()
    for encoding in ("gzip", "deflate"):
        headers = {"Content-Encoding": encoding}
        response = session.send("POST", session.path("infer"), content=compress(content, encoding), headers=headers)
        if response.status_code in (400, 415, 422, 501):
            raise NotOffered(f"{encoding}: answered {response.status_code}")
        need(response.status_code == 200, f"{encoding}: answered {response.status_code}")
        check_same(read_json(response.json()), session.reference)


@check("classification", required=False)
def _(session: Session) -> None:
    if "classification" not in session.json("GET", "/v2").get("extensions", []):
        raise NotOffered("the server's extensions do not name it")
    name = next((each["name"] for each in session.metadata["outputs"] if each["datatype"].startswith("FP")), None)
    if name is None:
        raise NotOffered("the model has no output of numbers")
    asked = [{"name": name, "parameters": {"classification": 1}}]
    (output,) = read_json(session.json("POST", session.path("infer"), json_body=session.body(outputs=asked))).values()
    need(output.datatype == "BYTES", f"the output is {output.datatype}")
    need(all(len(value.split(":")) in (2, 3) for value in output.values), "an element is not VALUE:INDEX[:LABEL]")


@check("model configuration", required=False)
def _(session: Session) -> None:
    document = session.json("GET", session.path("config"))
    for key in ("name", "max_batch_size", "input", "output"):
        need(key in document, f"it has no {key}")
    need(all(each["data_type"].startswith("TYPE_") for each in document["input"]), "a data_type is no TYPE_…")


@check("statistics", required=False)
def _(session: Session) -> None:
    document = session.json("GET", session.path("stats"))
    entry = document["model_stats"][0]
    for key in ("name", "version", "inference_count", "execution_count", "inference_stats", "batch_stats"):
        need(key in entry, f"it has no {key}")
    for key in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"):
        need({"count", "ns"} <= entry["inference_stats"][key].keys(), f"{key} lacks count or ns")


@check("repository index", required=False)
def _(session: Session) -> None:
    response = session.send("POST", "/v2/repository/index")
    if response.status_code in (404, 405, 501):
        raise NotOffered(f"answered {response.status_code}")
    need(response.status_code == 200, f"answered {response.status_code}")
    need(session.model in [each["name"] for each in response.json()], "the model is not in it")


@check("sequences are refused, or served", required=False)
def _(session: Session) -> None:
    body = session.body(parameters={"sequence_id": 7, "sequence_start": True, "sequence_end": True})
    response = session.send("POST", session.path("infer"), content=json.dumps(body))
    if response.status_code != 200:
        session.refused("a sequence for a model without", response, 400)
    else:
        raise NotOffered("the parameters are ignored, or the model has sequences")
