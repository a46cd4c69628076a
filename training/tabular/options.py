"""The command line of the recipe for a network for tables."""

from argparse import ArgumentParser

from training.engine.settings import FitSettings
from training.options import (
    add_data_options,
    add_reading_options,
    add_result_options,
    add_training_options,
    integers,
    names,
)

# The data set that comes with scikit-learn.
BREAST_CANCER = "breast-cancer"
DEFAULTS = FitSettings(
    epochs=60, batch_size=32, optimizer="adamw", lr=2e-3, weight_decay=0.05, warmup=0.1, clip=1.0, ema=0.98
)


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe's command line; options left out take their default."""
    add_data_options(
        parser,
        "a table (CSV, xlsx, JSON lines, parquet), its URL, or a hub id",
        default=BREAST_CANCER,
        limited="rows",
    )
    add_reading_options(parser, "rows")
    parser.add_argument("--target", help="the column to predict (no default, but for scikit-learn's example)")
    parser.add_argument("--columns", type=names, default=(), help="use these alone, even if they look like ids")
    parser.add_argument("--drop", type=names, default=(), help="leave these columns out")
    parser.add_argument("--kind", choices=("classification", "regression"), help="default: by the target's values")
    net = parser.add_argument_group("network")
    net.add_argument("--hidden", type=integers, help="units of each hidden layer (default: 64,32)")
    net.add_argument("--dropout", type=float, help="of the hidden units (default: 0.2)")
    add_training_options(parser, "runs/tabular-DATA", {"any": DEFAULTS})
    add_result_options(parser, "tabular")
