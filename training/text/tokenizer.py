"""From text to token ids: a pipeline that is saved beside the model, so that the service tokenises as training did."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import NFKC, Lowercase, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import WhitespaceSplit

from service.tasks.text.reading import PAD, UNKNOWN

_SPECIAL = {"[PAD]": PAD, "[UNK]": UNKNOWN}


def build_tokenizer(texts: Iterable[str], size: int | None, length: int, *, digits: bool = False) -> Tokenizer:
    """A word-level tokenizer of the most frequent words.

    Words are runs of letters (and combining marks, as in Korean and Hindi) in lower case; everything else separates
    them: punctuation and, unless they are kept, digits.

    Args:
        texts: of the training split.
        size: the most words; None for all.
        length: the number of words that texts are truncated to.
        digits: whether digits belong to words.
    """
    keep = r"[^\p{L}\p{M}\p{N}]+" if digits else r"[^\p{L}\p{M}]+"
    normalizer = Normalizers([NFKC(), Lowercase(), Replace(Regex(keep), " ")])
    counts = Counter(word for text in texts for word in normalizer.normalize_str(text).split())
    # Words of the same frequency in alphabetical order, so that the same texts give the same vocabulary.
    words = sorted(counts, key=lambda word: (-counts[word], word))[:size]
    tokenizer = Tokenizer(WordLevel({**_SPECIAL, **{w: i + len(_SPECIAL) for i, w in enumerate(words)}}, "[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.enable_truncation(length)
    return tokenizer


def to_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
    """Token ids of each text, truncated; a text without any word becomes one unknown word."""
    return [np.array(encoding.ids or [UNKNOWN], dtype=np.int64) for encoding in tokenizer.encode_batch(list(texts))]


def choose_length(tokenizer: Tokenizer, texts: Sequence[str], share: float = 0.98, most: int = 512) -> int:
    """The length in words that this share of the texts does not exceed, but at most `most`."""
    tokenizer.no_truncation()
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]
    return int(min(most, max(1, np.quantile(lengths, share))))
