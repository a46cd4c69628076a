import numpy as np
import onnx
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.svm import LinearSVC

from service.inference.cards import GoldenCard
from service.inference.session import Session
from service.tasks.text.reading import UNKNOWN
from training.export.calibration import Scaling
from training.export.graph import export
from training.export.layers import penultimate
from training.export.quantize import write_float16
from training.text import linear as linear_module
from training.text.learner import padded
from training.text.linear import (
    LINEAR_ALONE,
    NETWORK_ALONE,
    WEIGHTS,
    Votes,
    choose_votes,
    count_n_grams,
    decide,
    fit_linear,
    held_out_accuracy,
)
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


def runs(ids):
    """The runs of up to three known tokens, as words of a text that scikit-learn divides at spaces."""
    return [
        "_".join(map(str, ids[start : start + order]))
        for order in range(1, 4)
        for start in range(len(ids) - order + 1)
        if min(ids[start : start + order]) > UNKNOWN
    ]


@pytest.mark.parametrize("classes", [2, 3])
def test_texts_get_the_decisions_of_scikit_learn(classes):
    texts, labels = make_texts(classes)
    vectorizer = CountVectorizer(analyzer=runs)
    counts = vectorizer.fit_transform(texts)
    single = np.array(["_" not in name for name in vectorizer.get_feature_names_out()])
    counts = counts[:, single | ((counts > 0).sum(0).A1 > 1)]
    features = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    of_class = np.bincount(labels)
    weights = of_class**-0.5 * len(labels) / (of_class**0.5).sum()
    machine = LinearSVC(C=0.5, class_weight=dict(enumerate(weights)), random_state=0).fit(features, labels)
    wanted = machine.decision_function(features)
    found = decide(fit_linear(texts, labels, WORDS, classes, 3), texts)
    assert found.shape == (len(texts), classes)
    # Votes are stored in half precision.
    np.testing.assert_allclose(found if classes > 2 else found[:, 1] - found[:, 0], wanted, atol=2e-3)
    assert (found.argmax(1) == labels).mean() > 0.95


def test_padding_and_unknown_words_do_not_count():
    texts, labels = make_texts(3)
    linear = fit_linear(texts, labels, WORDS, 3, 3)
    plain, more = linear(torch.tensor([[5, 12, 12], [5, 12, 12]])), linear(torch.tensor([[1, 5, 12, 12, 1, 0, 0]]))
    torch.testing.assert_close(more[0], plain[0])
    torch.testing.assert_close(linear(torch.tensor([[1, 0]]))[0], linear.bias)


def test_a_run_of_tokens_has_the_same_key_wherever_it_stands_and_none_across_texts():
    counts = count_n_grams([np.array([5, 6, 7]), np.array([9, 5, 6, 7]), np.array([5]), np.array([6, 1, 7])], WORDS, 3)
    assert counts.sum(1).A1.tolist() == [6, 9, 1, 2]
    present = (counts > 0).toarray()
    assert (present[0] & ~present[1]).sum() == 0
    assert present[:, 5].tolist() == [True, True, True, False]


def test_the_order_of_words_tells_classes_apart():
    random = np.random.default_rng(0)
    labels = random.integers(2, size=200)
    texts = [np.append(random.permutation(np.arange(4, 9)), (2, 3) if label else (3, 2)) for label in labels]
    assert held_out_accuracy(texts, labels, WORDS, 2, 2) > 0.95


def test_the_rarest_runs_do_not_vote_beyond_the_most(monkeypatch):
    texts, labels = make_texts(3)
    monkeypatch.setattr(linear_module, "_MOST_VOTES", 12)
    linear = fit_linear(texts, labels, WORDS, 3, 3)
    assert linear.votes.shape == (1 + 4, 3)
    assert decide(linear, texts).shape == (len(texts), 3)


def test_texts_without_known_tokens_are_decided_by_the_bias():
    texts, labels = [np.array([UNKNOWN])] * 20, np.arange(20) % 3
    decisions = decide(fit_linear(texts, labels, WORDS, 3, 2), texts)
    assert np.isfinite(decisions).all()
    assert held_out_accuracy(texts, labels, WORDS, 3, 2) < 0.5


def test_the_weight_is_the_one_that_makes_the_labels_likeliest():
    random = np.random.default_rng(0)
    labels = random.integers(3, size=300)
    right = np.eye(3, dtype=np.float32)[labels]
    noise = random.normal(scale=0.4, size=(300, 3)).astype(np.float32)
    assert choose_votes(right + noise, random.normal(size=(300, 3)).astype(np.float32), labels) == NETWORK_ALONE
    assert choose_votes(0.01 * noise, right + noise, labels) in (LINEAR_ALONE, Votes(linear=WEIGHTS[-1]))
    other = random.normal(scale=0.4, size=(300, 3)).astype(np.float32)
    assert choose_votes(right + noise, (right + other) / 2, labels) == Votes(linear=2)
    assert choose_votes(8 * (right + noise), (right + other) / 2, labels) == Votes(linear=12)


@pytest.mark.parametrize("scales", [(20, 0.01), (0.01, 20)])
def test_the_sum_is_never_less_accurate_than_either_alone(scales):
    labels = np.arange(40) % 2
    right = np.eye(2, dtype=np.float32)[labels]
    wrong_at_times = np.eye(2, dtype=np.float32)[np.where(np.arange(40) < 4, 1 - labels, labels)]
    of_network, of_linear = scales
    accurate_linear = of_network * wrong_at_times, of_linear * right
    accurate_network = of_network * right, of_linear * wrong_at_times
    for logits, decisions in (accurate_linear, accurate_network):
        votes = choose_votes(logits, decisions, labels)
        assert (votes(logits, decisions).argmax(1) == labels).all()


@pytest.mark.parametrize("votes", [Votes(linear=2.0), LINEAR_ALONE])
def test_the_exported_graph_adds_the_votes(tmp_path, votes):
    texts, labels = make_texts(3)
    torch.manual_seed(0)
    network, linear = (
        TextNetwork(WORDS, 3, NetworkSettings(embedding=8, hidden=6)).eval(),
        fit_linear(texts, labels, WORDS, 3, 3),
    )
    batch = padded(texts[:16]).numpy()
    path = tmp_path / "topics.onnx"
    export(
        TextGraph(network, Scaling(1.5), linear, votes).eval(), batch, path, input_name="ids", output_names=("p",),
        max_batch=16, card=GoldenCard(rows=1, atol=1e-5), axes=("batch", "length"), translations=TRANSLATIONS,
    )  # fmt: skip
    logits = torch.from_numpy(votes(network(torch.from_numpy(batch)).detach().numpy(), decide(linear, texts[:16])))
    (found,) = Session(path, "cpu").run({"ids": batch})
    np.testing.assert_allclose(found, torch.softmax(logits / 1.5, 1).numpy(), atol=1e-5)
    # The out-of-distribution score reads the network's features also where the linear classifier answers alone.
    assert len(penultimate(onnx.load(path))) == 1
    write_float16(path, tmp_path / "half.onnx")
    (halved,) = Session(tmp_path / "half.onnx", "cpu").run({"ids": batch})
    np.testing.assert_allclose(halved, found, atol=0.01)


def test_a_weight_of_0_leaves_the_classifier_out_of_the_graph():
    linear = fit_linear(*make_texts(3), WORDS, 3, 2)
    assert TextGraph(TextNetwork(WORDS, 3, NetworkSettings()), Scaling(), linear, NETWORK_ALONE).linear is None
