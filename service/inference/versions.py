"""Versions on disk, and the policies: which versions of a model are loaded, and which of them answers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest `count` good versions are loaded, and the newest of them answers."""

    count: int = 1

    def candidates(self, found: Sequence[str]) -> list[str]:
        """The versions on disk in the order in which they are tried until `count` are good."""
        return sorted(found, key=int, reverse=True)

    def resolve(self, loaded: Collection[str], wanted: str | None) -> str | None:
        """The version that answers; None if it is not loaded.

        Args:
            loaded: the loaded versions.
            wanted: a version, the alias `latest`, or None for the default.
        """
        if wanted is None or wanted == LATEST:
            return max(loaded, key=int, default=None)
        return wanted if wanted in loaded else None


@dataclass(frozen=True, slots=True)
class Exactly(Newest):
    """A single version is loaded, the one with the number `version`."""

    version: str = LATEST

    def candidates(self, found: Sequence[str]) -> list[str]:
        """The version, if it is on disk."""
        return [self.version] if self.version in found else []


def versions_in(folder: Path) -> list[str]:
    """The version numbers below a model's folder, the highest first."""
    found = [path.name for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    return sorted(found, key=int, reverse=True)


def newest_versions(models: Path) -> list[Path]:
    """The folder of each model's highest version; empty if `models` cannot be read."""
    try:
        versions = {folder: versions_in(folder) for folder in models.iterdir() if folder.is_dir()}
    except OSError:
        return []
    return [folder / found[0] for folder, found in versions.items() if found]
