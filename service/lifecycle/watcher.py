"""Follows the models folder: new, changed and removed versions, and policies."""

import os
from collections.abc import Mapping
from pathlib import Path

from service.inference.versions import Stamp, stamp_of, versions_in
from service.policy.file import FILE

# By the path below the models folder.
Snapshot = Mapping[str, Stamp]


class Watcher:
    """Tells when to load the models again.

    A version that is still being copied changes from one look to the next, so it is waited for.

    Args:
        folder: of the models.
        state: of the policies, if they are elsewhere.
    """

    def __init__(self, folder: Path, state: Path | None = None) -> None:
        self._folders = [folder] if state is None else [folder, state]
        self._loaded = self._seen = self._look()

    def changed(self) -> bool:
        """Whether something differs from what was loaded, and has not changed since the last call; reads the disk."""
        before, self._seen = self._seen, self._look()
        if self._seen in (self._loaded, None) or self._seen != before:
            return False
        self._loaded = self._seen
        return True

    def _look(self) -> Snapshot | None:
        """None if a folder cannot be read, as while it is mounted."""
        found: dict[str, Stamp] = {}
        try:
            for root in self._folders:
                for model in root.iterdir():
                    if not model.is_dir():
                        continue
                    for version in versions_in(model):
                        found[f"{root}/{model.name}/{version}"] = stamp_of(model / version)
                    policy = model / FILE
                    if policy.exists():
                        stat = os.stat(policy)
                        found[f"{root}/{model.name}"] = ((FILE, stat.st_mtime_ns, stat.st_size, stat.st_ino),)
        except OSError:
            return None
        return found
