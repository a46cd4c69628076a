"""What `test_processes.py` runs in each of two processes: `python -m tests.training.shared_training FOLDER`."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn

from training.backbones.cnn import CNN, Normalize
from training.classification.labels import LabelledImages
from training.data.augment import Augment
from training.data.images import ImageSplit
from training.engine.fit import fit
from training.engine.processes import end_processes, is_main_process
from training.engine.settings import FitSettings
from training.export.history import Lineage
from training.old_run import Run
from training.tabular.data import load_table
from training.tabular.evaluation import NetworkMethod, cross_validate
from training.tabular.learner import Rows
from training.tabular.network import build
from training.tabular.options import NetworkSettings
from training.text.data import TextData, TextSplit
from training.text.network import NetworkSettings as TextNetworkSettings
from training.text.vocabulary import make_tokenizer

PLAIN = Augment(flip=False, translate=0, cutout=0)
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
    task = LabelledImages(images(), images(6), PLAIN)
    settings = FitSettings(epochs=1, batch_size=batch_size, lr=0.1, clip=1.0, ema=0.0)
    state = fit(model, task, settings, folder, accelerator=accelerator, console=QUIET)
    return weights(model), state.history[0]["train_loss"]


class Disagreeing(LabelledImages):
    """Validation that stalls in the main process and gets ever better in the other."""

    def __init__(self, process):
        super().__init__(images(), images(6), PLAIN)
        self.process, self.calls = process, 0

    def validate(self, network, accelerator):
        self.calls += 1
        return {"loss": 1.0, "accuracy": 0.01 * self.calls * self.process}


def train_with_patience(accelerator, folder):
    torch.manual_seed(accelerator.process_index)
    model = CNN(Normalize.of(images()), (8, 8, 3), 3, widths=(4, 4), depth=1, dropout=0.1)
    settings = FitSettings(epochs=6, batch_size=8, lr=0.05, ema=0.5, patience=2)
    task = Disagreeing(accelerator.process_index)
    state = fit(model, task, settings, folder, accelerator=accelerator, console=QUIET)
    return state.epoch, state.best_epoch, weights(model)


def train_and_cross_validate(accelerator, folder):
    """As the recipe of tables does it: a training, and then those of the folds."""
    data = load_table("breast-cancer", None, limit=60)
    arguments = Namespace(track=None, resume=False, start_from=None, precision="float32")
    run = Run(arguments, QUIET, "tumours", data, folder, accelerator, Lineage())
    network, settings = NetworkSettings(hidden=(4,)), FitSettings(epochs=1, batch_size=15, lr=0.01)
    model = build(network, data.layout, data.train, len(data.classes), settings.seed)
    run.fit(model, Rows(data.train, data.validation, data.kind), settings)
    method = NetworkMethod(network, settings, data, folder / "folds", accelerator)
    return cross_validate({"network": method}, data.train, data.kind, settings.seed)["network"].mean


def learn_vocabulary(accelerator):
    """The other process has other texts, and must still get the main process's vocabulary."""
    words = ("oil", "wheat") if accelerator.is_main_process else ("gold", "copper")
    split = TextSplit(tuple(f"{word} prices rose" for word in words) * 20, np.arange(40) % 2)
    data = TextData("texts", ("a", "b"), split, split, split, "sha256:0")
    tokenizer, length = make_tokenizer(TextNetworkSettings(words=40), data, "bpe", accelerator)
    return tokenizer.to_str(), length


def main(folder):
    accelerator = Accelerator(cpu=True)
    results = {
        "prints": is_main_process(),
        "even": train_dense(accelerator, folder / "even", 8),
        "odd": train_dense(accelerator, folder / "odd", 7),
        "whole": train_dense(accelerator, folder / "whole", 100),
        "patience": train_with_patience(accelerator, folder / "patience"),
        "folds": train_and_cross_validate(accelerator, folder / "folds"),
        "vocabulary": learn_vocabulary(accelerator),
    }
    try:
        train_dense(accelerator, folder / "small", 1)
    except ValueError as error:
        results["small"] = str(error)
    torch.save(results, folder / f"{accelerator.process_index}.pt")
    end_processes()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
