import pytest

from quartet.adopt.graph import CannotAdopt
from quartet.adopt.labels import labels_of, parse


@pytest.mark.parametrize(
    "text",
    [
        "{0: 'a b', 1: 'c'}",  # Ultralytics
        '{"0": "a b", "1": "c"}',  # Hugging Face
        '{"model_type": "vit", "id2label": {"1": "c", "0": "a b"}}',
        '{"0": ["n01", "a b"], "1": ["n02", "c"]}',  # the class index of ImageNet
        '["a b", "c"]',
        "a b\nc\n",  # Paddle's converter
        "a b,c",
    ],
)
def test_labels_as_exporters_write_them(text):
    assert parse(text) == ("a b", "c")


@pytest.mark.parametrize("text", ["", "\n", "{1: 'a', 2: 'b'}", "[]"])
def test_no_labels(text):
    assert parse(text) == ()


def test_labels_of_the_metadata_unless_a_file_is_given(tmp_path):
    metadata = {"author": "me", "names": "{0: 'cat', 1: 'dog'}"}
    assert labels_of(None, metadata) == (("cat", "dog"), "names in the file's metadata")
    path = tmp_path / "labels.txt"
    path.write_text("\ufeff0\n90\r\n180\n\n")
    assert labels_of(path, metadata) == (("0", "90", "180"), "labels.txt")


def test_a_label_that_occurs_twice_gets_its_index(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("crane\nheron\ncrane\n")
    assert labels_of(path, {})[0] == ("crane", "heron", "crane (2)")


def test_missing_labels_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(CannotAdopt, match="give --labels FILE"):
        labels_of(None, {"author": "me"})
    with pytest.raises(CannotAdopt, match="cannot be read: No such file"):
        labels_of(tmp_path / "none.txt", {})
    path = tmp_path / "labels.txt"
    for content, message in (("", "holds no labels"), ("a\n\nb", "line 2 is empty")):
        path.write_text(content)
        with pytest.raises(CannotAdopt, match=message):
            labels_of(path, {})
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CannotAdopt, match="not UTF-8"):
        labels_of(path, {})
