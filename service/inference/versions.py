"""Versions on disk."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from service.policy.file import InvalidPolicy, Policies
from service.policy.policy import NUMBER, Policy, newest_first


def versions_in(folder: Path) -> list[str]:
    """The version numbers below a model's folder, the highest first."""
    return newest_first([path.name for path in folder.iterdir() if NUMBER.fullmatch(path.name) and path.is_dir()])


# Name, time of the last change in nanoseconds, size in bytes and inode of each file.
Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]


def stamp_of(folder: Path) -> Stamp:
    """A stamp of the files of a version, which changes when one of them is written; empty if it cannot be read."""
    try:
        found = [(entry.name, entry.stat()) for entry in os.scandir(folder) if entry.is_file()]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in found))


def versions_to_open(found: Sequence[str], policy: Policy) -> list[str]:
    """Those of the versions on disk that a policy asks for, if all of them are good."""
    candidates, count = policy.candidates(found)
    return [version for version in dict.fromkeys([*policy.named, *candidates[:count]]) if version in found]


def folders_to_open(models: Path, policies: Policies) -> Iterator[Path]:
    """The folders of the versions that the policies of all models ask for; none if `models` cannot be read."""
    try:
        found = {folder: versions_in(folder) for folder in models.iterdir() if folder.is_dir()}
    except OSError:
        return
    for folder, versions in found.items():
        try:
            policy = policies.read(folder.name)
        except InvalidPolicy:
            continue
        yield from (folder / version for version in versions_to_open(versions, policy))
