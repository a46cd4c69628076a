"""quartet models: the models in a folder, what each is for and how good it is."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quartet.console import FAILED, MISUSED, did_you_mean, fail
from quartet.offline.printing import Printer
from service.inference.cards import ManifestBase
from service.inference.manifest import InvalidModel
from service.inference.versions import versions_in
from service.models import policies_of
from service.policy.file import InvalidPolicy, PolicyFiles
from service.policy.policy import Policy
from service.settings import Settings
from service.tasks.registry import Registry


def run(registry: Registry, settings: Settings, options: argparse.Namespace) -> int:
    """Prints the table.

    Args:
        registry: the tasks of the models.
        settings: name the folder of the models.
        options: `names` of the models to list (empty: all), and the `format`.

    Returns:
        0; 1 if there are none, or a version cannot be read; 2 for an unknown model.
    """
    folder = settings.models
    if not folder.is_dir():
        return fail(FAILED, f"there is no folder {folder}: name one with --models.")
    there = sorted(path.name for path in folder.iterdir() if path.is_dir() and versions_in(path))
    if missing := sorted({*options.names} - {*there}):
        return fail(MISUSED, f"{folder} holds no model {missing[0]}{did_you_mean(missing[0], there, 'it holds')}")
    if not there:
        return fail(FAILED, f"{folder} holds no models: `quartet train DATA --publish` puts one there.")
    printer, problems = Printer(options.format, below="description"), 0
    for name in options.names or there:
        for row in _describe(registry, folder / name, policies_of(settings), all_versions=bool(options.names)):
            problems += "problem" in row
            printer.add(row)
    printer.end()
    return FAILED if problems else 0


def _describe(
    registry: Registry, folder: Path, policies: PolicyFiles, *, all_versions: bool
) -> Iterator[dict[str, Any]]:
    """Yields a row per version of a model: all of them, or the default one, after it others until one is valid."""
    found = versions_in(folder)
    policy = Policy()
    try:
        policy = policies.read(folder.name)
    except InvalidPolicy as error:
        yield {"model": folder.name, "problem": str(error)}
    default = policy.default_of(found)
    for version in found if all_versions else sorted(found, key=lambda each: each != default):
        row: dict[str, Any] = {"model": folder.name, "version": version}
        aliases = [alias for alias, number in policy.aliases.items() if number == version]
        if named := ["default"] * (all_versions and version == default) + aliases:
            row["aliases"] = named
        try:
            manifest = registry.read_manifest(folder / version)
        except InvalidModel as error:
            yield row | {"problem": str(error)}
            continue
        yield row | _describe_manifest(registry, manifest)
        if not all_versions:
            return


def _describe_manifest(registry: Registry, manifest: ManifestBase) -> dict[str, Any]:
    return {
        "task": manifest.task,
        "answers": [operation.name for operation in registry.tasks[manifest.task].operations],
        "figures": manifest.headline,
        "variants": [variant.name for variant in manifest.variants],
        "description": manifest.description,
    }
