import numpy as np
import pytest
import torch

from service.inference.cards import GoldenCard
from service.inference.session import Session
from service.tasks.tabular.columns import LARGEST, ColumnCard
from training.export.graph import export
from training.tabular.boosting import Boosting, fit_default, fit_mean
from training.tabular.data import TabularSplit
from training.tabular.trees import Trees, _floor

CITIES = ("Seoul", "Busan", "Jeju", "Daegu")
LAYOUT = [
    ColumnCard(name="age", mean=0),
    ColumnCard(name="city", kind="category", values=CITIES),
    ColumnCard(name="income", mean=0),
    ColumnCard(name="street", kind="category", values=tuple(map(str, range(300)))),
]


def table(count=400, classes=3, seed=0):
    """Rows with missing values and unknown words, and targets that depend on all columns."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, 2)) * (1, 1e5)
    words = random.integers(-1, len(CITIES), count), random.integers(-1, 300, count)
    rows = np.stack((numbers[:, 0], words[0], numbers[:, 1], words[1]), axis=1).astype(np.float32)
    signal = numbers[:, 0] + np.array([0.5, -1, 2, 0, 1])[words[0]] + numbers[:, 1] / 1e5 + words[1] / 300
    rows[random.random(rows.shape) < 0.1] = np.nan
    if not classes:
        return TabularSplit(rows, (1000 * signal).astype(np.float32))
    return TabularSplit(rows, np.digitize(signal, np.quantile(signal, np.linspace(0, 1, classes + 1)[1:-1])))


def foreign(split):
    """The rows, with further words and missing values that no training row had."""
    random, rows = np.random.default_rng(1), split.rows.copy()
    rows[random.random(len(rows)) < 0.3, 1] = -1
    rows[random.random(rows.shape) < 0.2] = np.nan
    rows[0], rows[1] = np.nan, (1e30, 3, -1e30, 299)
    return np.concatenate((split.rows, rows))


def raw(boosting, rows):
    """What scikit-learn predicts."""
    values = np.mean([model._raw_predict(rows) for model in boosting.models], 0)
    return np.concatenate((np.zeros_like(values), values), 1) if boosting.classes == 2 else values


@pytest.mark.parametrize("classes", [0, 2, 3])
def test_graph_and_module_equal_scikit_learn(tmp_path, classes):
    split = table(classes=classes)
    boosting = fit_mean(split, LAYOUT, classes).first(30)
    trees, rows = Trees(boosting.models, classes or 1), foreign(split)
    want = raw(boosting, rows)
    np.testing.assert_allclose(trees(torch.from_numpy(rows)).numpy(), want, atol=1e-5)
    names = {"input_name": "rows", "output_names": ("raw",)}
    card = GoldenCard(rows=1, atol=1e-5)
    export(trees, rows[:64], tmp_path / "x.onnx", max_batch=64, card=card, translations=trees.translations, **names)
    session = Session(tmp_path / "x.onnx", "cpu")
    np.testing.assert_allclose(session.run({"rows": rows})[0], want, atol=1e-5)
    alone = np.concatenate([session.run({"rows": rows[index : index + 1]})[0] for index in range(20)])
    np.testing.assert_allclose(alone, want[:20], atol=1e-5)


def test_default_boosting_is_the_one_of_scikit_learn():
    split = table(classes=2)
    boosting = fit_default(split, LAYOUT, 2)
    (model,) = boosting.models
    assert (model.learning_rate, model.n_iter_) == (0.1, 100)
    np.testing.assert_allclose(boosting.answers(split.rows), model.predict_proba(split.rows), atol=1e-9)


def test_stages_are_the_answers_of_fewer_iterations():
    split = table(classes=0)
    boosting = fit_mean(split, LAYOUT, 0)
    stages = boosting.first(30).stages(split.rows)
    assert sorted(stages) == [10, 20, 30]
    np.testing.assert_allclose(stages[20], boosting.first(20).answers(split.rows))
    assert boosting.models[0].n_iter_ == 200


def test_a_class_without_rows_is_unlikely():
    split = table(classes=2)
    answers = Boosting.fit(split, LAYOUT, 3, max_iter=5).answers(split.rows)
    assert answers[:, 2].max() < 1e-4
    logits = Trees(Boosting.fit(split, LAYOUT, 3, max_iter=5).models, 3)(torch.from_numpy(split.rows))
    np.testing.assert_allclose(logits.softmax(1).numpy(), answers, atol=1e-6)


def test_a_model_without_a_split_is_a_constant(tmp_path):
    split = TabularSplit(np.zeros((50, 4), np.float32), np.arange(50) % 2)
    trees = Trees(fit_default(split, LAYOUT, 2).models, 2)
    np.testing.assert_allclose(trees(torch.zeros(3, 4)).numpy(), np.zeros((3, 2)), atol=1e-6)
    names = {"input_name": "rows", "output_names": ("raw",)}
    export(trees, split.rows[:4], tmp_path / "x.onnx", max_batch=9, card=GoldenCard(rows=1, atol=1e-5), **names)
    assert Session(tmp_path / "x.onnx", "cpu").run({"rows": split.rows})[0].shape == (50, 2)


def test_thresholds_are_rounded_down():
    for threshold in (0.1, -0.1, 1e300, -1e-50, 16777217.0):
        rounded = _floor(threshold)
        assert float(rounded) <= threshold
        assert rounded == LARGEST or float(np.nextafter(rounded, np.float32(np.inf))) > threshold
