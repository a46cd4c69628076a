"""What traces cost: the processor time of a request, without traces, with 1 % and with all requests sampled, in turns.

python -m benchmarks.traces [--seconds 2] [--rounds 9] [--json FILE]
"""

import statistics
import tempfile
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.options import newest
from benchmarks.results import Recorder, add_json_option
from benchmarks.servers import Running, service
from benchmarks.serving import as_jpeg
from benchmarks.tiny import make_tiny
from benchmarks.turns import in_turns, processor_microseconds
from service.inference.manifest import GOLDEN

_CLIENTS = 8


class _Collector(BaseHTTPRequestHandler):
    """Takes spans, and forgets them."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def _collector() -> Iterator[str]:
    """The address of a collector."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def main() -> None:
    """Prints microseconds of the server's processor time for a request."""
    parser = ArgumentParser(prog="python -m benchmarks.traces", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=9)
    add_json_option(parser)
    options = parser.parse_args()
    folder = newest(options.models, "classifier")
    images = [as_jpeg(pixels) for pixels in np.load(folder / GOLDEN)["images"]]
    with tempfile.TemporaryDirectory() as scratch, _collector() as address, ExitStack() as running:
        models = Path(scratch, "models")
        make_tiny(folder, models)

        def start(ratio: str | None) -> Running:
            variables = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio or ""}
            variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = address
            return running.enter_context(service(models, variables=variables if ratio else None))

        servers = {"without": start(None), "1 %": start("0.01"), "100 %": start("1"), "control": start(None)}
        measured = partial(processor_microseconds, images=images, clients=_CLIENTS, seconds=options.seconds)
        times = in_turns(servers, options.rounds, measured)
    recorder = Recorder()
    table = Table("sampled", "µs of a request", "more than without", title=f"A trivial network, {_CLIENTS} clients")
    figures = {}
    for which, found in times.items():
        more = statistics.median(one - other for one, other in zip(found, times["without"], strict=True))
        figures[which] = {"microseconds": statistics.median(found), "more": more}
        table.add_row(which, f"{statistics.median(found):.0f}", f"{more:+.1f}")
    recorder.print(table)
    recorder.write(options.json, "benchmarks.traces", figures)


if __name__ == "__main__":
    main()
