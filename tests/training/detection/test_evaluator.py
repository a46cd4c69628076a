import onnx
import pytest
import torch
from onnx import TensorProto, helper

from service.inference.cards import GoldenCard, ListCard
from service.inference.golden import compare
from service.inference.session import Session
from service.tasks.detection.manifest import Suppression
from training.detection.evaluation import average_precision, in_originals
from training.detection.evaluator import choose
from training.detection.graph import (
    OUTPUTS,
    TRANSLATIONS,
    DetectorGraph,
    PostProcess,
    graph_outputs,
    network_outputs,
    replace_post_process,
)
from training.export.graph import export, torch_outputs

HARD = Suppression(iou=0.5, floor=0.01, max_detections=20)
SOFT = Suppression(iou=0.5, floor=0.002, max_detections=20, soft=True, spread_penalty=4, usual_spreads=(0.1, 0.2))
AGNOSTIC = SOFT.model_copy(update={"class_agnostic": True})
CARD = GoldenCard(
    rows=1,
    atol=1e-3,
    lists=ListCard(order="scores", above=0.05, tolerances={"boxes": 0.1, "scores": 1e-3, "classes": 0.5}),
)


@pytest.fixture
def network(tiny_detector):
    network = tiny_detector().eval()
    for head in network.heads:
        torch.nn.init.normal_(head.classes[-1].weight, std=0.5)
        torch.nn.init.zeros_(head.classes[-1].bias)
        torch.nn.init.normal_(head.edges[-1].weight, std=2)
    return network


def answers(path, images):
    return dict(zip(OUTPUTS, Session(path, "cpu").run({"images": images}), strict=True))


def test_a_graph_is_given_another_choice_and_is_what_that_exports(network, squares, tmp_path):
    images, paths = squares.validation.images[:3], {}
    for name, suppression in (("hard", HARD), ("soft", SOFT), ("agnostic", AGNOSTIC)):
        paths[name] = tmp_path / f"{name}.onnx"
        export(
            DetectorGraph(network, suppression), images, paths[name], input_name="images", output_names=OUTPUTS,
            max_batch=2, card=CARD, translations=TRANSLATIONS,
        )  # fmt: skip
    for name, suppression in (("soft", SOFT), ("agnostic", AGNOSTIC)):
        replace_post_process(paths["hard"], suppression)
        want, got = (answers(path, images) for path in (paths[name], paths["hard"]))
        assert compare(want, got, CARD).acceptable
    # And back, from a graph that was changed before.
    replace_post_process(paths["hard"], HARD)
    want = torch_outputs(DetectorGraph(network, HARD).eval(), images, OUTPUTS)
    assert compare(want, answers(paths["hard"], images), CARD).acceptable
    ours = network_outputs(network, squares.validation)
    for name in ("soft", "agnostic"):
        theirs = graph_outputs(paths[name], squares.validation)
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_a_graph_without_a_suppression_is_refused(tmp_path):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "nothing", value[:1], value[1:])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="no suppression"):
        replace_post_process(tmp_path / "model.onnx", HARD)


def test_what_is_chosen_has_a_better_average_precision_on_validation(network, squares):
    split, outputs = squares.validation, network_outputs(network, squares.validation)
    # All boxes of a class overlap by more, so that nearly nothing is found.
    poor = HARD.model_copy(update={"iou": 0.0})

    def precision(suppression):
        best = PostProcess(network.size, suppression)(*outputs)
        found = in_originals(split.letterboxes, [part.numpy() for part in best])
        return average_precision(found, split, squares.classes).map

    chosen = choose(*outputs, split, squares.classes, poor)
    assert chosen.max_detections == poor.max_detections
    assert chosen == poor or precision(chosen) > precision(poor)


def test_of_equal_choices_the_simplest_is_made(network, squares):
    """A network that finds nothing gives no reason for any other."""
    logits, box_logits = network_outputs(network, squares.validation)
    assert choose(torch.full_like(logits, -30), box_logits, squares.validation, squares.classes, HARD) == HARD
