import dataclasses
import gc
import math
import signal
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.quick import LEARNING, SETTINGS, score
from training.classification.learner import Classification, predict
from training.data.augment import Augment
from training.engine.fit import Stopped, fit
from training.engine.optimizer import schedule
from training.engine.weights import best_weights


@dataclasses.dataclass(frozen=True)
class InterruptedAugment(Augment):
    """Ctrl-C in the step after so many."""

    after: int = 0
    presses: int = 1
    calls: list = dataclasses.field(default_factory=list)

    def __call__(self, images, indices, epoch, generator):
        self.calls.append(epoch)
        if len(self.calls) == self.after + 1:
            for _ in range(self.presses):
                signal.raise_signal(signal.SIGINT)
        return Augment.__call__(self, images, indices, epoch, generator)


def interrupted(after, presses=1):
    """Twelve steps are an epoch."""
    augment = InterruptedAugment(**dataclasses.asdict(LEARNING.augment), after=after, presses=presses)
    return dataclasses.replace(LEARNING, augment=augment)


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def without_times(history):
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in history]


def assert_same(one, other):
    """Bit for bit equal, nested values included."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def test_two_epochs_learn_the_colours(tiny_cnn, train_on, colours, tmp_path):
    model = tiny_cnn(dropout=0.1)
    state = train_on(model, tmp_path)
    assert state.epoch == 2
    assert state.history[1]["train_loss"] < state.history[0]["train_loss"]
    assert score(model, colours.test)[1] > 0.9


def test_progress_has_a_line_an_epoch(tiny_cnn, train_on, console, tmp_path):
    train_on(tiny_cnn(), tmp_path)
    lines = console.file.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["1/2", "2/2"]
    assert all("  validation accuracy " in line and len(line) <= 80 for line in lines)


@pytest.mark.parametrize("after", [4, 12, 23])
def test_run_that_is_stopped_anywhere_and_resumed_equals_one_without_a_break_to_the_bit(
    tiny_cnn, train_on, tmp_path, after
):
    whole, first, second = tiny_cnn(dropout=0.2), tiny_cnn(dropout=0.2), tiny_cnn(seed=99, dropout=0.2)
    expected = train_on(whole, tmp_path / "whole")
    with pytest.raises(Stopped, match=f"epoch {after // 12 + 1} of 2, after {after % 12 + 1} of its 12 steps"):
        train_on(first, tmp_path / "parts", learning=interrupted(after))
    resumed = train_on(second, tmp_path / "parts", resume=True)
    assert (resumed.epoch, resumed.best_epoch) == (expected.epoch, expected.best_epoch)
    assert without_times(resumed.history) == without_times(expected.history)
    assert_same(dict(second.state_dict()), dict(whole.state_dict()))
    one, other = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    for part in ("model", "average", "optimizer", "best"):
        assert_same(dict(one[part]), dict(other[part]))


def test_dropout_changes_neither_order_nor_augmentation(tiny_cnn, train_on, tmp_path):
    class Recorded(Augment):
        def __call__(self, images, indices, epoch, generator):
            pixels = Augment.__call__(self, images, indices, epoch, generator)
            seen.append((indices.tolist(), pixels.sum().item()))
            return pixels

    runs = []
    for dropout in (0.0, 0.5):
        seen = []
        learning = dataclasses.replace(LEARNING, augment=Recorded(**dataclasses.asdict(LEARNING.augment)))
        train_on(tiny_cnn(dropout=dropout), tmp_path / str(dropout), learning=learning)
        runs.append(seen)
    assert runs[0] == runs[1]
    assert len({sums for _, sums in runs[0]}) == 24


def test_same_seed_gives_the_same_weights_and_another_gives_others(tiny_cnn, train_on, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=1)
    models = [tiny_cnn(), tiny_cnn(), tiny_cnn()]
    for i, seed in enumerate((0, 0, 1)):
        train_on(models[i], tmp_path / str(i), dataclasses.replace(settings, seed=seed))
    assert_same(dict(models[0].state_dict()), dict(models[1].state_dict()))
    assert not torch.equal(models[0].head.weight, models[2].head.weight)


def test_ctrl_c_in_the_validation_leaves_the_epoch_to_be_validated(tiny_cnn, train_on, monkeypatch, tmp_path):
    model = tiny_cnn()

    def interrupt(self, network, accelerator):
        if network.training or len(validated) == 1:
            signal.raise_signal(signal.SIGINT)
        validated.append(validate(self, network, accelerator))
        return validated[-1]

    validated, validate = [], Classification.validate
    with monkeypatch.context() as patch:
        patch.setattr(Classification, "validate", interrupt)
        with pytest.raises(Stopped, match="epoch 1 of 2, after 12 of its 12 steps"):
            train_on(model, tmp_path)
    assert checkpoint(tmp_path)["best"] == {}
    with pytest.raises(ValueError, match="stopped before its first epoch ended: --resume it first"):
        best_weights(tmp_path)
    state = train_on(tiny_cnn(seed=3), tmp_path, resume=True)
    assert state.resumed == [0]
    assert without_times(state.history) == without_times(train_on(tiny_cnn(), tmp_path / "whole").history)


def test_a_second_ctrl_c_does_not_wait_for_the_step(tiny_cnn, train_on, tmp_path):
    with pytest.raises(KeyboardInterrupt) as stopped:
        train_on(tiny_cnn(), tmp_path, learning=interrupted(3, presses=2))
    assert not isinstance(stopped.value, Stopped)
    # A step that is half done must not get into a checkpoint.
    assert not (tmp_path / "checkpoint.pt").exists()


def test_ctrl_c_is_an_ordinary_one_after_a_training(tiny_cnn, train_on, tmp_path):
    train_on(tiny_cnn(), tmp_path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resume_without_a_checkpoint_says_so_and_begins(tiny_cnn, train_on, console, tmp_path):
    assert train_on(tiny_cnn(), tmp_path, resume=True).epoch == 2
    assert "there is nothing to resume" in console.file.getvalue()


def test_finished_run_resumes_without_training_on(tiny_cnn, train_on, console, tmp_path):
    first, second = tiny_cnn(), tiny_cnn(seed=5)
    state = train_on(first, tmp_path)
    assert train_on(second, tmp_path, resume=True) == dataclasses.replace(state, resumed=[2])
    assert_same(dict(second.state_dict()), dict(first.state_dict()))


def test_run_without_resume_starts_anew(tiny_cnn, train_on, tmp_path):
    first, second = tiny_cnn(), tiny_cnn()
    state = train_on(first, tmp_path)
    again = train_on(second, tmp_path)
    assert without_times(again.history) == without_times(state.history)


@pytest.mark.parametrize("change", [{"lr": 0.3}, {"epochs": 1}, {"seed": 1}])  # two epochs are over
def test_checkpoint_of_other_settings_is_refused(tiny_cnn, train_on, tmp_path, change):
    train_on(tiny_cnn(), tmp_path, dataclasses.replace(SETTINGS, epochs=2))
    with pytest.raises(ValueError, match="was made with other settings"):
        train_on(tiny_cnn(), tmp_path, dataclasses.replace(SETTINGS, **change), resume=True)


def test_a_finished_run_goes_on_if_it_is_to_have_more_epochs(tiny_cnn, train_on, console, tmp_path):
    train_on(tiny_cnn(), tmp_path)
    state = train_on(tiny_cnn(), tmp_path, dataclasses.replace(SETTINGS, epochs=3, patience=9), resume=True)
    assert (state.epoch, len(state.history)) == (3, 3)
    assert "Resuming after epoch 2 of 3." in console.file.getvalue()
    with pytest.raises(ValueError, match="lr"):
        train_on(tiny_cnn(), tmp_path, dataclasses.replace(SETTINGS, epochs=4, lr=0.3), resume=True)


def test_a_loss_that_is_no_number_leaves_the_epochs_before_it(tiny_cnn, train_on, tmp_path, monkeypatch):
    first, four = tiny_cnn(), dataclasses.replace(SETTINGS, epochs=4)
    real = Classification.loss

    def loss(self, network, batch, step):
        value, figures = real(self, network, batch, step)
        return value * (math.nan if step.epoch == 2 else 1), figures

    monkeypatch.setattr(Classification, "loss", loss)
    with pytest.raises(FloatingPointError, match=r"in epoch 3: lower --lr, or keep .* with --resume --epochs 2$"):
        train_on(first, tmp_path, four)
    state = train_on(tiny_cnn(), tmp_path, dataclasses.replace(four, epochs=2), resume=True)
    assert (state.epoch, len(state.history)) == (2, 2)


class Plateau(Classification):
    """Validates to the same in all epochs."""

    def __init__(self, colours):
        super().__init__(colours.train, colours.validation, LEARNING)

    def validate(self, network, accelerator):
        return super().validate(network, accelerator) | {"accuracy": 0.5}


class Watch:
    """Notes what it is told."""

    def __init__(self):
        self.estimates, self.epochs = [], []

    def estimate(self, spent, left, validation):
        self.estimates.append(left)

    def epoch(self, number, figures):
        self.epochs.append((number, figures["validation_accuracy"]))


def test_patience_ends_a_training_that_gets_no_better_and_whoever_watches_is_told(
    colours, tiny_cnn, accelerator, console, tmp_path
):
    settings, watch = dataclasses.replace(SETTINGS, epochs=9, patience=1), Watch()
    task = Plateau(colours)
    state = fit(tiny_cnn(), task, settings, tmp_path, accelerator=accelerator, console=console, watch=watch)
    assert state.epoch == 2
    assert "No better accuracy in 1 epochs: the training ends here" in console.file.getvalue()
    assert len(watch.estimates) == 1
    assert watch.estimates[0] > 0
    assert watch.epochs == [(1, 0.5), (2, 0.5)]


def test_checkpoint_of_other_data_is_refused_and_says_so(tiny_cnn, train_on, tmp_path):
    train_on(tiny_cnn(), tmp_path, origin={"data": "sha256:1", "widths": (8, 8)})
    with pytest.raises(ValueError, match=r"other settings \(data sha256:1, now sha256:2\)"):
        train_on(tiny_cnn(), tmp_path, origin={"data": "sha256:2", "widths": (8, 8)}, resume=True)


def test_checkpoint_of_another_network_is_refused(colours, tiny_cnn, train_on, tmp_path):
    train_on(tiny_cnn(), tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint\.pt"):
        train_on(nn.Sequential(nn.Flatten(), nn.Linear(432, 3)), tmp_path, resume=True)


def test_averaged_weights_are_what_is_evaluated_and_kept(tiny_cnn, train_on, colours, tmp_path):
    model = tiny_cnn()
    state = train_on(model, tmp_path, dataclasses.replace(SETTINGS, epochs=1))
    saved = checkpoint(tmp_path)
    average = {name.removeprefix("module."): value for name, value in saved["average"].items()}
    average.pop("n_averaged")
    assert_same(dict(model.state_dict()), average)
    assert not torch.equal(saved["model"]["head.weight"], average["head.weight"])
    loss, accuracy = score(model, colours.validation)
    assert loss == pytest.approx(state.history[0]["validation_loss"], rel=1e-5)
    assert accuracy == pytest.approx(state.history[0]["validation_accuracy"])


def test_average_is_the_exponential_one_of_the_weights_after_every_step(train_on, tmp_path):
    weights = []

    class Recorded(nn.Sequential):
        def forward(self, pixels):
            if self.training:
                weights.append(self[1].weight.detach().clone())
            return super().forward(pixels)

    model = Recorded(nn.Flatten(), nn.Linear(432, 3))
    train_on(model, tmp_path, dataclasses.replace(SETTINGS, epochs=1, lr=0.01))
    saved = checkpoint(tmp_path)
    # The first entry is what training started from; the last step's result has no forward pass of its own.
    after_each_step = [*weights[1:], saved["model"]["1.weight"]]
    expected = after_each_step[0]
    for step, value in enumerate(after_each_step[1:], 1):
        decay = min(SETTINGS.ema, (1 + step) / (10 + step))  # the first few steps soon lose their weight
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(model[1].weight.detach(), expected)


def test_without_averaging_the_trained_weights_are_kept(tiny_cnn, train_on, tmp_path):
    model = tiny_cnn()
    train_on(model, tmp_path, dataclasses.replace(SETTINGS, epochs=1, ema=0))
    assert_same(dict(model.state_dict()), dict(checkpoint(tmp_path)["model"]))


class RightForTwoEpochs(nn.Module):
    """Predicts the brightest channel, and after 24 steps the darkest."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, pixels):
        self.steps += self.training
        sign = 1 if self.steps <= 24 else -1
        return sign * self.scale * pixels.mean((2, 3)).flip(1)


