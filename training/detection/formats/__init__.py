"""Annotated images as they lie on disk or on the hub, in any of the usual formats.

Every box keeps its origin (file and line, or row), so that an invalid one can be found.
"""

from collections.abc import Callable
from pathlib import Path

from training.data import hub
from training.data.dataset import DataError
from training.data.recognise import Recognised, Source
from training.data.sources import locate
from training.detection.formats.boxes_table import find_boxes_tables, read_boxes_tables
from training.detection.formats.coco import find_coco, read_coco
from training.detection.formats.labelme import find_labelme, read_labelme
from training.detection.formats.parquet import read_hub
from training.detection.formats.raw import RawBox, RawData, RawImage
from training.detection.formats.tree import IMAGE_SUFFIXES, Tree
from training.detection.formats.voc import find_voc, read_voc
from training.detection.formats.yolo import find_yolo, read_yolo

__all__ = ["IMAGE_SUFFIXES", "RawBox", "RawData", "RawImage", "Tree", "find_format", "read", "recognise_boxes"]

Finder = Callable[[Tree], list[Path]]
Reader = Callable[[Tree, list[Path]], RawData]

_FORMATS: dict[str, tuple[Finder, Reader]] = {
    "COCO JSON": (find_coco, read_coco),
    "Pascal VOC XML": (find_voc, read_voc),
    "LabelMe JSON": (find_labelme, read_labelme),
    "YOLO": (find_yolo, read_yolo),
    "a table of boxes": (find_boxes_tables, read_boxes_tables),
}


def find_format(tree: Tree) -> tuple[str, list[Path]] | None:
    """The format of the boxes in a folder, and the files that hold them; None if there are no boxes."""
    for name, (find, _) in _FORMATS.items():
        if files := find(tree):
            return name, files
    return None


def recognise_boxes(source: Source) -> Recognised | None:
    """Whether a source holds images with boxes."""
    if source.features and hub.image_columns(source.features)[0] and "objects" in source.features:
        return Recognised("detection", "a column of images and one of boxes")
    if not source.folder or not (found := find_format(Tree(source.folder))):
        return None
    name, files = found
    return Recognised("detection", f"boxes: {name} in {len(files):,} files")


def read(source: str) -> RawData:
    """Reads a source in any of the formats.

    Args:
        source: a hub id, a URL or an archive, or a folder with parquet files; or with images and COCO JSON, Pascal VOC
            XML, LabelMe JSON, YOLO labels or a table of boxes, in the usual folders or beside them. Names of files
            are found whatever their case. Folders and files named after splits hold these splits.

    Returns:
        What was found; unusable images and boxes are its `problems`.

    Raises:
        DataError: no such folder, no known format, or a file of annotations that cannot be parsed; names it.
    """
    folder = locate(source, "Give a hub id or a folder of annotated images.", folder=True)
    if folder is None:
        return read_hub(source)
    if any(folder.rglob("*.parquet")):
        return read_hub(str(folder))
    tree = Tree(folder)
    found = find_format(tree)
    if found is None:
        raise DataError(
            f"{source}: no annotated images found, but {tree.summary()}. Give parquet files, COCO JSON "
            "('train/_annotations.coco.json' or 'annotations/instances_train.json'), a YOLO data.yaml, or Pascal VOC "
            "('Annotations/*.xml'), LabelMe JSON or a table of boxes (filename, xmin, ymin, xmax, ymax, class)."
        )
    name, files = found
    data = _FORMATS[name][1](tree, files)
    data.inspection.notes.insert(0, f"{name} in {len(files):,} files; {tree.summary()}")
    if not data.splits.get("train"):
        problems = "\n  ".join(data.problems.shown)
        raise DataError(
            f"{source}: has no training images (splits: {', '.join(data.splits) or 'none'})."
            + (f"\n  {problems}" if problems else "")
        )
    if not data.classes:
        data.classes = tuple(sorted({box.label for image in data.splits["train"] for box in image.boxes}))
    return data
