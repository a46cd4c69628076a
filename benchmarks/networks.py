"""The networks that comparisons of several processes serve: the committed CNN, and one that costs next to nothing."""

from pathlib import Path

from benchmarks.options import newest
from benchmarks.serving import golden_jpegs
from benchmarks.tiny import make_tiny


def networks(models: Path, scratch: Path) -> tuple[dict[str, Path], list[bytes]]:
    """Folders that hold a single model each, by what a table calls it, and the images that are sent to it.

    Args:
        models: the models folder.
        scratch: an empty folder.
    """
    folder = newest(models, "classifier")
    alone, tiny = scratch / "alone", scratch / "tiny"
    alone.mkdir()
    (alone / "classifier").symlink_to((models / "classifier").resolve())
    make_tiny(folder, tiny)
    return {"the committed CNN": alone, "a trivial network": tiny}, golden_jpegs(folder)
