"""Which vocabulary a text classifier gets: words, or parts of words where many words are unknown."""

import dataclasses
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from tokenizers import Tokenizer

from training.engine.fit import fit
from training.engine.processes import from_main
from training.engine.settings import FitSettings
from training.rows import keep_rows, recall_rows
from training.text.data import TextData
from training.text.network import build
from training.text.options import NetworkSettings, TextSettings
from training.text.task import TextClassification
from training.text.tokenizer import Vocabulary, build_tokenizer, choose_length, to_ids, unknown_share

# Up to this share of unknown words in the validation texts, words are good enough without a trial.
FEW_UNKNOWN = 0.05
EPOCHS = 3
_KINDS: tuple[Vocabulary, ...] = ("words", "bpe", "unigram")


def choose_vocabulary(
    network: NetworkSettings,
    data: TextData,
    settings: FitSettings,
    learning: TextSettings,
    path: Path,
    accelerator: Accelerator,
    console: Console,
) -> Vocabulary:
    """Words if nearly all of those in the validation texts are known; otherwise what learns best in a few epochs.

    Args:
        network: of which one encoder is trained.
        data: its validation split decides, which is the selection half; the test split is not used.
        settings: of the training, except for the epochs and the weight averaging.
        learning: likewise.
        path: the JSON file that keeps what was measured.
        accelerator: the device and the precision.
        console: where progress goes.
    """
    words = build_tokenizer(data.train.texts, network.words or None, 1_000, digits=network.digits)
    share = unknown_share(to_ids(words, data.validation.texts))
    if share <= FEW_UNKNOWN:
        return "words"
    console.print(f"{share:.0%} of the words in the validation texts are unknown: trying parts of words too")
    network = dataclasses.replace(network, encoders=1)
    short = dataclasses.replace(settings, epochs=min(EPOCHS, settings.epochs), ema=0.0)
    origin = {
        "data": data.fingerprint,
        "network": dataclasses.asdict(network),
        "settings": dataclasses.asdict(short),
        "learning": dataclasses.asdict(learning),
    }
    rows = from_main(accelerator, recall_rows(path, origin))
    for kind in _KINDS[len(rows) :]:
        tokenizer, _ = make_tokenizer(network, data, kind, accelerator)
        train, validation = (to_ids(tokenizer, part.texts) for part in (data.train, data.validation))
        model = build(network, tokenizer.get_vocab_size(), len(data.classes), settings.seed)
        task = TextClassification(
            train, data.train.labels, validation, data.validation.labels, len(data.classes), learning
        )
        quiet = Console(quiet=True)
        state = fit(model, task, short, path.parent / "vocabulary", accelerator=accelerator, console=quiet)
        accuracy = max(row["validation_accuracy"] for row in state.history)
        rows.append({"vocabulary": kind, "size": tokenizer.get_vocab_size(), "accuracy": accuracy})
        console.print(f"vocabulary of {kind}: validation accuracy {accuracy:.4f} after {short.epochs} epochs")
        if accelerator.is_main_process:
            keep_rows(path, origin, rows)
    return max(_KINDS, key=lambda kind: next(row["accuracy"] for row in rows if row["vocabulary"] == kind))


def make_tokenizer(
    network: NetworkSettings, data: TextData, kind: Vocabulary, accelerator: Accelerator
) -> tuple[Tokenizer, int]:
    """The tokenizer of the training texts, and the length that it truncates to.

    The main process makes it for all: learned again, parts of words may come out in another order.
    """
    made = None
    if accelerator.is_main_process:
        tokenizer = build_tokenizer(data.train.texts, network.words or None, 1, digits=network.digits, vocabulary=kind)
        length = network.length or choose_length(tokenizer, data.train.texts)
        tokenizer.enable_truncation(length)
        made = tokenizer, length
    shared: Any = from_main(accelerator, made)
    return shared
