"""Attacks the service, each attack beside a well-behaved client, and says what that client met.

The client sends a small JPEG to /v1/predict 20 times a second. Its waits count as if it had gone on sending while it
waited. A verdict is FAIL where its 99th percentile, or the server's memory, breaks a bound, where a request of its was
not answered 200, or where the attack itself ought to have been answered otherwise.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from benchmarks.results import Recorder, add_json_option
from benchmarks.servers import Running, service
from benchmarks.torture.catalogue import ATTACKS
from benchmarks.torture.publishing import copy_models
from benchmarks.torture.soak import soak
from benchmarks.torture.strike import Attack
from benchmarks.torture.trial import P99_BESIDE_MS, P99_MS, PEAK_MB, Outcome, lives, try_attack
from service.access.keys import digest_of

_CALM = "calm"
# What is left of an attack has no claim on a clean end.
_SHUTDOWN_SECONDS = {"shutdown_timeout": "2"}
_COLUMNS = {
    "attack": 26, "answers": 38, "p50 ms": 9, "p99 ms": 9, "longest": 9, "not 200": 16, "peak MB": 8, "after MB": 9,
    "verdict": 8,
}  # fmt: skip


def main() -> int:
    """Runs what the command line asks for; 1 if any verdict is FAIL."""
    arguments = _arguments()
    if arguments.list:
        for attack in ATTACKS.values():
            print(f"{attack.name:20} {attack.description}")
        return 0
    # As Ctrl-C does: everything that was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if arguments.soak:
        with _server(arguments.models) as (running, models):
            return 0 if soak(running, models, 60 * arguments.soak) else 1
    chosen = [ATTACKS[name] for name in arguments.names] or list(ATTACKS.values())
    outcomes = []
    print(_line(dict(zip(_COLUMNS, _COLUMNS, strict=True))))
    for outcome in _outcomes([ATTACKS[_CALM], *(a for a in chosen if a.name != _CALM)], arguments):
        outcomes.append(outcome)
        print(_line(_cells(outcome)))
        for note in outcome.notes:
            print(f"    {note}")
        sys.stdout.flush()
        _record(outcomes).write(arguments.json, "benchmarks.torture")  # after each, for a run that is interrupted
    failed = [outcome.attack for outcome in outcomes if outcome.wrong]
    print(f"{len(failed)} of {len(outcomes)} FAIL ({_bounds()})" if failed else f"all ok ({_bounds()})")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torture", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="attacks; all by default")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--seconds", type=float, help="of each attack that can be repeated; each has its own default")
    parser.add_argument("--keep", action="store_true", help="one server for all attacks, as long as it lives")
    add_json_option(parser)
    parser.add_argument("--list", action="store_true", help="say which attacks there are")
    parser.add_argument(
        "--soak", type=float, metavar="MINUTES", help="good traffic and attacks by chance; is memory flat?"
    )
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in ATTACKS]:
        parser.error(f"there is no attack {unknown[0]}: --list says which there are")
    return arguments


def _outcomes(attacks: list[Attack], arguments: argparse.Namespace) -> Iterator[Outcome]:
    with contextlib.ExitStack() as kept:
        server: tuple[Running, Path] | None = None
        for attack in attacks:
            if attack.keys or not arguments.keep:
                with _keys(attack.keys) as keys, _server(arguments.models, keys) as fresh:
                    rows = try_attack(attack, *fresh, arguments.seconds)
            else:
                if server is None or not lives(server[0]):
                    kept.close()
                    server = kept.enter_context(_server(arguments.models))
                rows = try_attack(attack, *server, arguments.seconds)
            yield from rows


@contextlib.contextmanager
def _server(models: Path, keys: Mapping[str, str] = MappingProxyType({})) -> Iterator[tuple[Running, Path]]:
    """A server, and its models folder, which attacks may change."""
    with tempfile.TemporaryDirectory() as folder:
        copied = copy_models(models, Path(folder) / "models")
        with service(copied, {**_SHUTDOWN_SECONDS, **keys}) as running:
            yield running, copied


@contextlib.contextmanager
def _keys(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """The setting of a server with API keys that are their own names; none without names."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "keys.toml")
        entries = (f'[{name}]\nsha256 = "{digest_of(name)}"\nscopes = ["infer", "metrics"]\n' for name in names)
        file.write_text("".join(entries))
        yield {"keys": str(file)} if names else {}


def _cells(outcome: Outcome) -> dict[str, str]:
    waits = [f"{value:.1f}" for value in (outcome.p50, outcome.p99, outcome.longest)]
    memory = [f"{value:.0f}" for value in (outcome.peak_mb, outcome.after_mb)]
    failed = sum(outcome.failed.values())
    not_200 = f"{failed} of {outcome.requests}" + (f" ({_counts(outcome.failed)})" if failed else "")
    verdict = f"FAIL ({', '.join(outcome.wrong)})" if outcome.wrong else "ok"
    cells = (outcome.attack, _counts(outcome.answers) or "–", *waits, not_200, *memory, verdict)
    return dict(zip(_COLUMNS, cells, strict=True))


def _counts(counts: Mapping[str, int]) -> str:
    return " ".join(f"{what}:{count}" for what, count in counts.items())


def _line(cells: Mapping[str, str]) -> str:
    parts = []
    for (name, width), cell in zip(_COLUMNS.items(), cells.values(), strict=True):
        left = name in ("attack", "answers", "not 200", "verdict")
        parts.append(cell.ljust(width) if left else cell.rjust(width))
    return " ".join(parts).rstrip()


def _record(outcomes: list[Outcome]) -> Recorder:
    recorder = Recorder()
    rows = [list(_cells(outcome).values()) for outcome in outcomes]
    recorder.tables = [{"title": f"Bounds: {_bounds()}", "columns": list(_COLUMNS), "rows": rows}]
    recorder.lines = [f"{outcome.attack}: {note}" for outcome in outcomes for note in outcome.notes]
    return recorder


def _bounds() -> str:
    return f"p99 < {P99_MS:g} ms, beside it {P99_BESIDE_MS:g} ms; peak memory < {PEAK_MB:g} MB; all of the client 200"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
