import random

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from service.tasks.text.reading import UNKNOWN, _parts, read_text


@pytest.fixture
def tokenizer():
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "cat": 2, "dog": 3}, "[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    return tokenizer


@pytest.mark.parametrize("length", [10, 30_000])
def test_a_long_text_is_tokenised_as_if_in_one_piece(tokenizer, length):
    drawn = random.Random(0)
    text = " ".join(drawn.choice(["Cat", "dog", "bird", "猫"]) for _ in range(12_000)) + "\n\n" + "x" * 35_000 + " dog"
    whole = tokenizer.encode(text)
    reading = read_text(tokenizer, text, length)
    assert reading.ids.tolist() == whole.ids[:length]
    assert reading.offsets == tuple(whole.offsets[:length])
    assert (reading.tokens, reading.cut_off) == (min(length, len(whole.ids)), max(0, len(whole.ids) - length))
    assert reading.unknown == whole.ids[:length].count(UNKNOWN)


def test_of_a_long_text_only_a_beginning_is_tokenised(tokenizer):
    tokenised = []

    class Counting:
        def encode_batch(self, parts):
            tokenised.extend(parts)
            return tokenizer.encode_batch(parts)

    reading = read_text(Counting(), "cat, dog. " * 50_000, 10)
    assert (reading.tokens, sum(map(len, tokenised))) == (10, pytest.approx(20_000, rel=0.01))
    assert reading.cut_off == pytest.approx(100_000, rel=0.1)
    tokenised.clear()
    reading = read_text(Counting(), "x" * 1_000_000 + " cat", 10)  # no word ends
    assert sum(map(len, tokenised)) <= 140_000
    assert (reading.tokens, reading.unknown) == (3, 3)


def test_a_text_without_words_is_one_unknown_token(tokenizer):
    reading = read_text(tokenizer, "   ", 5)
    assert (reading.ids.tolist(), reading.tokens, reading.cut_off) == ([UNKNOWN], 0, 0)


@pytest.mark.parametrize("text", ["a." * 60_000, "新聞" * 60_000, " " * 90_000 + "x", "word " * 20_000 + "y" * 70_000])
def test_parts_are_bounded_and_lose_nothing(text):
    parts = list(_parts(text))
    assert "".join(part for _, part in parts) == text
    assert all(text[start : start + len(part)] == part for start, part in parts)
    assert max(len(part) for _, part in parts) <= 40_000
