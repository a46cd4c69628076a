"""quartet conformance: whether a server speaks the Open Inference Protocol."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from quartet.conformance import rest
from quartet.conformance.suite import Check, Failed, Result, Session, run
from quartet.conformance.tensors import Tensor, flatten
from quartet.console import fail
from quartet.extras import needs


def main(arguments: Sequence[str] | None = None, prog: str = "quartet") -> int:
    """Runs the suite; returns 0 if nothing failed, 1 if something did, 2 if there is nothing to check."""
    given = list(arguments if arguments is not None else sys.argv[1:])
    options = make_parser(prog).parse_args(given[1:] if given[:1] == ["conformance"] else given)
    headers = {"X-API-Key": key} if (key := os.environ.get("QUARTET_API_KEY")) else {}
    with httpx.Client(base_url=options.url, headers=headers, timeout=60) as client:
        try:
            model = options.model or _first_model(client)
            inputs = _read_inputs(options.inputs) if options.inputs else None
        except (Failed, OSError, ValueError, KeyError) as error:
            return fail(2, str(error))
        with _calls(options.grpc, headers) as (calls, further):
            session = Session(client, model, options.version, inputs, calls)
            results = list(run(session, [*rest.CHECKS, *further]))
    if options.json:
        print(json.dumps([_to_json(each) for each in results], indent=1))
    else:
        _print(results, model, details=options.details)
    return int(any(each.verdict == "failed" for each in results))


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of the options."""
    parser = argparse.ArgumentParser(
        prog=f"{prog} conformance",
        description="Checks whether a server speaks the Open Inference Protocol (KServe V2) over REST and gRPC, "
        "and prints what passed, what failed, and what it does not offer.",
    )
    parser.add_argument("url", metavar="URL", help="of the server, such as http://127.0.0.1:8000")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="where it serves gRPC (default: only REST is checked)")
    parser.add_argument("--model", help="its name (default: the first of the repository index)")
    parser.add_argument("--version", default="", help="of the model (default: the server's choice)")
    parser.add_argument(
        "--inputs", type=Path, metavar="FILE", help="JSON with a list `inputs`, as in a request (default: random ones)"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--details", action="store_true", help="print request and response of what failed")
    return parser


@contextmanager
def _calls(address: str | None, headers: Mapping[str, str]) -> Iterator[tuple[Any, list[Check]]]:
    """The calls over gRPC and their checks, if an address is given."""
    if address is None:
        yield None, []
        return
    with needs("grpc"):
        from quartet.conformance import rpc
    with closing(rpc.Calls(address, headers)) as calls:
        yield calls, rpc.CHECKS


def _first_model(client: httpx.Client) -> str:
    try:
        response = client.post("/v2/repository/index")
        return str(response.json()[0]["name"])
    except httpx.HTTPError as error:
        raise Failed(f"{client.base_url} does not answer: {error!r}") from None
    except (ValueError, LookupError, TypeError):
        raise Failed("the server lists no models: name one with --model") from None


def _read_inputs(path: Path) -> list[Tensor]:
    document = json.loads(path.read_text())
    return [
        Tensor(each["name"], each["datatype"], tuple(each["shape"]), flatten(each["data"]))
        for each in document["inputs"]
    ]


def _to_json(result: Result) -> dict[str, Any]:
    described = {"check": result.check.name, "required": result.check.required, "verdict": result.verdict}
    return {**described, "why": result.why, "exchanges": result.exchanges if result.verdict == "failed" else []}


def _print(results: Sequence[Result], model: str, *, details: bool) -> None:
    width = max(len(each.check.name) for each in results)
    print(f"model: {model}")
    for each in results:
        required = "required" if each.check.required else "optional"
        why = f"  {each.why}" if each.why else ""
        print(f"{each.check.name:<{width}}  {required}  {each.verdict}{why}")
        if details and each.verdict == "failed":
            print("\n".join(f"    {line}" for line in "\n".join(each.exchanges[-1:]).splitlines()))
    counts = Counter(each.verdict for each in results)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