def test_latest_of_the_best_epochs_is_kept_and_not_the_last(train_on, colours, tmp_path):
    model = RightForTwoEpochs()
    state = train_on(model, tmp_path, dataclasses.replace(SETTINGS, epochs=3, ema=0, lr=0.01))
    assert [row["validation_accuracy"] for row in state.history] == [1, 1, 0]
    assert (state.best_epoch, state.best_score) == (2, 1)
    assert model.steps == 24
    assert score(model, colours.validation)[0] == pytest.approx(state.history[1]["validation_loss"], rel=1e-5)


def test_the_last_epoch_is_kept_where_that_is_asked_for(train_on, tmp_path):
    model = RightForTwoEpochs()
    state = train_on(model, tmp_path, dataclasses.replace(SETTINGS, epochs=3, ema=0, lr=0.01), keep="last")
    assert state.best_epoch == 3
    assert model.steps == 36
    assert not model.training


def test_lower_precision_trains_and_leaves_a_float32_model(tiny_cnn, train_on, accelerator_in, colours, tmp_path):
    model = tiny_cnn()
    state = train_on(model, tmp_path, accelerator=accelerator_in("bf16"))
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    fresh = tiny_cnn(seed=7)
    fresh.load_state_dict(model.state_dict())
    # The lower precision must not remain in the model's own forward pass.
    np.testing.assert_allclose(
        predict(model, colours.test.images), predict(fresh, colours.test.images), rtol=1e-5, atol=1e-5
    )
    loss, accuracy = score(model, colours.validation)
    assert loss == pytest.approx(state.history[state.best_epoch - 1]["validation_loss"], abs=0.02)
    assert accuracy > 0.9


