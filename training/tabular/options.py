"""The options of the recipe for tables."""

from dataclasses import dataclass, field
from typing import Literal

from training.engine.settings import FitSettings
from training.options import Options

Kind = Literal["classification", "regression"]

# The data set that comes with scikit-learn.
BREAST_CANCER = "breast-cancer"
DEFAULTS = FitSettings(
    epochs=60, batch_size=32, optimizer="adamw", lr=2e-3, weight_decay=0.05, warmup=0.1, clip=1.0, ema=0.98
)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The network.

    Attributes:
        hidden: units of each hidden layer.
        dropout: of the hidden units.
    """

    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.2


@dataclass(frozen=True, kw_only=True)
class TabularOptions(Options):
    """Trains on a table with a column to predict.

    Attributes:
        data: a table (CSV, xlsx, JSON lines, parquet), its URL, or a hub id.
        encoding: of text files, such as cp949; detected by default.
        target: the column to predict.
        columns: use these alone, even if they look like ids.
        drop: leave these columns out.
        kind: classification or regression; by default as the values of the target suggest.
    """

    data: str = BREAST_CANCER
    encoding: str | None = None
    target: str | None = None
    columns: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    kind: Kind | None = None
    network: NetworkSettings = field(default_factory=NetworkSettings)
