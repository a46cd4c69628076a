"""The options of the recipe for texts, of nothing that takes long to import."""

import dataclasses
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from typing import Literal

from training.engine.settings import FitSettings
from training.options import (
    add_data_options,
    add_quantize_option,
    add_reading_options,
    add_result_options,
    add_training_options,
    override,
)

TRANSFORMERS = "transformers:"
Vocabulary = Literal["words", "bpe", "unigram"]

# Sized for some thousand articles on two cores.
DEFAULTS = FitSettings(
    epochs=16, batch_size=32, optimizer="adamw", lr=2e-3, weight_decay=0.01, warmup=0.1, clip=1.0, ema=0.995
)
PRETRAINED = dataclasses.replace(DEFAULTS, epochs=4, lr=1e-3, backbone_lr=5e-5, ema=0.0)


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The recurrent network.

    Attributes:
        embedding: embedding dimension.
        hidden: units of each direction of each recurrent layer.
        layers: recurrent layers of each encoder.
        encoders: recurrent encoders whose predictions are averaged.
        dropout: before each layer and before the last.
        wide: add a bag-of-words layer to the logits of the encoders.
    """

    embedding: int = 200
    hidden: int = 200
    layers: int = 1
    encoders: int = 1
    dropout: float = 0.5
    wide: bool = False


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """The tokenizer.

    Attributes:
        vocabulary: words, or parts of words by byte-pair encoding or a unigram language model; by default words, and
            unigram for scripts without spaces between words.
        words: the most words, or parts, in the vocabulary; 0 for all words, or 8,000 parts.
        length: the number of tokens that texts are truncated to; 0 for one that 98 % of the texts do not exceed.
        digits: digits belong to words.
    """

    vocabulary: Vocabulary | None = None
    words: int = 0
    length: int = 0
    digits: bool = False


@dataclass(frozen=True, slots=True)
class LossSettings:
    """The loss and the augmentation.

    Attributes:
        label_smoothing: probability mass that is spread over all classes.
        word_dropout: the fraction of tokens that are replaced by the unknown one, drawn anew in every epoch.
        balance: exponent of the classes' inverse frequency in the loss; 0 weights every text alike, 1 every class.
    """

    label_smoothing: float = 0.1
    word_dropout: float = 0.1
    balance: float = 0.0


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe's command line; options left out take their default."""
    accepts = "a table of texts (CSV, TSV, xlsx, JSON lines, parquet), its URL, a hub id, or a folder"
    add_data_options(parser, accepts, limited="texts")
    add_reading_options(parser, "texts")
    parser.add_argument("--text-column", help="default: the one with a usual name, such as text")
    parser.add_argument("--label-column", help="default: the one with a usual name, such as label")
    parser.add_argument(
        "--validation",
        type=float,
        default=0.1,
        help="fraction of train to hold out if there is no validation split (default: %(default)s)",
    )
    net = parser.add_argument_group("network")
    net.add_argument(
        "--backbone",
        default="",
        help="fine-tune transformers:MODEL, a hub id or a folder (default: train a recurrent network)",
    )
    net.add_argument("--embedding", type=int, help="embedding dimension (default: 200)")
    net.add_argument("--hidden", type=int, help="units of each direction of each layer (default: 200)")
    net.add_argument("--layers", type=int, help="recurrent layers (default: 1)")
    net.add_argument("--encoders", type=int, help="recurrent encoders that are averaged (default: 1)")
    net.add_argument("--dropout", type=float, help="before each layer and before the last (default: 0.5)")
    net.add_argument(
        "--wide", action="store_true", default=None, help="add a bag-of-words layer beside the encoders (default: off)"
    )
    net.add_argument(
        "--linear",
        action="store_true",
        help="after the training, add the decision values of a linear support vector machine on tf-idf, with a weight "
        "chosen on validation (default: off)",
    )
    net.add_argument("--words", type=int, help="the most words in the vocabulary (default: all)")
    net.add_argument("--length", type=int, help="truncate texts to this many tokens (default: by the data)")
    net.add_argument(
        "--vocabulary",
        choices=("words", "bpe", "unigram"),
        help="words, or parts of words (default: words, and unigram for scripts without spaces)",
    )
    net.add_argument("--digits", action="store_true", default=None, help="digits belong to words (default: off)")
    how = add_training_options(parser, "runs/text-DATA", {"any": DEFAULTS})
    how.add_argument("--label-smoothing", type=float, help="probability mass spread over all classes (default: 0.1)")
    how.add_argument(
        "--word-dropout",
        type=float,
        help="fraction of the words replaced by the unknown word in training (default: 0.1)",
    )
    how.add_argument(
        "--balance", type=float, help="0 weights every text alike in the loss, 1 every class (default: 0.0)"
    )
    add_quantize_option(add_result_options(parser, "topics"))


def check_arguments(arguments: Namespace) -> None:
    """Refuses options of the recurrent network beside `--backbone`."""
    check_backbone(arguments.backbone, override(NetworkSettings(), arguments), override(TokenSettings(), arguments))


def check_backbone(backbone: str, network: NetworkSettings, tokens: TokenSettings) -> None:
    """Refuses another backbone than a transformer, and options that it makes useless.

    Raises:
        ValueError: names the options.
    """
    if not backbone:
        return
    if not backbone.startswith(TRANSFORMERS):
        raise ValueError(f"--backbone {backbone}: must begin with {TRANSFORMERS}, followed by a hub id or a folder")
    for settings in (network, dataclasses.replace(tokens, length=0)):
        for field in dataclasses.fields(settings):
            if getattr(settings, field.name) != field.default:
                raise ValueError(f"--{field.name} has no effect with --backbone: leave it out")