def test_lower_precision_is_really_used(tiny_cnn, train_on, accelerator_in, tmp_path):
    train_on(tiny_cnn(), tmp_path / "float32", dataclasses.replace(SETTINGS, epochs=1))
    reference = checkpoint(tmp_path / "float32")["state"]["history"][0]["train_loss"]
    lower = accelerator_in("bf16")
    train_on(tiny_cnn(), tmp_path / "bf16", dataclasses.replace(SETTINGS, epochs=1), accelerator=lower)
    loss = checkpoint(tmp_path / "bf16")["state"]["history"][0]["train_loss"]
    assert loss != reference
    assert loss == pytest.approx(reference, rel=0.05)


class NotANumber(Classification):
    """Validates to NaN in all epochs, or in the second alone."""

    def __init__(self, colours, always):
        super().__init__(colours.train, colours.validation, LEARNING)
        self.always = always
        self.epoch = -1

    def begin(self, network, epoch, epochs):
        self.epoch = epoch

    def validate(self, network, accelerator):
        figures = super().validate(network, accelerator)
        return figures | {"accuracy": math.nan} if self.always or self.epoch == 1 else figures


@pytest.mark.parametrize(("always", "best"), [(False, 1), (True, 2)])
def test_validation_that_is_not_a_number_is_said_and_never_the_best(
    colours, tiny_cnn, accelerator, console, tmp_path, always, best
):
    task = NotANumber(colours, always)
    state = fit(tiny_cnn(), task, SETTINGS, tmp_path, accelerator=accelerator, console=console)
    assert state.best_epoch == best
    assert "gives the accuracy nan in epoch 2" in console.file.getvalue()


