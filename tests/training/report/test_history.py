import datetime

import pytest

from service.inference.cards import Origin, Step, Use
from training.export.history import (
    CALIBRATION,
    DISTANCES,
    EPOCH,
    FIGURES,
    INTERPOLATION,
    LABEL_SETS,
    P_VALUES,
    SELECTION,
    TEMPERATURE,
    VOCABULARY,
    WEIGHTS,
)
from training.report.card import CARD, render_card
from training.report.history import history_of

TEST = Use(split="test", purpose=FIGURES, items=30)


def selection(purpose, partition="one"):
    return Use(split="validation", purpose=purpose, items=15, part=SELECTION, partition=partition)


def calibration(purpose, partition="one"):
    return Use(split="validation", purpose=purpose, items=15, part=CALIBRATION, partition=partition)


def everything(purpose, split="validation"):
    return Use(split=split, purpose=purpose, items=30)


def training(*uses, **changes):
    """A step that trained for 20 epochs, whose halves of validation did what they should unless `uses` are given."""
    standard = (selection(EPOCH), selection(TEMPERATURE), calibration(LABEL_SETS), calibration(P_VALUES), TEST)
    fields = {
        "command": "python -m training classification --data colours",
        "date": datetime.date(2026, 3, 1),
        "epochs": 20,
        "best_epoch": 18,
        "seconds": 600.0,
        "machine": "a processor",
        "threads": 2,
        "data": "sha256:0",
        "uses": (everything(WEIGHTS, "train"), *(uses or standard)),
    }
    return Step(kind="train", **{**fields, **changes})


def evaluated(*uses):
    return Step(kind="evaluate", command="python -m training evaluate colours --calibrate", seconds=20.0, uses=uses)


@pytest.fixture
def tell(make_manifest, tmp_path):
    """The section of the card of a version with some history."""

    def render(*steps):
        render_card(tmp_path, make_manifest().model_copy(update={"history": steps}))
        return (tmp_path / CARD).read_text().partition("## History")[2].partition("## Provenance")[0]

    return render


def test_a_fresh_training(tell):
    said = tell(training())
    assert "made in 1 step" in said
    assert "| 1 | `python -m training classification --data colours` | 20 | 10 minutes | 2026-03-01 |" in said
    assert "| a processor, 2 threads |" in said
    assert "| validation | selection | 15 of 30 | choice of the epoch | 1 |" in said
    assert "| validation | calibration | 15 of 30 | label sets | 1 |" in said
    assert "Step 1 kept the weights of epoch 18, the best on 15 of the 30 validation images." in said
    assert (
        "Step 1 fitted the label sets on 15 validation items. No step used these items for anything that "
        "label sets depend on." in said
    )
    assert "evaluated once: in step 1. Nothing was fitted or chosen after that." in said
    assert "not recorded" not in said
    assert "unknown" not in said


def test_a_resumed_training(tell):
    said = tell(training(resumed=(7, 12)))
    assert "- Step 1 was resumed after epochs 7 and 12." in said
    assert "made in 1 step" in said


def test_a_training_that_started_from_a_published_version_and_had_a_teacher(tell):
    initial = Origin(name="colours/1", file="weights.safetensors", sha256="aa11")
    teacher = Origin(name="large/3", file="model.onnx", sha256="bb22")
    uses = selection(EPOCH), selection(INTERPOLATION), selection(TEMPERATURE), calibration(LABEL_SETS), TEST
    said = tell(training(), training(*uses, initial=initial, teacher=teacher, epochs=4, best_epoch=4))
    assert "made in 2 steps" in said
    assert (
        "- Step 2 started from `colours/1` (weights.safetensors, sha256 `aa11`); it learned from the teacher `large/3` "
        "(model.onnx, sha256 `bb22`)." in said
    )
    assert "| validation | selection | 15 of 30 | choice of the epoch | 1, 2 |" in said
    assert (
        "Step 2 fitted the label sets on 15 validation items. No step used these items for anything that "
        "label sets depend on." in said
    )
    assert "evaluated twice: in steps 1 and 2." in said
    assert "when test figures were known already: network weights (step 2), choice of the epoch (step 2)," in said


