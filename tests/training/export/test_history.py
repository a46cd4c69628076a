import numpy as np

from service.inference.cards import Step, Use
from training.export import history, lineage

DIVISION = np.arange(0, 20, 2), np.arange(1, 20, 2)


def test_halves_are_identified_by_their_items():
    chosen, calibrated = history.halves_used(DIVISION, selection=("epoch",), calibration=("label sets",))
    assert (chosen.part, calibrated.part, chosen.items, calibrated.items) == ("selection", "calibration", 10, 10)
    assert not chosen.overlaps(calibrated)
    (other,) = history.halves_used((DIVISION[1], DIVISION[0]), selection=("epoch",))
    assert other.overlaps(calibrated)
    assert Use(split="validation", purpose="epoch", items=20).overlaps(calibrated)
    assert not Use(split="test", purpose="figures", items=20).overlaps(calibrated)


def test_commands_lose_the_folders_of_this_machine():
    before = "text --data /home/somebody/texts --backbone transformers:/home/a/bert --teacher /srv/models/large/2"
    after = "text --data texts --backbone transformers:bert --teacher large/2"
    assert history.public(f"python -m training {before} --run-dir a") == f"python -m training {after} --run-dir a"
    assert history.public("quartet train 'my data'") == "quartet train 'my data'"
    assert history.public(None) is None


def test_a_command_is_recorded_with_machine_and_duration():
    step = history.begun("evaluate", "python -m training evaluate colours", "sha256:0", threads=2)
    ended = history.ended(step, 1.234)
    assert (ended.command, ended.seconds, ended.data) == ("python -m training evaluate colours", 1.2, "sha256:0")
    assert ended.machine
    assert ended.threads == 2
    assert ended.date


def test_uses_belong_to_the_last_step_and_are_not_repeated(make_manifest):
    use = Use(split="test", purpose="figures", items=30)
    manifest = make_manifest()
    assert history.with_uses(manifest, use).history == ()  # nobody knows what made it
    manifest = history.with_step(manifest, Step(kind="evaluate", uses=()))
    first, last = history.with_uses(manifest, use, use).history
    assert (first.kind, first.uses, first.epochs) == ("train", None, 2)
    assert last.uses == (use,)


def test_a_record_counts_only_for_the_weights_that_it_is_of(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"weights")
    steps = (Step(kind="train", epochs=3, uses=()),)
    lineage.save(tmp_path, steps)
    assert lineage.recorded(tmp_path) == steps
    (tmp_path / "checkpoint.pt").write_bytes(b"other weights")
    assert lineage.recorded(tmp_path) is None


def test_an_old_manifest_tells_how_many_items_chose_the_epoch(make_manifest):
    manifest = make_manifest()
    training = manifest.training.model_copy(update={"chosen_on": 15})
    (step,) = history.steps_of(manifest.model_copy(update={"training": training}))
    assert step.note == "15 validation items chose its epoch."
    assert step.uses is None
