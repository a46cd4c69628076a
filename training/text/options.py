"""The options of the recipe for a text classifier."""

from dataclasses import dataclass, field
from typing import Literal

from training.engine.settings import FitSettings
from training.options import Options

Cell = Literal["gru", "lstm"]
# Sized for some thousand articles on two cores.
DEFAULTS = FitSettings(
    epochs=16, batch_size=32, optimizer="adamw", lr=2e-3, weight_decay=0.01, warmup=0.1, clip=1.0, ema=0.995
)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The network.

    Attributes:
        cell: of the recurrent layers.
        embedding: embedding dimension.
        hidden: units of each direction of each layer.
        layers: recurrent layers.
        dropout: before each layer and before the last.
        encoders: recurrent encoders whose predictions are averaged.
        wide: add a bag-of-words layer to the logits of the encoders.
        words: the most words in the vocabulary; 0 for all.
        length: the number of words that a text is truncated to; 0 for a length that nearly all texts stay below.
        digits: digits belong to words.
        vocabulary: of words, or of parts of words by bpe or unigram; auto tries the parts where many words are unknown.
    """

    cell: Cell = "gru"
    embedding: int = 200
    hidden: int = 200
    layers: int = 1
    dropout: float = 0.5
    encoders: int = 1
    wide: bool = False
    words: int = 0
    length: int = 0
    digits: bool = False
    vocabulary: Literal["auto", "words", "bpe", "unigram"] = "auto"


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """How a text classifier learns, in addition to `FitSettings`.

    Attributes:
        label_smoothing: probability mass that is spread over all classes.
        word_dropout: the fraction of words that are replaced by the unknown word, drawn anew in every epoch.
        balance: exponent of the classes' inverse frequency in the loss; 0 weights every text alike, 1 every class.
    """

    label_smoothing: float = 0.1
    word_dropout: float = 0.1
    balance: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TextOptions(Options):
    """Trains on texts of classes.

    Attributes:
        data: a table of texts (CSV, TSV, xlsx, JSON lines, parquet), its URL, a hub id, or a folder.
        encoding: of text files, such as cp949; detected by default.
        text_column: the column of texts; by default the one with a usual name, such as text.
        label_column: the column of labels; by default the one with a usual name, such as label.
        validation: fraction of train to hold out if there is no validation split.
        linear: after the training, add the votes of a linear support vector machine on tf-idf, with the weight that
            validation chooses.
    """

    encoding: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    validation: float = 0.1
    linear: bool = False
    network: NetworkSettings = field(default_factory=NetworkSettings)
    learning: TextSettings = field(default_factory=TextSettings)
