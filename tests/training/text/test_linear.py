import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.svm import LinearSVC

from service.inference.cards import GoldenCard
from service.inference.session import Session
from training.export.calibration import Scaling
from training.export.graph import export
from training.text.learner import padded
from training.text.linear import WEIGHTS, LinearClassifier, choose_weight, decide, fit_linear
from training.text.network import TRANSLATIONS, TextGraph, TextNetwork
from training.text.options import NetworkSettings

WORDS = 30


def make_texts(classes, count=120, seed=0):
    """Token ids and their classes; words from 10 on are each typical of one class."""
    random = np.random.default_rng(seed)
    labels = np.concatenate((np.arange(classes), random.integers(classes, size=count - classes)))
    texts = []
    for label in labels:
        neutral = random.integers(1, 10, random.integers(1, 12))
        texts.append(random.permutation(np.append(neutral, 10 + label + classes * random.integers(3))))
    return texts, labels


@pytest.mark.parametrize("classes", [2, 3])
def test_texts_get_the_decisions_of_scikit_learn(classes):
    texts, labels = make_texts(classes)
    counts = np.zeros((len(texts), WORDS))
    for row, ids in enumerate(texts):
        np.add.at(counts[row], ids[ids > 1], 1)
    features = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    of_class = np.bincount(labels)
    weights = of_class**-0.5 * len(labels) / (of_class**0.5).sum()
    machine = LinearSVC(C=0.5, class_weight=dict(enumerate(weights)), random_state=0).fit(features, labels)
    wanted = machine.decision_function(features)
    found = decide(fit_linear(texts, labels, WORDS, classes), texts)
    assert found.shape == (len(texts), classes)
    np.testing.assert_allclose(found if classes > 2 else found[:, 1] - found[:, 0], wanted, atol=1e-4)
    assert (found.argmax(1) == labels).mean() > 0.95


def test_padding_and_unknown_words_do_not_count():
    texts, labels = make_texts(3)
    linear = fit_linear(texts, labels, WORDS, 3)
    plain, more = linear(torch.tensor([[5, 12, 12], [5, 12, 12]])), linear(torch.tensor([[1, 5, 12, 12, 1, 0, 0]]))
    torch.testing.assert_close(more[0], plain[0])
    torch.testing.assert_close(linear(torch.tensor([[1, 0]]))[0], linear.bias)


def test_the_weight_is_the_one_that_makes_the_labels_likeliest():
    random = np.random.default_rng(0)
    labels = random.integers(3, size=300)
    right = np.eye(3, dtype=np.float32)[labels]
    noise = random.normal(scale=0.4, size=(300, 3)).astype(np.float32)
    assert choose_weight(right + noise, random.normal(size=(300, 3)).astype(np.float32), labels) == 0
    assert choose_weight(0.01 * noise, right + noise, labels) == WEIGHTS[-1]
    other = random.normal(scale=0.4, size=(300, 3)).astype(np.float32)
    assert choose_weight(right + noise, (right + other) / 2, labels) == 2
    assert choose_weight(8 * (right + noise), (right + other) / 2, labels) == 12


def test_the_exported_graph_adds_the_votes(tmp_path):
    texts, labels = make_texts(3)
    torch.manual_seed(0)
    network, linear = (
        TextNetwork(WORDS, 3, NetworkSettings(embedding=8, hidden=6)).eval(),
        fit_linear(texts, labels, WORDS, 3),
    )
    batch = padded(texts[:16]).numpy()
    path = tmp_path / "topics.onnx"
    export(
        TextGraph(network, Scaling(1.5), linear, 2.0).eval(), batch, path, input_name="ids", output_names=("p",),
        max_batch=16, card=GoldenCard(rows=1, atol=1e-5), axes=("batch", "length"), translations=TRANSLATIONS,
    )  # fmt: skip
    logits = network(torch.from_numpy(batch)).detach() + 2 * torch.from_numpy(decide(linear, texts[:16]))
    (found,) = Session(path, "cpu").run({"ids": batch})
    np.testing.assert_allclose(found, torch.softmax(logits / 1.5, 1).numpy(), atol=1e-5)


def test_a_weight_of_0_leaves_the_classifier_out_of_the_graph():
    linear = LinearClassifier(*(np.ones(shape, np.float32) for shape in (WORDS, (WORDS, 3), 3)))
    assert TextGraph(TextNetwork(WORDS, 3, NetworkSettings()), Scaling(), linear, 0.0).linear is None
