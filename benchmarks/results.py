"""Results of benchmarks: JSON files with date, machine and command, which documents show.

python -m benchmarks.results                     # run all that are listed here, write results, fill them into docs/
python -m benchmarks.results sizing workers      # some of them

`python -m docs.generate` fills the results that are there into docs/, without running anything.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from service.inference.device import available_cpus
from training.export.variants import machine

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "results"
# What each benchmark is run with for the documents.
COMMANDS: dict[str, list[str]] = {
    "serving": [],
    "peers": [],
    "detection": [],
    "routes": [],
    "protocols": [],
    "tls": [],
    "torture": [],
    "lifecycle": [],
    "rollout": [],
    "live": [],
    "training": [],
    "baselines": [],
    "workers": [],
    "on_ray": [],
    "asleep": [],
    "simulation": [],
    "sizing": [],
    "adopt_models": [],
    "adopt_nodes": [],
    "served": ["--images", "10000"],
    "drift": [],
    "drift_cost": [],
    "capture": [],
    "capture_files": [],
}


class Recorder(Console):
    """A console that remembers what it printed.

    Attributes:
        tables: each with its title, columns and rows, as printed.
        lines: whatever else was printed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[dict[str, Any]] = []
        self.lines: list[str] = []

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints, and remembers."""
        for item in objects:
            if isinstance(item, Table):
                columns = [column.header for column in item.columns]
                rows = [list(cells) for cells in zip(*(column.cells for column in item.columns), strict=True)]
                self.tables.append({"title": item.title, "columns": columns, "rows": rows})
            else:
                self.lines.append(str(item))
        super().print(*objects, **options)

    def write(self, path: Path | None, module: str, figures: Any = None) -> None:
        """Writes a result file, if there is a path.

        Args:
            path: of the file.
            module: of the benchmark.
            figures: with all their digits, in plain JSON types.
        """
        if path is None:
            return
        given = sys.argv[1:]
        if "--json" in given:
            at = given.index("--json")
            given = [*given[:at], *given[at + 2 :]]
        content = {
            "date": datetime.now(UTC).date().isoformat(),
            "command": shlex.join(["python", "-m", module, *given]),
            "machine": {"processor": machine("cpu"), "cpus": available_cpus(), "platform": platform.platform()},
            "tables": self.tables,
            "lines": self.lines,
            **({"figures": figures} if figures is not None else {}),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Adds where the result goes."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")


def rendered(name: str) -> str:
    """A result in Markdown, or how to get it where there is none."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        return f"Not measured with this version yet: `python -m benchmarks.results {name}`.\n"
    result = json.loads(path.read_text())
    where = result["machine"]
    parts = [f"`{result['command']}`, {result['date']}, {where['cpus']} CPUs, {where['processor']}:"]
    for table in result["tables"]:
        head = [f"| {' | '.join(table['columns'])} |", "|" + "---|" * len(table["columns"])]
        rows = [f"| {' | '.join(row)} |" for row in table["rows"]]
        parts += [f"*{table['title']}*", "\n".join(head + rows)]
    if result["lines"]:
        parts.append("\n".join(f"- {line}" for line in result["lines"]))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Runs benchmarks and fills their results into the documents."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (default: all): {', '.join(COMMANDS)}")
    parser.add_argument("--data", type=Path, default=Path("../data"), help="folder of the data sets")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - COMMANDS.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    failed = [name for name in arguments.names or COMMANDS if not _run(name, arguments)]
    subprocess.run([sys.executable, "-m", "docs.generate"], cwd=ROOT, check=True)
    if failed:
        sys.exit(f"error: no result of {', '.join(failed)}; see above")


def _run(name: str, arguments: argparse.Namespace) -> bool:
    options = COMMANDS[name]
    if name == "served":
        sets = {"classifier": "cifar10", "detector": "bccd", "topics": "reuters-r52", "digits": "mnist"}
        options = [*options, *(word for key, data in sets.items() for word in (f"--{key}", f"{arguments.data / data}"))]
    if name == "drift":
        options = [*options, "--data", str(arguments.data)]
    command = ["-m", f"benchmarks.{name}", *options, "--json", os.fspath(FOLDER / f"{name}.json")]
    print(f"python {shlex.join(command)}", flush=True)
    return subprocess.run([sys.executable, *command], cwd=ROOT).returncode == 0


if __name__ == "__main__":
    main()
