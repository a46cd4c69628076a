"""Topics of texts: a recurrent network over words, on any data set of labelled texts.

From the data to a published version, top to bottom: load, tokenise, build, fit, evaluate, export, report.
"""

import dataclasses
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from tokenizers import Tokenizer

from service.inference.cards import GoldenCard
from service.inference.manifest import GOLDEN, MODEL
from service.inference.manifests.classification import TOKENIZER, TextManifest
from service.tasks.text import influence, read_text, without_each
from training.calibrate import softmax
from training.evaluate import Evaluation, evaluate
from training.export import (
    data_card,
    deliver,
    export,
    training_card,
    write_golden,
)
from training.fit import FitSettings, FitState, fit
from training.options import (
    add_result_options,
    add_training_options,
    check_name,
    make_accelerator,
    origin,
    override,
    start_from,
    stated,
)
from training.rows import Row, keep_rows, recall_rows
from training.text.baseline import linear_baseline
from training.text.data import TextData, load_texts
from training.text.graph import TextGraph
from training.text.network import Cell, TextNetwork
from training.text.operators import TRANSLATIONS
from training.text.report import Findings, worst_mistakes, write_report
from training.text.task import TextSettings, Topics, padded, predict
from training.text.tokenizer import build_tokenizer, choose_length, to_ids

MAX_BATCH = 64
GOLDEN_ROWS = 16
ATOL = 1e-4
STUDY = "study.json"
_STUDIED_WORDS = (1_000, 5_000, 10_000, None)
_STUDIED_LENGTHS = (25, 50, 100, 200)
_STUDY_EPOCHS = 3
_WORDS_SHOWN = 5

# A start, sized for some thousand articles on two cores.
DEFAULTS = FitSettings(
    epochs=16, batch_size=32, optimizer="adamw", lr=2e-3, weight_decay=0.01, warmup=0.1, clip=1.0, ema=0.995
)

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What is trained.

    Attributes:
        cell: `gru` or `lstm`.
        embedding: numbers a word.
        hidden: of each direction of each layer.
        layers: recurrent layers.
        dropout: the share of numbers dropped before each layer and before the last.
        readers: recurrent readers whose answers are averaged.
        wide: whether single words vote too.
        words: the most words in the vocabulary; 0 for all.
        length: the most words of a text that are read; 0 for a length that nearly all have.
        digits: whether digits belong to words.
    """

    cell: Cell = "gru"
    embedding: int = 200
    hidden: int = 200
    layers: int = 1
    dropout: float = 0.5
    readers: int = 1
    wide: bool = False
    words: int = 0
    length: int = 0
    digits: bool = False


def build(network: NetworkSettings, words: int, classes: int, seed: int) -> TextNetwork:
    """The network, its weights initialised from `seed`."""
    torch.manual_seed(seed)
    return TextNetwork(
        words,
        classes,
        network.cell,
        network.embedding,
        network.hidden,
        network.layers,
        network.dropout,
        network.readers,
        network.wide,
    )


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe's command line; options left out take their default."""
    parser.add_argument("--data", required=True, help="a hub id, a folder, or a CSV or JSON lines file")
    parser.add_argument("--data-name", help="what to call the data set in the report (default: its id or file)")
    parser.add_argument("--text-column", help="by default the one called so")
    parser.add_argument("--label-column", help="by default the one called so")
    parser.add_argument("--validation", type=float, default=0.1, help="share of train that is held out where none is")
    parser.add_argument("--limit", type=int, help="use at most so many texts of each split, for a trial")
    net = parser.add_argument_group("network")
    net.add_argument("--cell", choices=("gru", "lstm"))
    for name in ("embedding", "hidden", "layers", "readers"):
        net.add_argument(f"--{name}", type=int)
    net.add_argument("--dropout", type=float)
    net.add_argument("--wide", action="store_true", default=None, help="single words vote beside the readers")
    net.add_argument("--words", type=int, help="the most words in the vocabulary (default: all)")
    net.add_argument("--length", type=int, help="the most words of a text that are read (default: by the data)")
    net.add_argument("--digits", action="store_true", default=None, help="digits belong to words")
    how = add_training_options(parser, "runs/topics-DATA")
    how.add_argument("--label-smoothing", type=float)
    how.add_argument("--word-dropout", type=float, help="share of the words taken for unknown in training")
    how.add_argument("--balance", type=float, help="0 treats every text alike in the loss, 1 every class")
    out = add_result_options(parser, "topics")
    out.add_argument("--study", action="store_true", help="also measure what vocabulary and length buy")


