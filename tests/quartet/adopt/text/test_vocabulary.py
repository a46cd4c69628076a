import json

import pytest
from tokenizers import Tokenizer, processors

from quartet.adopt.graph import CannotAdopt
from quartet.adopt.text.vocabulary import read_json, read_vocabulary
from service.tasks.text.reading import PAD, UNKNOWN, read_text
from tests.quartet.adopt.text import tokenizers


@pytest.mark.parametrize("make", [tokenizers.wordpiece, tokenizers.byte_level, tokenizers.unigram, tokenizers.words])
def test_served_ids_stand_for_the_tokens_of_the_original(tmp_path, make):
    original = make()
    original.enable_truncation(9)
    original.enable_padding()
    original.save(str(tmp_path / "tokenizer.json"))
    vocabulary = read_vocabulary(tmp_path / "tokenizer.json", {})
    assert vocabulary.limit == 9
    original.no_truncation()
    original.no_padding()
    # The served tokenizer is written to a file and read again.
    served = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    unknown = {original.token_to_id("[UNK]"), original.token_to_id("<unk>")}
    for text in tokenizers.TEXTS:
        whole, plain = (original.encode(text, add_special_tokens=added).ids for added in (True, False))
        ids = served.encode(text).ids
        assert [vocabulary.own_ids[each] for each in ids] == plain
        assert [*vocabulary.before, *plain, *vocabulary.after] == whole
        # Padding stays apart from the token that a text may hold.
        assert PAD not in ids
        if vocabulary.neutral is None:
            assert ids.count(UNKNOWN) == sum(each in unknown for each in plain)
        else:
            assert UNKNOWN not in ids


def test_what_is_special_is_told(tmp_path):
    found = {}
    for make in (tokenizers.wordpiece, tokenizers.byte_level, tokenizers.words):
        make().save(str(tmp_path / "tokenizer.json"))
        found[make.__name__] = read_vocabulary(tmp_path / "tokenizer.json", {"max_position_embeddings": 12})
    bert, roberta, words = found.values()
    assert (bert.before, bert.after, bert.added, bert.own_ids[PAD], bert.own_ids[UNKNOWN]) == ((0,), (2,), 2, 1, 3)
    assert (bert.neutral, bert.limit) == (None, 12)
    # Bytes know every text, so that the mask stands for a word that is left out.
    assert (roberta.neutral, roberta.own_ids[UNKNOWN]) == ("<mask>", 4)
    assert (words.before, words.after, words.own_ids[PAD], words.own_ids[UNKNOWN]) == ((), (), 3, 0)


def test_the_offsets_of_bytes_leave_out_the_space(tmp_path):
    tokenizers.byte_level().save(str(tmp_path / "tokenizer.json"))
    served = read_vocabulary(tmp_path / "tokenizer.json", {}).tokenizer
    text = "The quick dog"
    words = [text[start:end] for start, end in read_text(served, text, 20).offsets]
    assert words[0] == "The"
    assert all(word == word.strip() for word in words)


def test_the_padding_of_the_config_counts(tmp_path):
    tokenizers.wordpiece().save(str(tmp_path / "tokenizer.json"))
    assert read_vocabulary(tmp_path / "tokenizer.json", {"pad_token_id": 4}).own_ids[PAD] == 4


def test_files_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(CannotAdopt, match=r"cannot be read as a tokenizer\.json"):
        read_vocabulary(path, {})
    path.write_text("[]")
    with pytest.raises(CannotAdopt, match="is no JSON object"):
        read_json(path)
    assert read_json(tmp_path / "none.json") == {}
    # XLNet gives tokens another type at the end.
    tokenizer = tokenizers.wordpiece()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A:0 [CLS]:2", special_tokens=[("[CLS]", 0)])
    tokenizer.save(str(path))
    with pytest.raises(CannotAdopt, match="special tokens before and after a text cannot be told"):
        read_vocabulary(path, {})
    assert json.loads(path.read_text())["post_processor"]
