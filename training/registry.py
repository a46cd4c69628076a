"""The recipes by name. Nothing heavy is imported before a recipe is used, so that help is fast."""

import importlib
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.inference.cards import DataCard, ManifestBase, TrainingCard
    from training.options import Options
    from training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a recipe and its options are, as `package.module:NAME`; the module of the options imports nothing heavy."""

    name: str
    about: str
    options: str
    recipe: str


# In the order in which they are asked whether data is for them.
RECIPES: dict[str, Entry] = {}


def register(entry: Entry) -> None:
    """Adds a recipe; raises ValueError if another one has its name."""
    if RECIPES.get(entry.name, entry) != entry:
        raise ValueError(f"two recipes are called {entry.name}")
    RECIPES[entry.name] = entry


def options_type(name: str) -> "type[Options]":
    """The options of a recipe."""
    options: type[Options] = _load(RECIPES[name].options)
    return options


def recipe(name: str) -> "Recipe[Any, Any]":
    """A recipe."""
    kind: type[Recipe[Any, Any]] = _load(RECIPES[name].recipe)
    return kind()


def recipe_of(manifest: "ManifestBase") -> "Recipe[Any, Any]":
    """The recipe that makes versions with such a manifest; raises ValueError if there is none."""
    for name in RECIPES:
        found = recipe(name)
        if isinstance(manifest, found.manifests):
            return found
    raise ValueError(f"{manifest.name}: no recipe makes models of the task {manifest.task}")


def read_manifest(folder: Path) -> "ManifestBase":
    """The manifest of a version, also of a recipe from outside; raises InvalidModel if it is missing or invalid."""
    from service.inference.manifest import read_manifest as read
    from service.tasks.registry import BUILT_IN

    kinds = {name: task.manifest for name, task in BUILT_IN.tasks.items()}
    for name in RECIPES.keys() - kinds.keys():
        kinds |= {kind.model_fields["task"].default: kind for kind in recipe(name).manifests}
    return read(folder, kinds)


def data_of(manifest: "ManifestBase") -> "DataCard":
    """The data that a version was trained or measured on; raises ValueError if it was adopted without data."""
    if manifest.data is None:
        raise ValueError(f"{manifest.name}: was adopted, not trained here, and has no data to compare with")
    return manifest.data


def training_of(manifest: "ManifestBase") -> "TrainingCard":
    """How a version was trained; raises ValueError if it was adopted."""
    if manifest.training is None:
        raise ValueError(f"{manifest.name}: was adopted, not trained here: its training is unknown")
    return manifest.training


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


for _name, _about, _class in (
    ("detection", "images with boxes", "Detection"),
    ("classification", "images of classes", "Classification"),
    ("autoencoder", "images alone, to encode and to generate", "Autoencoder"),
    ("text", "texts of classes", "Text"),
    ("tabular", "a table with a column to predict", "Tabular"),
):
    register(
        Entry(_name, _about, f"training.{_name}.options:{_class}Options", f"training.{_name}.recipe:{_class}Recipe")
    )
# Other packages add recipes by entry points of this group, each of which names an `Entry`.
for _found in entry_points(group="quartet.recipes"):
    register(_found.load())
