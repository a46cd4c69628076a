import numpy as np
import pytest
from tokenizers import Tokenizer

from service.tasks.text.reading import PAD, UNKNOWN, influence, read_text, without_each
from training.text.tokenizer import build_tokenizer, choose_length, to_ids

TEXTS = ["oil prices rose", "oil prices fell", "wheat prices rose", "oil oil"]


def test_a_raw_article_is_tokenised_as_in_training():
    tokenizer = build_tokenizer(TEXTS, None, 100)
    raw = tokenizer.encode("OIL-prices rose 3.5% (U.S.)")
    assert raw.tokens == ["oil", "prices", "rose", "[UNK]", "[UNK]"]
    assert raw.ids[:3] == tokenizer.encode("oil prices rose").ids
    assert tokenizer.token_to_id("[PAD]") == PAD
    assert tokenizer.token_to_id("[UNK]") == UNKNOWN


def test_the_most_frequent_words_are_kept():
    tokenizer = build_tokenizer(TEXTS, 2, 100)
    assert tokenizer.get_vocab_size() == 4
    assert tokenizer.encode("oil prices rose").tokens == ["oil", "prices", "[UNK]"]


def test_the_same_texts_make_the_same_vocabulary():
    one, two = (build_tokenizer(texts, None, 9).to_str() for texts in (TEXTS, list(reversed(TEXTS))))
    assert one == two


def test_korean_words_and_digits_that_are_kept():
    tokenizer = build_tokenizer(["영화가 정말 재미있다!", "최고의 영화가 아니다"], None, 100)
    assert tokenizer.encode("영화가, 정말...").tokens == ["영화가", "정말"]
    kept = build_tokenizer(["boeing 747 lands"], None, 100, digits=True)
    assert kept.encode("Boeing 747!").tokens == ["boeing", "747"]


def test_ids_are_truncated_and_never_empty():
    tokenizer = build_tokenizer(TEXTS, None, 2)
    ids = to_ids(tokenizer, ["oil prices rose", "!!!"])
    assert [len(one) for one in ids] == [2, 1]
    assert ids[1].tolist() == [UNKNOWN]
    assert all(one.dtype == np.int64 for one in ids)


def test_the_length_is_one_that_nearly_all_texts_stay_below():
    texts = ["a " * length for length in range(1, 101)]
    assert choose_length(build_tokenizer(texts, None, 1), texts, fraction=0.9) == pytest.approx(90, abs=1)
    assert choose_length(build_tokenizer(texts, None, 1), texts, fraction=1.0, most=50) == 50


def test_serving_loads_the_saved_tokenizer(tmp_path):
    build_tokenizer(TEXTS, None, 3).save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.no_truncation()
    text = "Oil? Gold prices rose: wheat!"
    reading = read_text(tokenizer, text, 3)
    assert (reading.tokens, reading.unknown, reading.cut_off) == (3, 1, 2)
    assert [text[start:end] for start, end in reading.offsets] == ["Oil", "Gold", "prices"]
    empty = read_text(tokenizer, "?!", 3)
    assert (empty.tokens, empty.ids.tolist()) == (0, [UNKNOWN])


def test_influence_is_the_drop_in_log_odds_of_the_likeliest_label():
    tokenizer = build_tokenizer(TEXTS, None, 9)
    text = "Oil prices"
    reading = read_text(tokenizer, text, 9)
    variants = without_each(reading.ids)
    assert [(one == UNKNOWN).tolist() for one in variants] == [[True, False], [False, True]]
    words = influence(text, reading, np.array([0.2, 0.8]), np.array([[0.9, 0.1], [0.25, 0.75]]))
    assert words == [
        {"word": "Oil", "start": 0, "weight": 3.5835, "known": True},
        {"word": "prices", "start": 4, "weight": 0.2877, "known": True},
    ]


@pytest.mark.parametrize("vocabulary", ["bpe", "unigram"])
def test_parts_of_words_are_known_in_words_that_no_text_had(vocabulary):
    texts = ["영화가 정말 재미있다!", "최고의 영화였다", "이 영화는 재미있었다", "영화를 보았다"] * 5
    tokenizer = build_tokenizer(texts, 60, 20, vocabulary=vocabulary)
    assert (tokenizer.token_to_id("[PAD]"), tokenizer.token_to_id("[UNK]")) == (PAD, UNKNOWN)
    text = "영화에서 재미있는"
    ids = to_ids(tokenizer, [text, " "])
    assert ids[0][0] == tokenizer.token_to_id("\u2581영화")
    assert ids[1].tolist() == [UNKNOWN]
    (words,) = to_ids(build_tokenizer(texts, None, 20), [text])
    assert (ids[0] == UNKNOWN).mean() < 0.5 < (words == UNKNOWN).mean()
    tokenizer.no_truncation()
    reading = read_text(tokenizer, text, 100)
    assert next(text[start:end] for start, end in reading.offsets) == "영화"


@pytest.mark.parametrize("vocabulary", ["bpe", "unigram"])
def test_parts_include_digits_and_punctuation(vocabulary):
    texts = ["3.5 :-) oil", "call 08001 !!!", "wheat :-) 3.5"] * 5
    tokenizer = build_tokenizer(texts, 60, 20, vocabulary=vocabulary)
    ids = to_ids(tokenizer, ["!!!", "8.5", ":-)", "\u2603"])
    assert all(UNKNOWN not in one for one in ids[:3])
    assert tokenizer.decode(to_ids(tokenizer, ["Oil 3.5 :-)"])[0]) == "oil 3.5 :-)"
    assert UNKNOWN in ids[3]
