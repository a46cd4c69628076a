import io

import pytest
from accelerate import Accelerator
from rich.console import Console

from tests.training.text.conftest import KOREAN, make_texts, write_csv
from training.data.splits import selection_of
from training.engine.settings import FitSettings
from training.text.data import load_texts
from training.text.options import NetworkSettings, TextSettings
from training.text.vocabulary import choose_vocabulary

NETWORK = NetworkSettings(embedding=8, hidden=8)
SETTINGS = FitSettings(epochs=1, batch_size=16, optimizer="adamw", lr=0.01)


@pytest.fixture
def choose(tmp_path):
    def run(data):
        console = Console(file=io.StringIO(), width=200)
        accelerator = Accelerator(cpu=True)
        kind = choose_vocabulary(NETWORK, data, SETTINGS, TextSettings(), tmp_path / "v.json", accelerator, console)
        return kind, console.file.getvalue()

    return run


def test_known_words_need_no_trial(tmp_path, choose):
    assert choose(load_texts(write_csv(tmp_path / "x.csv"))) == ("words", "")


def test_where_words_are_unknown_validation_chooses(tmp_path, choose):
    texts, labels = make_texts(KOREAN, 60, 0)
    endings = [f"{a}{b}" for a in "가는를도만에의로와서" for b in "요다네지군까고며라나"]
    lines = [
        " ".join(f"{word}{endings[(7 * i + j) % 100]}" for j, word in enumerate(t.split())) for i, t in enumerate(texts)
    ]
    (tmp_path / "x.csv").write_text(
        "\n".join(["text,label", *(f"{t},{c}" for t, c in zip(lines, labels, strict=True))])
    )
    data = load_texts(str(tmp_path / "x.csv"))
    kind, said = choose(data)
    assert kind in ("bpe", "unigram", "words")
    assert "of the words in the validation texts are unknown" in said
    assert all(f"vocabulary of {name}: validation accuracy" in said for name in ("words", "bpe", "unigram"))
    again, repeated = choose(data)
    assert again == kind
    assert "vocabulary of" not in repeated
    _, anew = choose(selection_of(data))
    assert "vocabulary of words: validation accuracy" in anew  # other texts measured it before
