"""The servers of this machine that serve a folder of models, as Linux lists its processes."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROCESSES = Path("/proc")


@dataclass(frozen=True, slots=True)
class Running:
    """A server.

    Attributes:
        pid: of the process that takes signals.
        url: where it answers.
    """

    pid: int
    url: str


def find_servers(models: Path) -> list[Running]:
    """The servers that have a folder of models; none where processes cannot be listed.

    Args:
        models: the folder.
    """
    found: dict[int, tuple[int, str]] = {}
    for process in _PROCESSES.glob("[0-9]*"):
        # Processes end, and those of others cannot be read.
        with suppress(OSError, ValueError):
            command = (process / "cmdline").read_bytes().decode().split("\0")[:-1]
            if not _serves(command):
                continue
            lines = (process / "environ").read_bytes().decode(errors="replace").split("\0")
            settings = dict(line.partition("=")[::2] for line in lines if line.startswith("QUARTET_"))
            folder = _option(command, "--models") or settings.get("QUARTET_MODELS", "models")
            if (Path(os.readlink(process / "cwd")) / folder).resolve() != models.resolve():
                continue
            port = _option(command, "--port") or settings.get("QUARTET_PORT", "8000")
            host = settings.get("QUARTET_HOST", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")  # noqa: S104
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(process.name)] = (parent, f"http://{host}:{port}")
    # Of several processes on one port, the one that started the others takes the signals.
    return [Running(pid, url) for pid, (parent, url) in sorted(found.items()) if parent not in found]


def _serves(command: Sequence[str]) -> bool:
    names = [Path(part).name for part in command[:3]]
    if "quartet" in names:
        return "serve" in command
    if command[1:3] != ["-m", "service"]:
        return False
    return len(command) == 3 or command[3] == "serve" or command[3].startswith("-")


def _option(command: Sequence[str], name: str) -> str | None:
    for index, part in enumerate(command):
        if part == name and index + 1 < len(command):
            return command[index + 1]
        if part.startswith(f"{name}="):
            return part.partition("=")[2]
    return None
