"""A published classifier of texts, taken apart: what its network and its linear classifier answer alone.

The weighted sum in its graph is read before the two are added up. No weight changes.
"""

import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from rich.console import Console
from sklearn.metrics import confusion_matrix
from tokenizers import Tokenizer

from course.study import Row, measure_rows, study_parser, table, write_study
from service.inference.manifest import MANIFEST, MODEL
from training.data.dataset import DataError
from training.export.calibration import Floats
from training.export.figures import class_metrics, macro_f1
from training.export.layers import answer_with, producers_of
from training.text.data import Ids, TextData, load_texts
from training.text.learner import run_texts
from training.text.tokenizer import to_ids

# Classes with at least so many training texts.
BANDS = (500, 100, 20, 0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study and writes its report."""
    parser = study_parser("course.topics", __doc__)
    parser.add_argument("--version", type=Path, default=Path("models/topics/1"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    manifest = json.loads((options.version / MANIFEST).read_text())
    data = load_texts(options.data, limit=options.limit, seed=options.seed)
    if list(data.classes) != manifest["labels"]:
        raise DataError(f"{options.data}: its classes are not those of {options.version}.")
    tokenizer = Tokenizer.from_file(str(options.version / "tokenizer.json"))
    network, linear = parts(options.version / MODEL, to_ids(tokenizer, data.test.texts))
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    always = np.eye(len(data.classes), dtype=np.float32)[np.full(len(data.test), counts.argmax())]
    ways = {
        f"always {data.classes[counts.argmax()]}": always,
        "network alone": network,
        "linear classifier alone": linear,
        "both, as published": network + linear,
    }
    measures = {name: partial(_measure, logits, data, counts) for name, logits in ways.items()}
    origin = {"data": data.fingerprint, "model": manifest["files"][MODEL], "texts": len(data.test)}
    rows = measure_rows(options.folder, origin, measures, Console())
    write_study(
        options.folder,
        "# A classifier of texts, taken apart",
        f"`{manifest['name']}/{options.version.name}` on the {len(data.test):,} test texts. Its graph adds up the "
        "log-probabilities of a network and the weighted decision values of a linear classifier on tf-idf:",
        table(
            ("answers of", "right", "accuracy", "macro F1"),
            [(name, row["right"], f"{row['accuracy']:.4f}", f"{row['macro_f1']:.4f}") for name, row in rows.items()],
        ),
        "The same by how many training texts a topic has. F1 is the mean of the topics:",
        table(
            ("training texts", "topics", "training", "test", *(f"F1, {name}" for name in ways)),
            [
                (
                    band["name"],
                    band["classes"],
                    band["train"],
                    band["test"],
                    *(f"{row['bands'][i]['f1']:.3f}" for row in rows.values()),
                )
                for i, band in enumerate(next(iter(rows.values()))["bands"])
            ],
        ),
    )


def parts(graph: Path, texts: Sequence[Ids]) -> tuple[Floats, Floats]:
    """What the graph adds up for each text, shape (texts, classes): of its network, and of its linear classifier."""
    model = onnx.load(graph)
    answer_with(model, _summands(model))
    with tempfile.TemporaryDirectory() as scratch:
        onnx.save(model, Path(scratch) / MODEL)
        network, linear = run_texts(Path(scratch) / MODEL, texts)
    return network, linear


def _summands(model: onnx.ModelProto) -> tuple[str, str]:
    producers = producers_of(model)
    node = producers[model.graph.output[0].name]
    while node.op_type in ("Softmax", "Div"):
        node = producers[node.input[0]]
    if node.op_type != "Add" or producers[node.input[1]].op_type != "Mul":
        raise ValueError("the graph is no weighted sum of a network and a linear classifier")
    return node.input[0], node.input[1]


def _measure(logits: Floats, data: TextData, counts: npt.NDArray[np.int64]) -> Row:
    labels, found = data.test.labels, logits.argmax(1)
    f1 = np.array([row.f1 for row in class_metrics(data.classes, labels, found)])
    tested = np.bincount(labels, minlength=len(counts))
    bands, above = [], np.inf
    for least in BANDS:
        inside = (counts >= least) & (counts < above) & (tested > 0)
        bands.append(
            {
                "name": f"{least} or more" if above == np.inf else f"{max(1, least)} to {above - 1:.0f}",
                "classes": int(inside.sum()),
                "train": int(counts[inside].sum()),
                "test": int(tested[inside].sum()),
                "f1": round(float(f1[inside].mean()), 4) if inside.any() else 0.0,
            }
        )
        above = least
    right = int((found == labels).sum())
    confusion = confusion_matrix(labels, found, labels=np.arange(len(counts)))
    return {
        "right": right,
        "accuracy": round(right / len(labels), 4),
        "macro_f1": round(macro_f1(confusion), 4),
        "bands": bands,
    }


if __name__ == "__main__":
    main()