def run(arguments: Namespace, console: Console) -> None:
    """Trains, evaluates, and publishes where that is asked for."""
    check_name(arguments.name)
    network = override(NetworkSettings(), arguments)
    settings = override(DEFAULTS, arguments)
    learning = override(TextSettings(), arguments)
    data = load_texts(
        arguments.data,
        text_column=arguments.text_column,
        label_column=arguments.label_column,
        validation=arguments.validation,
        limit=arguments.limit,
        seed=settings.seed,
    )
    data = dataclasses.replace(data, name=arguments.data_name or data.name)
    folder = arguments.run_dir or Path("runs") / f"topics-{data.name.replace('/', '-')}"
    accelerator = make_accelerator(arguments)
    tokenizer = build_tokenizer(data.train.texts, network.words or None, 1, digits=network.digits)
    length = network.length or choose_length(tokenizer, data.train.texts)
    tokenizer.enable_truncation(length)
    console.print(
        f"{data.name}: {len(data.train)} training, {len(data.validation)} validation and {len(data.test)} test texts, "
        f"{len(data.classes)} classes; {tokenizer.get_vocab_size()} words, read up to {length}; on {accelerator.device}"
    )
    train, validation, test = (to_ids(tokenizer, part.texts) for part in (data.train, data.validation, data.test))
    study = _study(network, data, settings, learning, folder, accelerator, console) if arguments.study else []
    model = build(network, tokenizer.get_vocab_size(), len(data.classes), settings.seed)
    start_from(model, arguments.start_from)
    task = Topics(train, data.train.labels, validation, data.validation.labels, len(data.classes), learning)
    state = fit(
        model,
        task,
        settings,
        folder,
        accelerator=accelerator,
        console=console,
        resume=arguments.resume,
        origin=origin(arguments, data.fingerprint, network=network, learning=learning),
    )
    if not accelerator.is_main_process:
        return

    # Evaluated as it is served: in float32, on the CPU.
    model = model.cpu().eval()
    validation_logits, test_logits = predict(model, validation), predict(model, test)
    evaluation = evaluate(data.classes, validation_logits, data.validation.labels, test_logits, data.test.labels)
    baseline = linear_baseline(data)
    console.print(
        f"test accuracy {evaluation.metrics.accuracy:.4f} (linear baseline {baseline:.4f}), macro F1 "
        f"{evaluation.metrics.macro_f1:.4f}, calibration error {evaluation.calibration.ece_after:.4f}"
    )
    findings = Findings(
        tokenizer,
        model.vectors.weight.detach().numpy(),
        _lengths(tokenizer, data.train.texts, length),
        baseline,
        _moved(model, tokenizer, length, data, evaluation),
        study,
    )
    made_with = stated(arguments, network, settings, learning)
    graph = TextGraph(model, evaluation.calibration.temperature).eval()
    name = arguments.name or "topics"

    def write(target: Path) -> TextManifest:
        return _write_version(target, name, graph, data, test, length, made_with, state, evaluation, findings)

    deliver(arguments, name, folder / "export", write, console)


def _study(
    network: NetworkSettings,
    data: TextData,
    settings: FitSettings,
    learning: TextSettings,
    folder: Path,
    accelerator: Any,
    console: Console,
) -> list[Row]:
    """Short trainings, of one reader, with other vocabularies and other lengths; none is repeated."""
    path = folder / STUDY
    network = dataclasses.replace(network, readers=1)
    full = choose_length(build_tokenizer(data.train.texts, None, 1, digits=network.digits), data.train.texts)
    short = dataclasses.replace(settings, epochs=_STUDY_EPOCHS, ema=0.0)
    measured = {
        "data": data.fingerprint,
        "network": dataclasses.asdict(network),
        "settings": dataclasses.asdict(short),
        "learning": dataclasses.asdict(learning),
    }
    rows = recall_rows(path, measured)
    wanted = [(words, full) for words in _STUDIED_WORDS]
    wanted += [(network.words or None, length) for length in _STUDIED_LENGTHS if length < full]
    for words, length in wanted:
        tokenizer = build_tokenizer(data.train.texts, words, length, digits=network.digits)
        size = tokenizer.get_vocab_size() - 2
        if (size, length) in ((row["words"], row["length"]) for row in rows):
            continue
        model = build(network, size + 2, len(data.classes), settings.seed)
        train, validation = (to_ids(tokenizer, part.texts) for part in (data.train, data.validation))
        task = Topics(train, data.train.labels, validation, data.validation.labels, len(data.classes), learning)
        state = fit(
            model, task, short, folder / "study", accelerator=accelerator, console=Console(quiet=True), whole=True
        )
        rows.append({"words": size, "length": length, "accuracy": state.history[-1]["validation_accuracy"]})
        console.print(f"study: {size} words, length {length}: {rows[-1]['accuracy']:.4f}")
        if accelerator.is_main_process:
            keep_rows(path, measured, rows)
    return rows


