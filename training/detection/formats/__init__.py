"""Annotated images as they lie on disk or on the hub, in any of the usual formats.

Every box keeps its origin (file and line, or row), so that an invalid one can be found.
"""

from collections.abc import Callable
from pathlib import Path

from training.data import hub
from training.data.dataset import DataError
from training.data.recognise import Recognised, Source
from training.data.sources import locate
from training.detection.formats.json_files import find_coco, find_labelme, read_coco, read_labelme
from training.detection.formats.raw import RawData, Tree
from training.detection.formats.tables import find_boxes_tables, read_boxes_tables, read_hub
from training.detection.formats.voc import find_voc, read_voc
from training.detection.formats.yolo import find_yolo, read_yolo

_FORMATS: dict[str, tuple[Callable[[Tree], list[Path]], Callable[[Tree, list[Path]], RawData]]] = {
    "COCO JSON": (find_coco, read_coco),
    "Pascal VOC XML": (find_voc, read_voc),
    "LabelMe JSON": (find_labelme, read_labelme),
    "YOLO": (find_yolo, read_yolo),
    "a table of boxes": (find_boxes_tables, read_boxes_tables),
}


def _find_format(tree: Tree) -> tuple[str, list[Path]]:
    return next(((name, files) for name, (find, _) in _FORMATS.items() if (files := find(tree))), ("", []))


def recognise_boxes(source: Source) -> Recognised | None:
    """Whether a source holds images with boxes."""
    if source.features and hub.image_columns(source.features)[0] and "objects" in source.features:
        return Recognised("detection", "a column of images and one of boxes")
    name, files = _find_format(Tree(source.folder)) if source.folder else ("", [])
    return Recognised("detection", f"boxes: {name} in {len(files):,} files") if name else None


def read(source: str, *, needs_train: bool = True) -> RawData:
    """Reads a source in any of the formats.

    Args:
        source: a hub id, a URL or an archive, or a folder with parquet files; or with images and COCO JSON, Pascal VOC
            XML, LabelMe JSON, YOLO labels or a table of boxes, in the usual folders or beside them. Names of files
            are found whatever their case. Folders and files named after splits hold these splits.
        needs_train: whether one of them has to be for training.

    Returns:
        What was found; unusable images and boxes are its `problems`.

    Raises:
        DataError: no such folder, no known format, or a file of annotations that cannot be parsed; names it.
    """
    folder = locate(source, "Give a hub id or a folder of annotated images.", folder=True)
    if folder is None or any(folder.rglob("*.parquet")):
        return read_hub(str(folder or source))
    tree = Tree(folder)
    name, files = _find_format(tree)
    if not name:
        raise DataError(
            f"{source}: no annotated images found, but {tree.summary}. Give parquet files, COCO JSON "
            "('train/_annotations.coco.json' or 'annotations/instances_train.json'), a YOLO data.yaml, or Pascal VOC "
            "('Annotations/*.xml'), LabelMe JSON or a table of boxes (filename, xmin, ymin, xmax, ymax, class)."
        )
    data = _FORMATS[name][1](tree, files)
    data.inspection.notes.insert(0, f"{name} in {len(files):,} files; {tree.summary}")
    if not (data.splits.get("train") if needs_train else any(data.splits.values())):
        found = f"{source}: has no training images (splits: {', '.join(data.splits) or 'none'})."
        raise DataError("\n  ".join([found, *data.problems.shown]))
    if not data.classes:
        data.classes = tuple(sorted({box.label for image in data.splits.get("train", ()) for box in image.boxes}))
    return data
