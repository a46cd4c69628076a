"""What each model and variant needs: items a second on one core, and the memory of a process that serves it alone.

python -m benchmarks.sizing [--models models] [--seconds 1]
"""

import tempfile
from pathlib import Path

from rich.table import Table

from benchmarks.options import newest, parse
from benchmarks.results import Recorder
from benchmarks.servers import service
from quartet.offline.examination import seconds_per_batch
from service.inference.golden import read_golden
from service.inference.manifest import MODEL
from service.inference.session import Session
from service.tasks.registry import read_manifest

BATCHES = (1, 8, 32)


def main() -> None:
    """Prints a table."""
    options = parse("benchmarks.sizing", __doc__, rounds=1)
    table = Table(title="one core; memory of a process with this model alone")
    for column in ("model", "variant", *(f"items/s at {batch}" for batch in BATCHES), "MB"):
        table.add_column(column, justify="left" if column in ("model", "variant") else "right")
    for name in sorted(folder.name for folder in options.models.iterdir() if folder.is_dir()):
        folder = newest(options.models, name)
        manifest = read_manifest(folder)
        inputs, _ = read_golden(folder, manifest)
        graphs = {"reference": MODEL, **{card.name: card.file for card in manifest.variants if card.device == "cpu"}}
        for variant, file in graphs.items():
            session = Session(folder / file, "cpu", 1)
            rates = [batch / seconds_per_batch(session, inputs, batch, options.seconds) for batch in BATCHES]
            with tempfile.TemporaryDirectory() as scratch:
                alone = Path(scratch)
                (alone / name).symlink_to((options.models / name).resolve())
                with service(alone, {"variant": variant}) as running:
                    memory = running.resident_mb()
            table.add_row(name, variant, *(f"{rate:,.0f}" for rate in rates), f"{memory:.0f}")
    console = Recorder()
    console.print(table)
    console.write(options.json, "benchmarks.sizing")


if __name__ == "__main__":
    main()