def _lengths(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Ids:
    """Words of each text, without truncation; the tokenizer truncates to `length` afterwards."""
    tokenizer.no_truncation()
    lengths = np.array([len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))])
    tokenizer.enable_truncation(length)
    return lengths


def _moved(
    model: TextNetwork, tokenizer: Tokenizer, length: int, data: TextData, evaluation: Evaluation
) -> dict[int, list[tuple[str, float]]]:
    """For the worst mistakes the words whose loss moves the answer most."""
    moved = {}
    for index in worst_mistakes(evaluation):
        text = data.test.texts[index]
        reading = read_text(tokenizer, text, length)
        if not reading.tokens:
            continue
        without = softmax(predict(model, without_each(reading.ids)) / evaluation.calibration.temperature)
        words = influence(text, reading, evaluation.probabilities[index], without)
        strongest = sorted(words, key=lambda word: -abs(float(word["weight"])))[:_WORDS_SHOWN]
        moved[index] = [(str(word["word"]), float(word["weight"])) for word in strongest]
    return moved


def _words(made_with: dict[str, Any]) -> str:
    """What a network is, in a few words."""
    cell, readers = str(made_with["cell"]).upper(), made_with["readers"]
    kind = f"bidirectional {cell}" if readers == 1 else f"{readers} bidirectional {cell}s over the same word vectors"
    return f"{kind}, and votes of single words" if made_with["wide"] else kind


def _write_version(
    target: Path,
    name: str,
    graph: TextGraph,
    data: TextData,
    test: Sequence[Ids],
    length: int,
    made_with: dict[str, Any],
    state: FitState,
    evaluation: Evaluation,
    findings: Findings,
) -> TextManifest:
    """Fills `target` with graph, golden file, tokenizer and report; returns the manifest, its `files` still empty."""
    max_batch = min(MAX_BATCH, len(test))
    names: dict[str, Any] = {"input_name": "ids", "output_names": ("probabilities",)}
    card = GoldenCard(rows=min(GOLDEN_ROWS, len(test)), atol=ATOL)
    mixed = padded(test[:max_batch]).numpy()
    # Every text at lengths of one word, of five, and as long as may be: alone and in a full batch.
    longest = np.resize(np.concatenate(test), (max_batch, length))
    more = [mixed[:, :1], mixed[:, :5], longest, longest[:1]]
    inputs, outputs, difference = export(
        graph,
        mixed,
        target / MODEL,
        max_batch=max_batch,
        card=card,
        axes=("batch", "length"),
        more=more,
        translations=TRANSLATIONS,
        **names,
    )
    write_golden(graph, padded(test[: card.rows]).numpy(), target / GOLDEN, **names)
    findings.tokenizer.save(str(target / TOKENIZER))
    network = graph.network
    manifest = TextManifest(
        name=name,
        description=f"{data.name}, {len(data.classes)} topics: {_words(made_with)}",
        labels=data.classes,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=max_batch,
        max_length=length,
        words=findings.tokenizer.get_vocab_size(),
        data=data_card(data),
        metrics=evaluation.metrics,
        calibration=evaluation.calibration,
        conformal=evaluation.conformal,
        training=training_card("python -m training topics", made_with, state, network),
        golden=card,
        files={},
    )
    write_report(target / "report", manifest, evaluation, data, findings, state.history, difference.value)
    return manifest
