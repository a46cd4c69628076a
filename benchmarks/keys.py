"""What API keys cost: the same server without keys, with a key file, and without again as a control, in turns.

python -m benchmarks.keys [--seconds 2] [--rounds 9]
"""

import statistics
import tempfile
from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.load import measure
from benchmarks.options import newest
from benchmarks.servers import service
from benchmarks.serving import as_jpeg
from benchmarks.tiny import make_tiny
from benchmarks.turns import in_turns
from service.access.keys import digest_of
from service.inference.manifest import GOLDEN

_KEY = "benchmark"


def main() -> None:
    """Prints the rate with keys, and of the control, relative to the rate without keys."""
    parser = ArgumentParser(prog="python -m benchmarks.keys", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    folder = newest(options.models, "classifier")
    images = [as_jpeg(pixels) for pixels in np.load(folder / GOLDEN)["images"]]
    with tempfile.TemporaryDirectory() as scratch:
        keys = Path(scratch, "keys.toml")
        keys.write_text(f'[benchmark]\nsha256 = "{digest_of(_KEY)}"\n')
        models = Path(scratch, "models")
        make_tiny(folder, models)
        for name, served in (("the committed CNN", options.models), ("a trivial network", models)):
            _compare(name, served, keys, images, options.seconds, options.rounds)


def _compare(name: str, models: Path, keys: Path, images: list[bytes], seconds: float, rounds: int) -> None:
    with ExitStack() as running:
        servers = {
            "open": (running.enter_context(service(models)).port, None),
            "keyed": (running.enter_context(service(models, {"keys": str(keys)})).port, _KEY),
            "control": (running.enter_context(service(models)).port, None),
        }
        for clients in (8, 64):

            def rate_of(server: tuple[int, str | None], clients: int = clients) -> float:
                return measure(server[0], "/v1/predict", images, clients, seconds, key=server[1]).rate

            rates = in_turns(servers, rounds, rate_of)
            ratios = {
                which: statistics.median(one / open_ for one, open_ in zip(rates[which], rates["open"], strict=True))
                for which in ("keyed", "control")
            }
            print(
                f"{name}, {clients} clients: {statistics.median(rates['open']):,.0f} images/s without keys; "
                f"with keys {ratios['keyed']:.3f} of that, control {ratios['control']:.3f}"
            )


if __name__ == "__main__":
    main()
