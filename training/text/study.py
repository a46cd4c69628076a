"""What vocabulary and length gain: short trainings with other values of them."""

import dataclasses
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from training.engine.fit import fit
from training.engine.processes import from_main
from training.engine.settings import FitSettings
from training.rows import Row, keep_rows, recall_rows
from training.text.data import TextData
from training.text.network import build
from training.text.options import NetworkSettings, TextSettings
from training.text.task import TextClassification
from training.text.tokenizer import build_tokenizer, choose_length, to_ids

WORDS = (1_000, 5_000, 10_000, None)
LENGTHS = (25, 50, 100, 200)
EPOCHS = 3


def run_study(
    network: NetworkSettings,
    data: TextData,
    settings: FitSettings,
    learning: TextSettings,
    path: Path,
    accelerator: Accelerator,
    console: Console,
) -> list[Row]:
    """Trains networks of one encoder with other vocabularies and other lengths.

    Args:
        network: what is varied.
        data: its validation split measures, which is the selection half; the test split is not used.
        settings: of the training, except for the epochs and the weight averaging.
        learning: likewise.
        path: the JSON file that keeps the rows; what is already in it, measured with the same data and settings, is
            not trained again.
        accelerator: the device and the precision.
        console: where progress goes.

    Returns:
        A row for each training: `words`, `length`, `accuracy`.
    """
    network = dataclasses.replace(network, encoders=1)
    full = choose_length(build_tokenizer(data.train.texts, None, 1, digits=network.digits), data.train.texts)
    short = dataclasses.replace(settings, epochs=EPOCHS, ema=0.0)
    measured = {
        "data": data.fingerprint,
        "network": dataclasses.asdict(network),
        "settings": dataclasses.asdict(short),
        "learning": dataclasses.asdict(learning),
    }
    quiet, rows = Console(quiet=True), from_main(accelerator, recall_rows(path, measured))
    wanted = [(words, full) for words in WORDS]
    wanted += [(network.words or None, length) for length in LENGTHS if length < full]
    for words, length in wanted:
        tokenizer = build_tokenizer(data.train.texts, words, length, digits=network.digits)
        size = tokenizer.get_vocab_size() - 2
        if (size, length) in ((row["words"], row["length"]) for row in rows):
            continue
        model = build(network, size + 2, len(data.classes), settings.seed)
        train, validation = (to_ids(tokenizer, part.texts) for part in (data.train, data.validation))
        task = TextClassification(
            train, data.train.labels, validation, data.validation.labels, len(data.classes), learning
        )
        state = fit(model, task, short, path.parent / "study", accelerator=accelerator, console=quiet)
        rows.append({"words": size, "length": length, "accuracy": state.history[-1]["validation_accuracy"]})
        console.print(f"study: {size} words, length {length}: {rows[-1]['accuracy']:.4f}")
        if accelerator.is_main_process:
            keep_rows(path, measured, rows)
    return rows
