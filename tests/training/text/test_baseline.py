import numpy as np

from tests.training.text.conftest import write_parquet
from training.text import baseline as module
from training.text.baseline import fit_baseline
from training.text.data import load_texts


def test_it_is_fitted_on_train_and_measured_on_the_other_splits(source):
    data = load_texts(source)
    baseline = fit_baseline(data)
    assert (baseline.figure, baseline.items, baseline.starts) == ("accuracy", len(data.train), False)
    assert "sample" not in baseline.name
    assert 0.9 < baseline.validation <= 1
    assert 0.9 < baseline.test() <= 1


def test_a_large_set_is_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_CHARACTERS", 0)
    data = load_texts(write_parquet(tmp_path / "data", train=1500, test=40))
    baseline = fit_baseline(data)
    assert baseline.items == 1000
    assert baseline.name.endswith("on a sample")


def test_texts_without_letters_are_texts(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text,label\n" + "!!!,a\n8.5,b\n" * 20)
    assert np.isfinite(fit_baseline(load_texts(str(path))).test())