def test_validation_begins_before_the_first_step_and_training_has_a_loss_of_the_same_kind(
    tiny_cnn, train_on, colours, tmp_path
):
    loss, accuracy = score(tiny_cnn(), colours.validation)
    state = train_on(tiny_cnn(), tmp_path)
    assert state.initial == {"loss": pytest.approx(loss, rel=1e-5), "accuracy": pytest.approx(accuracy)}
    # The loss that is trained on has smoothed labels, so it is larger than the one that can be compared.
    assert state.history[-1]["train_cross_entropy"] < state.history[-1]["train_loss"]


def test_a_trained_model_is_freed_when_nothing_uses_it(tiny_cnn, train_on, tmp_path):
    model = tiny_cnn()
    train_on(model, tmp_path, dataclasses.replace(SETTINGS, epochs=1))
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_infinite_loss_stops_with_advice(tiny_cnn, train_on, tmp_path):
    with pytest.raises(FloatingPointError, match="in epoch 1: lower --lr"):
        train_on(tiny_cnn(), tmp_path, dataclasses.replace(SETTINGS, lr=1e30))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_rates_and_decay_differ_by_kind_of_parameter(train_on, tmp_path, optimizer):
    class TwoParts(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(432, 8), nn.Linear(8, 8).requires_grad_(False))
            self.head = nn.Linear(8, 3)

        def pretrained(self):
            return self.backbone.parameters()

        def forward(self, pixels):
            return self.head(self.backbone(pixels))

    model = TwoParts()
    frozen = model.backbone[2].weight.clone()
    settings = dataclasses.replace(
        SETTINGS, epochs=1, optimizer=optimizer, lr=0.02, backbone_lr=0.001, weight_decay=0.3
    )
    train_on(model, tmp_path, settings)
    groups = checkpoint(tmp_path)["optimizer"]["param_groups"]
    assert sorted((g["peak_lr"], g["weight_decay"], len(g["params"])) for g in groups) == [
        (0.001, 0.0, 1), (0.001, 0.3, 1), (0.02, 0.0, 1), (0.02, 0.3, 1),
    ]  # fmt: skip
    assert torch.equal(model.backbone[2].weight, frozen)


def test_batch_larger_than_the_split_takes_all_of_it(tiny_cnn, train_on, tmp_path):
    state = train_on(tiny_cnn(), tmp_path, dataclasses.replace(SETTINGS, epochs=1, batch_size=5000))
    assert state.epoch == 1
    assert np.isfinite(state.history[0]["train_loss"])


@pytest.mark.parametrize(
    ("progress", "warmup", "factor"),
    [
        (0.0, 0.2, 0.001 / 0.201),
        (0.1, 0.2, 0.101 / 0.201),
        (0.2, 0.2, 1.0),
        (0.6, 0.2, 0.5),
        (1.0, 0.2, 0.0),
        (0.0, 0.0, 1.0),
        (0.5, 0.0, 0.5),
    ],
)
def test_schedule_rises_and_then_falls_linearly(progress, warmup, factor):
    assert schedule(progress, warmup) == pytest.approx(factor)


def test_schedule_never_leaves_zero_to_one():
    factors = [schedule(progress, 0.3) for progress in np.linspace(0, 1, 101)]
    assert min(factors) >= 0
    assert max(factors) <= 1
    peak = int(np.argmax(factors))
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
