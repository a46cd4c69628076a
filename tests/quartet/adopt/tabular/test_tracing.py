import pytest

from quartet.adopt.tabular.tracing import Facts, facts_of
from tests.quartet.adopt.tabular.pipelines import STRICT, SURVIVAL, TREE, WORDS, parse


def facts(text: str, *names: str, width: int = 1) -> list[Facts]:
    parts = {name: range(index * width, (index + 1) * width) for index, name in enumerate(names)}
    return facts_of(parse(text), parts)


def test_scalers_imputers_and_encoders_tell_about_their_columns():
    age, fare, sex, port = facts(SURVIVAL, "age", "fare", "sex", "port")
    assert (age.centre, fare.centre) == pytest.approx((50, 30))
    assert (age.spread, fare.spread) == pytest.approx((20, 10))
    assert (age.imputed, age.nullable) == (50, True)
    assert [*sex.words] == ["female", "male"]
    assert (sex.closed, sex.missing) == (False, None)
    # "nan" is how skl2onnx writes a missing value.
    assert [*port.words] == ["Busan", "Inchon"]
    assert port.missing == "nan"


def test_encoders_that_accept_no_other_word_close_their_column():
    deck, sex, age = facts(STRICT, "deck", "sex", "age")
    assert ([*deck.words], deck.closed) == ([3, 5, 8], True)
    assert ([*sex.words], sex.closed) == (["f", "m"], True)
    assert (age.words, age.closed, age.nullable) == ({}, False, False)


def test_thresholds_are_in_the_units_of_the_column():
    first, second = facts(TREE, "X", width=2)
    assert first.thresholds == pytest.approx([40, 60])
    assert second.thresholds == pytest.approx([5])
    assert first.nullable


def test_a_tree_that_was_trained_without_missing_values_does_not_take_them():
    text = TREE.replace("tracks_true: ints = [1,", "tracks_true: ints = [0,")
    assert not any(each.nullable for each in facts(text, "X", width=2))


def test_free_text_is_no_category():
    (review,) = facts(WORDS, "review")
    assert review.text
    assert not review.words


# How skl2onnx writes SimpleImputer(missing_values="") before a OneHotEncoder; columns are joined and taken apart.
IMPUTED = """
<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 2]>
pipeline (string[N,1] sex, string[N,1] port) => (float[N,1,2] answer)
  <int64[1] zero = {0}, int64[1] one = {1}, string[1] filling = {"Busan"}>
{
  merged = Concat <axis: int = 1> (sex, port)
  second = ai.onnx.ml.ArrayFeatureExtractor (merged, one)
  is_missing = ai.onnx.ml.LabelEncoder <default_int64: int = 0, keys_strings: strings = [""],
    values_int64s: ints = [1]> (second)
  missing = Cast <to: int = 9> (is_missing)
  filled = Where (missing, filling, second)
  again = Concat <axis: int = 1> (filled)
  taken = Gather <axis: int = 1> (again, zero)
  answer = ai.onnx.ml.OneHotEncoder <cats_strings: strings = ["Busan", "Inchon"], zeros: int = 1> (taken)
}
"""


def test_columns_are_followed_through_joins_and_imputers_of_words():
    sex, port = facts(IMPUTED, "sex", "port")
    assert (sex.words, sex.missing) == ({}, None)
    assert ([*port.words], port.missing, port.closed) == (["Busan", "Inchon"], "", False)