def test_a_version_that_was_calibrated_again_and_evaluated_three_times(tell):
    again = selection(TEMPERATURE), calibration(LABEL_SETS), TEST
    said = tell(training(), evaluated(*again), evaluated(calibration(LABEL_SETS), TEST))
    assert "evaluated 3 times: in steps 1, 2 and 3." in said
    assert "when test figures were known already: temperature (step 2) and label sets (steps 2 and 3)." in said
    assert (
        "Step 3 fitted the label sets on 15 validation items. No step used these items for anything that "
        "label sets depend on." in said
    )
    assert "Step 1 fitted the p-values" in said
    assert "items for anything that p-values depend on" in said


def test_a_version_whose_epoch_was_chosen_on_all_of_validation(tell):
    said = tell(training(everything(EPOCH), everything(VOCABULARY), calibration(LABEL_SETS), TEST))
    assert "epoch 18, the best on all 30 validation images." in said
    assert (
        "Step 1 fitted the label sets on 15 validation items, some or all of which also determined: choice "
        "of the epoch (step 1) "
        "and choice of the vocabulary (step 1). The label sets may hold less well for new items." in said
    )
    assert "No step used these items" not in said


def test_a_version_whose_validation_split_was_divided_anew(tell):
    said = tell(training(), evaluated(calibration(LABEL_SETS, "another"), TEST))
    assert "some or all of which also determined: choice of the epoch (step 1) and temperature (step 1)" in said
    assert "| validation | selection (division 1) |" in said
    assert "| validation | calibration (division 2) |" in said


def test_what_a_later_training_chose_anew_does_not_matter(tell):
    said = tell(training(everything(TEMPERATURE), TEST), training())
    assert "Step 2 fitted the label sets on 15 validation items. No step used these items for anything" in said


def test_an_unknown_history(tell):
    # A version from before there were histories has its training settings alone.
    said = tell()
    assert "| 1 | train (command not recorded) | 2 | 1 second | unknown | unknown |" in said
    assert "Which items chose the epoch of step 1 was not recorded." in said
    assert "Whether step 1 evaluated the test split (30 images) was not recorded." in said
    assert "No step used these items" not in said


def test_a_known_step_after_an_unknown_one(tell):
    lost = Step(kind="train", note="The run `first` left no record.")
    said = tell(lost, training(initial=Origin(name="first", file="checkpoint.pt", sha256=None)))
    assert "- Step 1: The run `first` left no record." in said
    assert "started from `first` (checkpoint.pt, its sha256 was not recorded)" in said
    assert (
        "Step 2 fitted the label sets on 15 validation items. Whether step 1 used these items was not recorded." in said
    )
    assert "was evaluated in step 2. Whether step 1 evaluated the test split (30 images) was not recorded." in said


def test_p_values_on_training_items_are_no_claim_of_independence(tell):
    first = Use(split="train", purpose=DISTANCES, items=15, part="first half", partition="of train")
    second = Use(split="train", purpose=P_VALUES, items=15, part="second half", partition="of train")
    said = tell(training(everything(EPOCH), first, second, TEST))
    assert (
        "fitted the p-values on 15 train items, some or all of which also determined: network weights (step 1)." in said
    )


def test_equal_steps_have_numbers_of_their_own(tell):
    unknown = Step(kind="train", note="No record.")
    said = tell(unknown, unknown)
    assert "- Step 1: No record.\n- Step 2: No record." in said
    assert "the epoch of step 2 was not recorded" in said


def test_held_out_splits_are_named(make_manifest):
    manifest = make_manifest()
    data = manifest.data.model_copy(update={"held_out": ("validation", "test")})
    assert history_of(manifest.model_copy(update={"data": data}))["held_out"] == "validation and test"


def test_cells_of_the_table_may_hold_its_separator(tell):
    assert r"`python -m training text --data 'a\|b'`" in tell(training(command="python -m training text --data 'a|b'"))
