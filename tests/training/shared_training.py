"""What `test_processes.py` runs in each of two processes: `python -m tests.training.shared_training FOLDER`."""

import contextlib
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from training.backbones.cnn import CNN, Normalize
from training.classification.learner import Classification, ClassificationSettings
from training.data.augment import Augment
from training.data.images import ImageSplit
from training.engine.fit import fit
from training.engine.processes import end_processes, in_parts, is_main_process
from training.engine.settings import FitSettings
from training.tabular.comparison import NETWORK, NetworkMethod, cross_validate
from training.tabular.data import load_table
from training.tabular.network import Rows, build
from training.tabular.options import NetworkSettings, TabularOptions
from training.text.options import TokenSettings
from training.text.tokenizer import train_tokenizer

PLAIN = ClassificationSettings(augment=Augment(flip=False, translate=0, cutout=0))
QUIET = Console(quiet=True)


def images(count=23):
    random = np.random.default_rng(0)
    return ImageSplit(random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8), np.arange(count) % 3)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def train_dense(accelerator, folder, batch_size):
    """One epoch of a network that treats every item alike; returns its weights and the training loss."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Tanh(), nn.Linear(8, 3))
    task = Classification(images(), images(6), PLAIN)
    settings = FitSettings(epochs=1, batch_size=batch_size, lr=0.1, clip=1.0, ema=0.0)
    state = fit(model, task, settings, folder, accelerator=accelerator, console=QUIET)
    return weights(model), state.history[0]["train_loss"]


class Disagreeing(Classification):
    """Validation that stalls in the main process and gets ever better in the other."""

    def __init__(self, process):
        super().__init__(images(), images(6), PLAIN)
        self.process, self.calls = process, 0

    def validate(self, network, accelerator):
        self.calls += 1
        return {"loss": 1.0, "accuracy": 0.01 * self.calls * self.process}


def train_with_norms(accelerator, folder):
    """Two epochs of a network with batch normalisation, whose statistics are those of the whole batch."""
    torch.manual_seed(0)
    model = CNN(Normalize.of(images(24)), (8, 8, 3), 3, widths=(4, 4), depth=1)
    learner = Classification(images(24), images(7), PLAIN)
    settings = FitSettings(epochs=2, batch_size=8, lr=0.05, ema=0.5)
    state = fit(model, learner, settings, folder, accelerator=accelerator, console=QUIET)
    return weights(model), [row["validation_loss"] for row in state.history]


class Broken(Classification):
    """Fails when the second epoch begins."""

    def begin(self, network, epoch, epochs):
        if epoch == 1:
            raise RuntimeError


def train_and_resume(accelerator, folder):
    """The weights of two epochs without a break, and of two that were interrupted in between."""

    def train(learner, name, resume=False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
        settings = FitSettings(epochs=2, batch_size=8, lr=0.1, ema=0.5)
        fit(model, learner, settings, folder / name, accelerator=accelerator, console=QUIET, resume=resume)
        return weights(model)

    plain, broken = (kind(images(), images(6), PLAIN) for kind in (Classification, Broken))
    with contextlib.suppress(RuntimeError):
        train(broken, "broken")
    return train(plain, "whole"), train(plain, "broken", resume=True)


def train_with_patience(accelerator, folder):
    torch.manual_seed(accelerator.process_index)
    model = CNN(Normalize.of(images()), (8, 8, 3), 3, widths=(4, 4), depth=1, dropout=0.1)
    settings = FitSettings(epochs=6, batch_size=8, lr=0.05, ema=0.5, patience=2)
    task = Disagreeing(accelerator.process_index)
    state = fit(model, task, settings, folder, accelerator=accelerator, console=QUIET)
    return state.epoch, state.best_epoch, weights(model)


def train_and_cross_validate(accelerator, folder):
    """As the recipe of tables does it: a training, and then those of the folds."""
    data = load_table(TabularOptions(limit=60))
    network, settings = NetworkSettings(hidden=(4,)), FitSettings(epochs=1, batch_size=15, lr=0.01)
    model = build(network, data, data.train, settings.seed)
    rows = Rows(data.train, data.validation, data.kind)
    fit(model, rows, settings, folder, accelerator=accelerator, console=QUIET)
    method = NetworkMethod(network, settings, data, folder / "folds", accelerator)
    return cross_validate(method, data.train, 5).answers[NETWORK].tolist()


def learn_vocabulary(accelerator, folder):
    """The other process has other texts, and must still get the main process's vocabulary."""
    words = ("oil", "wheat") if accelerator.is_main_process else ("gold", "copper")
    texts, settings = [f"{word} prices rose" for word in words] * 20, TokenSettings(words=40, vocabulary="bpe")
    return train_tokenizer(texts, settings, folder / "tokenizer.json", accelerator).to_str()


def main(folder):
    accelerator = Accelerator(cpu=True)
    results = {
        "prints": is_main_process(),
        "even": train_dense(accelerator, folder / "even", 8),
        "odd": train_dense(accelerator, folder / "odd", 7),
        "whole": train_dense(accelerator, folder / "whole", 100),
        "norms": train_with_norms(accelerator, folder / "norms"),
        "resumed": train_and_resume(accelerator, folder / "resumed"),
        "parts": in_parts(accelerator, 7, lambda indices: [int(10 * index) for index in indices]),
        "patience": train_with_patience(accelerator, folder / "patience"),
        "folds": train_and_cross_validate(accelerator, folder / "folds"),
        "vocabulary": learn_vocabulary(accelerator, folder),
    }
    try:
        train_dense(accelerator, folder / "small", 1)
    except ValueError as error:
        results["small"] = str(error)
    torch.save(results, folder / f"{accelerator.process_index}.pt")
    end_processes()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
