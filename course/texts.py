"""The effect of the size of the vocabulary and of the length that texts are truncated to, on a text classifier."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from rich.console import Console

from course.study import Row, mean_and_deviation, measure_rows, study_parser, table, write_study
from training.data.splits import selection_of
from training.engine.fit import fit
from training.engine.settings import FitSettings
from training.text.data import TextData, load_texts
from training.text.learner import TextClassification
from training.text.network import TextNetwork
from training.text.options import DEFAULTS, LossSettings, NetworkSettings
from training.text.tokenizer import build_tokenizer, choose_length, to_ids

WORDS = (1_000, 5_000, 10_000, None)
LENGTHS = (25, 50, 100, 200)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study and writes its report."""
    parser = study_parser("course.texts", __doc__, seeds=3)
    parser.add_argument("--epochs", type=int, default=3, help="of each training (default: 3)")
    options = parser.parse_args(arguments)
    data = selection_of(load_texts(options.data, limit=options.limit, seed=options.seed))
    texts = data.train.texts
    network = NetworkSettings(encoders=1)
    every = build_tokenizer(texts, None, 1)
    full, most = choose_length(every, texts), every.get_vocab_size() - 2
    # Without padding and unknown words.
    trials = dict.fromkeys((min(words or most, most), full) for words in WORDS)
    trials |= dict.fromkeys((most, length) for length in LENGTHS if length < full)
    settings = dataclasses.replace(DEFAULTS, epochs=options.epochs, ema=0.0)
    folder, seeds = options.folder, range(options.seed, options.seed + options.seeds)
    measures = {
        f"{words} words, length {length}": partial(
            _measure, words, length, network, data, settings, seeds, folder / "training" / f"{words}-{length}"
        )
        for words, length in trials
    }
    origin = {
        "data": data.fingerprint,
        "seeds": list(seeds),
        "network": dataclasses.asdict(network),
        "settings": dataclasses.asdict(settings),
    }
    rows = measure_rows(folder, origin, measures, Console(), side_by_side=True).values()
    write_study(
        folder,
        "# The effect of vocabulary and length",
        f"Each row is {len(seeds)} trainings of {options.epochs} epochs of a network with one encoder on "
        f"{len(data.train):,} texts; they differ in their initial weights and in the order of the texts. Accuracy on "
        f"{len(data.validation)} validation texts, mean ± standard deviation over the seeds. One text is "
        f"{1 / len(data.validation):.4f}.",
        table(
            ("words", "length", "validation accuracy", "of each seed"),
            [
                (
                    f"{row['words']:,}",
                    row["length"],
                    mean_and_deviation(row["accuracy"]),
                    ", ".join(f"{value:.4f}" for value in row["accuracy"]),
                )
                for row in rows
            ],
        ),
    )


def _measure(
    words: int,
    length: int,
    network: NetworkSettings,
    data: TextData,
    settings: FitSettings,
    seeds: Sequence[int],
    folder: Path,
) -> Row:
    tokenizer = build_tokenizer(data.train.texts, words, length)
    train, validation = (to_ids(tokenizer, part.texts) for part in (data.train, data.validation))
    classes, accuracy, accelerator = len(data.classes), [], Accelerator()
    for seed in seeds:
        torch.manual_seed(seed)
        model = TextNetwork(tokenizer.get_vocab_size(), classes, network)
        task = TextClassification(train, data.train.labels, validation, data.validation.labels, classes, LossSettings())
        how = dataclasses.replace(settings, seed=seed)
        state = fit(model, task, how, folder, accelerator=accelerator, console=Console(quiet=True))
        accuracy.append(state.history[-1]["validation_accuracy"])
    return {"words": words, "length": length, "accuracy": accuracy}


if __name__ == "__main__":
    main()
