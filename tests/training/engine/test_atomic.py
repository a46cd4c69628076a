import pytest

from training.engine.atomic import replacing


def test_a_file_is_replaced_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "x.txt"
    with replacing(path) as partial:
        partial.write_text("one")
        assert not path.exists()
    with replacing(path) as partial:
        partial.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert [*path.parent.iterdir()] == [path]


def test_an_interrupted_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("one")

    def write():
        with replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert path.read_text() == "one"
    assert [*tmp_path.iterdir()] == [path]
