"""The options of the recipe for texts."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from training.engine.settings import FitSettings
from training.options import BackboneFitOptions, Options, changed

TRANSFORMERS = "transformers:"
Vocabulary = Literal["words", "bpe", "unigram"]

# Sized for some thousand articles on two cores.
DEFAULTS = FitSettings(
    epochs=16, batch_size=32, optimizer="adamw", lr=2e-3, weight_decay=0.01, warmup=0.1, clip=1.0, ema=0.995
)
# With more training texts than this, fewer epochs are enough, down to the fewest.
_SOME_THOUSAND, _FEWEST_EPOCHS = 6_000, 4
PRETRAINED = dataclasses.replace(DEFAULTS, epochs=4, lr=1e-3, backbone_lr=5e-5, ema=0.0)


def usual_epochs(texts: int) -> int:
    """The default number of epochs of a recurrent network on so many training texts."""
    return max(_FEWEST_EPOCHS, min(DEFAULTS.epochs, round(DEFAULTS.epochs * _SOME_THOUSAND / texts)))


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The recurrent network.

    Attributes:
        embedding: embedding dimension.
        hidden: units of each direction of each encoder.
        encoders: recurrent encoders whose predictions are averaged.
        dropout: before each layer and before the last.
        wide: add a bag-of-words layer to the logits of the encoders.
    """

    embedding: int = 200
    hidden: int = 200
    encoders: int = 1
    dropout: float = 0.5
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class TokenSettings:
    """The tokenizer.

    Attributes:
        vocabulary: words, or parts of words by byte-pair encoding or a unigram language model; by default words, or
            500, 1,000 or 4,000 parts by byte-pair encoding, as suits a linear classifier of the training texts best.
        words: the most words, or parts, in the vocabulary; 0 for all words, or 8,000 parts.
        length: the number of tokens that texts are truncated to; 0 for one that 98 % of the texts do not exceed.
        digits: digits belong to words; they always belong to parts of words.
    """

    vocabulary: Vocabulary | None = None
    words: int = 0
    length: int = 0
    digits: bool = False


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class TextOptions(Options):
    """Trains on texts of classes.

    Attributes:
        data: a table of texts (CSV, TSV, xlsx, JSON lines, parquet), its URL, a hub id, or a folder.
        encoding: of text files, such as cp949; detected by default.
        text_column: the column of texts; by default the one with a usual name, such as text.
        label_column: the column of labels; by default the one with a usual name, such as label.
        validation: fraction of train to hold out if there is no validation split; at least 50 texts, or a quarter of
            train.
        backbone: transformers:MODEL, a hub id or a folder, to fine-tune a pretrained transformer instead of training a
            recurrent network.
        linear: add the decision values of a linear support vector machine on tf-idf of runs of tokens, with the weight
            that validation chooses.
    """

    encoding: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    validation: float = 0.1
    backbone: str | None = None
    linear: bool = True
    fit: BackboneFitOptions = field(default_factory=BackboneFitOptions)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    tokens: TokenSettings = field(default_factory=TokenSettings)
    loss: LossSettings = field(default_factory=LossSettings)

    def check(self) -> None:
        super().check()
        if self.backbone is None:
            if self.fit.backbone_lr is not None:
                raise ValueError("--backbone-lr has no effect without --backbone: leave it out")
            return
        if not self.backbone.startswith(TRANSFORMERS):
            raise ValueError(f"--backbone {self.backbone}: must be {TRANSFORMERS} and a hub id or a folder")
        for name in {**changed(self.network), **changed(dataclasses.replace(self.tokens, length=0))}:
            raise ValueError(f"--{name} has no effect with --backbone: leave it out")
