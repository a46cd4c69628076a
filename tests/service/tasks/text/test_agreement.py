"""Agreement of text classifiers: their items are token ids, so both must read the same words."""

import pytest

from service.tasks.agreement import Incomparable, check_comparable
from service.tasks.text.manifest import TOKENIZER
from tests.golden_rows import committed


def test_versions_that_read_other_words_cannot_be_compared():
    model = committed("topics")
    other = model.manifest.model_copy(update={"files": {**model.manifest.files, TOKENIZER: "0" * 64}})
    with pytest.raises(Incomparable, match="tokenizers differ"):
        check_comparable(model.task, model.manifest, other)


def test_a_candidate_that_reads_fewer_words_cannot_be_compared():
    model = committed("topics")
    shorter = model.manifest.model_copy(update={"max_length": 100})
    with pytest.raises(Incomparable, match="the candidate reads 100 words of a text, the default 512"):
        check_comparable(model.task, model.manifest, shorter)
    check_comparable(model.task, shorter, model.manifest)


def test_a_result_says_how_much_was_read():
    model = committed("topics")
    result = model.task.agreement.result(model.manifest, model.items[0], model.rows[0])
    assert result["tokens"] == len(model.items[0])
    assert 0 <= result["unknown"] < result["tokens"]
