import numpy as np
import pytest
import torch

from service.inference.cards import GoldenCard
from service.inference.session import Session
from service.tasks.text.reading import PAD, UNKNOWN
from tests.training.steps import loss_of
from training.export.calibration import Scaling
from training.export.graph import export
from training.text.learner import TextClassification, padded, predict
from training.text.network import TRANSLATIONS, TextGraph, TextNetwork
from training.text.options import LossSettings, NetworkSettings

LENGTHS = (1, 5, 2, 30, 5, 17, 1, 9)


def texts(lengths=LENGTHS, words=40, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(2, words, length) for length in lengths]


def make_network(**settings):
    return TextNetwork(40, 3, NetworkSettings(embedding=8, hidden=6, **settings))


@pytest.fixture(params=[(1, False), (3, True)])
def network(request):
    encoders, wide = request.param
    torch.manual_seed(0)
    network = make_network(encoders=encoders, wide=wide).eval()
    if wide:
        torch.nn.init.normal_(network.votes.weight[1:])
    return network


def test_padding_changes_nothing(network):
    together = predict(network, texts())
    for ids, logits in zip(texts(), together, strict=True):
        alone = network(torch.from_numpy(ids)[None]).detach().numpy()[0]
        np.testing.assert_allclose(alone, logits, atol=1e-6)
        longer = np.pad(ids, (0, 50))
        np.testing.assert_allclose(network(torch.from_numpy(longer)[None]).detach().numpy()[0], logits, atol=1e-6)


def test_both_ends_are_read(network):
    ids = torch.from_numpy(texts((12,))[0])[None]
    vectors = network.vectors(ids).detach().requires_grad_()
    for position in (0, 11):
        states = network.encoders[-1].states(vectors, torch.tensor([[12]]))
        (gradient,) = torch.autograd.grad(states[0, 11 - position].sum(), vectors)
        assert gradient[0, position].abs().sum() > 0


def test_the_exported_graph_agrees_at_every_batch_and_length(network, tmp_path):
    batch = padded(texts(LENGTHS * 8)).numpy()
    long = np.random.default_rng(1).integers(2, 40, (64, 90))
    path = tmp_path / "topics.onnx"
    inputs, outputs, worst = export(
        TextGraph(network, Scaling(1.3)), batch, path, input_name="ids", output_names=("p",), max_batch=64,
        card=GoldenCard(rows=1, atol=1e-5), axes=("batch", "length"), more=[batch[:, :1], long, long[:1]],
        translations=TRANSLATIONS,
    )  # fmt: skip
    assert worst.acceptable
    assert (inputs.dtype, inputs.shape, outputs[0].shape) == ("int64", (-1, -1), (-1, 3))
    session = Session(path, "cpu")
    (together,) = session.run({"ids": batch[:8]})
    for row, ids in enumerate(texts()):
        np.testing.assert_allclose(session.run({"ids": ids[None]})[0][0], together[row], atol=1e-6)


def make_task(**settings):
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 2])
    return TextClassification(texts(), labels, texts(), labels, 3, LossSettings(**settings))


def test_an_epoch_holds_every_text_once_and_those_of_one_length_together():
    lengths = np.random.default_rng(0).integers(1, 100, 700)
    task = TextClassification(texts(lengths), np.zeros(700, np.int64), [], np.zeros(0, np.int64), 2, LossSettings())
    order = task.order(torch.Generator().manual_seed(0), 16)
    assert sorted(order.tolist()) == list(range(700))
    batches = lengths[order[: 43 * 16].numpy()].reshape(43, 16)
    padding = (batches.max(1, keepdims=True) - batches).sum() / batches.sum()
    assert padding < 0.1
    assert not torch.equal(order, task.order(torch.Generator().manual_seed(1), 16))
    assert len(task.order(torch.Generator().manual_seed(0), 1000)) == 700


def test_words_are_dropped_and_padding_is_not():
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, ids):
            seen.append(ids)
            return torch.zeros(len(ids), 2, 3, requires_grad=True)

    loss_of(make_task(word_dropout=0.5), Spy(), torch.arange(8), seed=0)
    plain = padded(texts())
    assert torch.equal(seen[0] == PAD, plain == PAD)
    fraction = (seen[0] == UNKNOWN).sum() / (plain != PAD).sum()
    assert 0.3 < fraction < 0.7


def test_every_encoder_learns_by_itself_and_their_mean_answers():
    torch.manual_seed(0)
    network = make_network(dropout=0, encoders=3)
    ids = padded(texts())
    each = network(ids)
    assert each.shape == (8, 3, 3)
    torch.testing.assert_close(network.eval()(ids), each.mean(1))
    network.train()
    task = make_task(word_dropout=0, label_smoothing=0)
    loss, _ = loss_of(task, network, torch.arange(8))
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 2])
    expected = -each[torch.arange(8), :, labels].mean()
    torch.testing.assert_close(loss, expected)


def test_the_bag_of_words_layer_counts_words():
    network = make_network(wide=True).eval()
    before = network(torch.tensor([[5, 7, 7, 9]]))
    with torch.no_grad():
        network.votes.weight[7, 1] = 3.0
    after = network(torch.tensor([[5, 7, 7, 9], [7, 7, 5, 9]]))
    votes = torch.tensor([0.0, 2 * 3 / 4**0.5, 0.0])
    torch.testing.assert_close(after[0], torch.log_softmax(before[0] + votes, -1))


def test_balance_weighs_rare_classes_more_and_the_mean_stays():
    plain, balanced = make_task(balance=0.0), make_task(balance=1.0)
    assert plain._weights.tolist() == [1, 1, 1]
    assert balanced._weights[1] == pytest.approx(6 * balanced._weights[0].item())
    counts = torch.tensor([6.0, 1, 1])
    assert (balanced._weights * counts).sum() == pytest.approx(8)
