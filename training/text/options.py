"""The command line of the recipe for a text classifier."""

from argparse import ArgumentParser

from training.engine.settings import FitSettings
from training.options import (
    add_data_options,
    add_quantize_option,
    add_reading_options,
    add_result_options,
    add_training_options,
)

# Sized for some thousand articles on two cores.
DEFAULTS = FitSettings(
    epochs=16, batch_size=32, optimizer="adamw", lr=2e-3, weight_decay=0.01, warmup=0.1, clip=1.0, ema=0.995
)


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
    net.add_argument("--cell", choices=("gru", "lstm"), help="default: gru")
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
        help="after the training, add the votes of a linear support vector machine on tf-idf, which count as much as "
        "validation says (default: off)",
    )
    net.add_argument("--words", type=int, help="the most words in the vocabulary (default: all)")
    net.add_argument("--length", type=int, help="truncate texts to this many words (default: by the data)")
    net.add_argument(
        "--vocabulary",
        choices=("auto", "words", "bpe", "unigram"),
        help="words, or parts of words; auto tries the parts where many words are unknown (default: auto)",
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
    out = add_result_options(parser, "topics")
    add_quantize_option(out)
    out.add_argument("--study", action="store_true", help="also measure the effect of vocabulary and length")
