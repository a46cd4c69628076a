import numpy as np
import pytest
import torch

from tests.training.detection.conftest import tiny
from training.detection.network import BINS, Detector, decode, grid


def test_points_are_the_centres_of_the_cells_at_every_stride():
    points, strides = grid((64, 96))
    assert points.shape == (8 * 12 + 4 * 6 + 2 * 3, 2)
    np.testing.assert_array_equal(points[:2], [[4, 4], [12, 4]])
    np.testing.assert_array_equal(points[96], [8, 8])
    np.testing.assert_array_equal(points[-1], [80, 48])
    assert strides.squeeze(1).unique(return_counts=True)[1].tolist() == [96, 24, 6]


def test_edges_are_the_mean_of_their_distribution_in_strides():
    edges = torch.full((1, 2, 4, BINS), -30.0)
    edges[0, 0, :, 2] = 30  # two strides each way
    edges[0, 1, :, 0] = edges[0, 1, :, 1] = 30  # half a stride each way
    boxes = decode(edges.flatten(2), torch.tensor([[20.0, 30.0], [50.0, 60.0]]), torch.tensor([[8.0], [16.0]]))
    torch.testing.assert_close(boxes[0], torch.tensor([[4.0, 14, 36, 46], [42, 52, 58, 68]]))


def test_outputs_have_a_row_for_every_cell(tiny_detector):
    network = tiny_detector().eval()
    logits, edges = network(torch.rand(3, 3, 64, 96))
    assert logits.shape == (3, 126, 2)
    assert edges.shape == (3, 126, 4 * BINS)
    assert decode(edges, network.points, network.strides).shape == (3, 126, 4)
    # Before training, scores are about a hundredth everywhere.
    assert logits.sigmoid().max() < 0.2


def test_every_cell_depends_on_the_whole_image(tiny_detector):
    """The pyramid has a top-down and a bottom-up path: the cell at one corner depends on the pixels at the other."""
    network = tiny_detector().eval()
    pixels = torch.rand(1, 3, 64, 96, requires_grad=True)
    network(pixels)[0][0, 0].sum().backward()
    assert (pixels.grad[0, :, -8:, -8:] != 0).any()


def test_sizes_and_backbones_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        Detector(tiny(), (60, 96), 2)
    with pytest.raises(ValueError, match=r"strides \[4, 8, 16, 32\]|are needed|prune"):
        Detector(tiny(backbone="test_vit"), (64, 96), 2)


def test_same_seed_same_weights(tiny_detector):
    one, two = tiny_detector(seed=3).state_dict(), tiny_detector(seed=3).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_frozen_groups_keep_weights_and_statistics():
    network = Detector(tiny(freeze=2), (64, 96), 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    logits, edges = network.train()(torch.rand(2, 3, 64, 96))
    (logits.mean() + edges.square().mean()).backward()
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    early = ("backbone.conv_stem", "backbone.bn1", "backbone.blocks.0.")
    assert not [name for name in changed if name.startswith(early)]
    assert [name for name in changed if name.startswith("backbone.blocks.1.")]


def test_recomputed_activations_give_the_same_gradients_and_statistics():
    pixels, states = torch.rand(2, 3, 64, 96), []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = Detector(tiny(recompute=recompute), (64, 96), 2).train()
        logits, box_logits = network(pixels)
        (logits.mean() + box_logits.square().mean()).backward()
        gradients = {f"gradient of {name}": each.grad for name, each in network.named_parameters()}
        states.append({**network.state_dict(), **gradients})
    for name, value in states[0].items():
        if not name.endswith("num_batches_tracked"):  # counts the second pass, and nothing reads it
            torch.testing.assert_close(value, states[1][name], msg=name)
