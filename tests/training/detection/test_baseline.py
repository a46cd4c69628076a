import torch

from service.tasks.detection.manifest import Suppression
from training.detection.baseline import CellModel, distributions, fit_baseline
from training.detection.evaluation import average_precision
from training.detection.learner import detect
from training.detection.network import decode

SUPPRESSION = Suppression(iou=0.6, floor=0.01, max_detections=50)


def test_the_baseline_finds_more_than_an_untrained_network_and_does_not_change_with_it(tiny_detector, squares):
    network = tiny_detector()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    baseline = fit_baseline(network, squares, SUPPRESSION, "test_efficientnet")
    assert (baseline.figure, baseline.items, baseline.starts) == ("map", 48, False)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    untrained = average_precision(detect(network.eval(), squares.choice, SUPPRESSION), squares.choice, squares.classes)
    assert baseline.validation > untrained.map
    again = fit_baseline(network, squares, SUPPRESSION, "test_efficientnet")
    assert again.validation == baseline.validation
    test = baseline.test()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert baseline.test() == test > 0


def test_the_edges_of_a_cell_are_those_of_its_object(tiny_detector, squares):
    """The targets of a split, put through the distributions that a detector answers with, are its boxes."""
    model = CellModel(tiny_detector(), 2)
    labels, distances = model.targets(squares.train, 0)
    network, truth = tiny_detector(), torch.from_numpy(squares.train.fitted_boxes(0))
    found = torch.from_numpy(labels) < 2
    boxes = decode(distributions(torch.from_numpy(distances)), network.points, network.strides)[found]
    assert found.any()
    gaps = (boxes[:, None] - truth).abs().amax(2)
    assert gaps.amin(1).max() < 1
