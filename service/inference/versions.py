"""Which versions of a model are loaded, and which of them answers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Newest:
    """The policy of the service: the newest good versions are loaded, and the newest of them answers.

    Another policy has the same two methods; the repository knows nothing else of versions.

    Attributes:
        count: how many versions of a name are loaded.
    """

    count: int = 1

    def candidates(self, found: Sequence[str]) -> list[str]:
        """The versions on disk in the order in which they are tried, until `count` are good."""
        return sorted(found, key=int, reverse=True)

    def resolve(self, loaded: Collection[str], wanted: str | None) -> str | None:
        """The version that answers.

        Args:
            loaded: the versions that are loaded, at least one.
            wanted: a version, the alias `latest`, or None where the caller does not mind.

        Returns:
            One of `loaded`; None where the one that is wanted is not among them.
        """
        if wanted is None or wanted == LATEST:
            return max(loaded, key=int)
        return wanted if wanted in loaded else None


@dataclass(frozen=True, slots=True)
class Exactly(Newest):
    """A policy for those who want one version and no other.

    Attributes:
        version: its number.
    """

    version: str = LATEST

    def candidates(self, found: Sequence[str]) -> list[str]:
        """See `Newest.candidates`."""
        return [self.version] if self.version in found else []


def versions_in(folder: Path) -> list[str]:
    """The version numbers below a model's folder, the highest first."""
    found = [path.name for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    return sorted(found, key=int, reverse=True)
