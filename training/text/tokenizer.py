"""From text to token ids: a pipeline that is saved beside the model, so that the service tokenises as training did."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from tokenizers import Encoding, Regex, Tokenizer, decoders
from tokenizers.models import BPE, Unigram, WordLevel
from tokenizers.normalizers import NFKC, Lowercase, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import Metaspace, WhitespaceSplit
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.trainers import BpeTrainer, UnigramTrainer

from service.tasks.text.reading import PAD, UNKNOWN
from training.engine.processes import from_main
from training.text.data import Ids
from training.text.options import TokenSettings, Vocabulary

_SPECIAL = {"[PAD]": PAD, "[UNK]": UNKNOWN}


def build_tokenizer(
    texts: Iterable[str], size: int | None, length: int, *, digits: bool = False, vocabulary: Vocabulary = "words"
) -> Tokenizer:
    """A tokenizer of the most frequent words, or of parts of words.

    Words are runs of letters (and combining marks, as in Korean and Hindi) in lower case; everything else separates
    them: punctuation and, unless they are kept, digits. In languages that inflect or join words, parts of words are
    known from texts that never had the word: of byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) or of a
    unigram language model (Kudo 2018, arXiv:1804.10959). Parts include digits and punctuation. `size` is the most
    words; None for all, or 8,000 parts.
    """
    if vocabulary == "words":
        separators = r"[^\p{L}\p{M}\p{N}]+" if digits else r"[^\p{L}\p{M}]+"
        normalizer = Normalizers([NFKC(), Lowercase(), Replace(Regex(separators), " ")])
        counts = Counter(word for text in texts for word in normalizer.normalize_str(text).split())
        # Words of the same frequency in alphabetical order, so that the same texts give the same vocabulary.
        words = sorted(counts, key=lambda word: (-counts[word], word))[:size]
        tokenizer = Tokenizer(WordLevel({**_SPECIAL, **{w: i + len(_SPECIAL) for i, w in enumerate(words)}}, "[UNK]"))
        tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = WhitespaceSplit()
    else:
        options: Any = {"vocab_size": (size or 8_000) + len(_SPECIAL), "special_tokens": list(_SPECIAL)}
        options["show_progress"] = False
        model: Any = BPE(unk_token="[UNK]") if vocabulary == "bpe" else Unigram()  # noqa: S106
        trainer: Any = UnigramTrainer(unk_token="[UNK]", **options)  # noqa: S106
        if vocabulary == "bpe":
            trainer = BpeTrainer(min_frequency=2, **options)
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = Normalizers([NFKC(), Lowercase()])
        # A mark tells the beginning of a word from its middle.
        tokenizer.pre_tokenizer = PreTokenizers([WhitespaceSplit(), Metaspace(prepend_scheme="always")])
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
        tokenizer.train_from_iterator(texts, trainer)
    tokenizer.enable_truncation(length)
    return tokenizer


def encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[Encoding]:
    """The encoding of each text. One takes dozens of times the memory of its text, so there are never many at once."""
    for start in range(0, len(texts), 1_000):
        yield from tokenizer.encode_batch(list(texts[start : start + 1_000]))


def to_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Ids]:
    """Token ids of each text, truncated; a text without any word becomes one unknown word."""
    return [np.array(encoding.ids or [UNKNOWN], dtype=np.int64) for encoding in encoded(tokenizer, texts)]


def choose_length(tokenizer: Tokenizer, texts: Sequence[str], fraction: float = 0.98, most: int = 512) -> int:
    """The length in tokens that this fraction of the texts does not exceed, but at most `most`."""
    tokenizer.no_truncation()
    lengths = [len(encoding.ids) for encoding in encoded(tokenizer, texts)]
    return int(min(most, max(1, np.quantile(lengths, fraction))))


def train_tokenizer(
    texts: Sequence[str], settings: TokenSettings, path: Path, accelerator: Accelerator, resume: bool = False
) -> Tokenizer:
    """The tokenizer of the training texts, which truncates to the length that is set or that suits them.

    The main process trains it for all of them, and `resume` reads it back: trained again, parts of words may come out
    in another order.
    """
    trained = None
    if accelerator.is_main_process and resume and path.is_file():
        trained = Tokenizer.from_file(str(path))
    elif accelerator.is_main_process:
        size, kind = settings.words or None, settings.vocabulary or "words"
        trained = build_tokenizer(texts, size, 1, digits=settings.digits, vocabulary=kind)
        trained.enable_truncation(settings.length or choose_length(trained, texts))
        path.parent.mkdir(parents=True, exist_ok=True)
        trained.save(str(path))
    shared: Any = from_main(accelerator, trained)
    return shared
