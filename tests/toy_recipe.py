"""A recipe from outside the package, in one module: names of colours, for the task of `tests.toy`.

The data is a text file with a colour and its name in each line, such as `#e6141e red`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from service.inference.cards import GoldenCard, Use
from service.inference.manifest import GOLDEN, MODEL, sha256
from tests.toy import ColourManifest
from training.data.dataset import DataError, Inspection
from training.data.splits import hold_out, split_validation
from training.engine.learner import Learner
from training.engine.processes import in_parts
from training.engine.settings import FitSettings
from training.export import history
from training.export.cards import data_card, training_card
from training.export.graph import export, write_golden
from training.options import Options, override
from training.recipe import Draft, Recipe
from training.registry import Entry

SIDE = 8
DEFAULTS = FitSettings(epochs=8, batch_size=16, optimizer="adamw", lr=0.05, ema=0.0)
ENTRY = Entry("colours", "colours and their names", "tests.toy_recipe:ColourOptions", "tests.toy_recipe:ColourRecipe")


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The network.

    Attributes:
        hidden: units of the hidden layer.
    """

    hidden: int = 16


@dataclass(frozen=True, kw_only=True)
class ColourOptions(Options):
    """Trains on colours and their names.

    Attributes:
        network: of the network.
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)


@dataclass(frozen=True)
class Colours:
    """Colours, uint8, shape (n, 3), and the indices of their names."""

    values: Any
    labels: Any

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Any) -> "Colours":
        return Colours(self.values[indices], self.labels[indices])


@dataclass(frozen=True)
class ColourData:
    name: str
    classes: tuple[str, ...]
    train: Colours
    validation: Colours
    test: Colours
    fingerprint: str
    inspection: Inspection

    @property
    def division(self) -> Any:
        return split_validation(self.validation.labels)


class ColourNetwork(nn.Module):
    """Means of the channels to logits; as a graph, images to probabilities."""

    def __init__(self, classes: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, colours: torch.Tensor) -> torch.Tensor:
        return self.layers(colours.float() / 255 - 0.5)


class ColourGraph(nn.Module):
    def __init__(self, network: ColourNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images.float().mean((1, 2))).softmax(1)


class ColourLearner(Learner):
    unit = "colours"
    score = "accuracy"

    def __init__(self, train: Colours, validation: Colours) -> None:
        self.train, self.validation = train, validation

    def __len__(self) -> int:
        return len(self.train)

    def batch(self, items, epoch, rng):
        chosen = self.train.take(items.numpy())
        return {"colours": torch.from_numpy(chosen.values), "labels": torch.from_numpy(chosen.labels)}

    def loss(self, network, batch, step):
        return F.cross_entropy(network(batch["colours"]), batch["labels"]), {}

    @torch.no_grad()
    def validate(self, network, accelerator):
        device = next(network.parameters()).device

        def right(indices):
            chosen = self.validation.take(indices)
            found = network(torch.from_numpy(chosen.values).to(device)).argmax(1).cpu().numpy()
            return list(found == chosen.labels)

        return {"accuracy": float(np.mean(in_parts(accelerator, len(self.validation), right)))}


class ColourRecipe(Recipe[ColourOptions, ColourData]):
    name = "colours"
    items = "colours"
    manifests = (ColourManifest,)

    def model_name(self, options: ColourOptions) -> str:
        return "namer"

    def load(self, options: ColourOptions) -> ColourData:
        rows = [line.split() for line in Path(options.data).read_text().splitlines()]
        if any(len(row) != 2 for row in rows):
            raise DataError(f"{options.data}: needs a colour and its name in each line, such as `#e6141e red`.")
        classes = tuple(sorted(Counter(name for _, name in rows)))
        values = np.array([list(bytes.fromhex(colour[1:])) for colour, _ in rows], np.uint8)
        items = Colours(values, np.array([classes.index(name) for _, name in rows]))
        parts = {}
        for split in ("test", "validation"):
            kept, taken = hold_out(options.data, split, len(items), 0.2, 0, items.labels)
            items, parts[split] = items.take(kept), items.take(taken)
        digest = f"sha256:{sha256(Path(options.data))}"
        return ColourData("colours", classes, items, parts["validation"], parts["test"], digest, Inspection())

    def draw(self, data: ColourData) -> Image.Image:
        return Image.fromarray(data.train.values[None, :8])

    def describe(self, data: ColourData) -> str:
        return f", {len(data.classes)} names"

    def settings(self, options: ColourOptions, data: ColourData) -> FitSettings:
        return override(DEFAULTS, options.fit)

    def build(self, run: Any) -> ColourNetwork:
        torch.manual_seed(run.settings.seed)
        return ColourNetwork(len(run.data.classes), run.options.network.hidden)

    def learner(self, run: Any, network: nn.Module) -> ColourLearner:
        selection, _ = run.data.division
        return ColourLearner(run.data.train, run.data.validation.take(selection))

    def drafts(self, run: Any, network: Any, state: Any) -> Sequence[Draft]:
        return [Draft(name=run.name, write=partial(write, run, network, state), network=network)]


def write(run: Any, network: ColourNetwork, state: Any, folder: Path) -> ColourManifest:
    data, graph, card = run.data, ColourGraph(network).eval(), GoldenCard(rows=4, atol=1e-4)
    images = np.broadcast_to(data.test.values[:, None, None], (len(data.test), SIDE, SIDE, 3)).copy()
    names: dict[str, Any] = {"input_name": "images", "output_names": ("probabilities",)}
    inputs, outputs, _ = export(graph, images, folder / MODEL, max_batch=16, card=card, **names)
    write_golden(graph, images[:4], folder / GOLDEN, **names)
    stated = run.stated(run.options.network)
    return ColourManifest(
        name=run.name,
        description="names of colours",
        labels=data.classes,
        side=SIDE,
        inputs=(inputs,),
        outputs=outputs,
        max_batch=16,
        data=data_card(data),
        training=training_card("python -m training colours", stated, state, network),
        history=run.history(stated, state, Use(split="test", purpose=history.FIGURES, items=len(data.test))),
        golden=card,
        files={},
    )
