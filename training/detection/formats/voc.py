"""Pascal VOC: an XML file for each image; pixels count from 1 and the last one is inside the box."""

import xml.parsers.expat
from pathlib import Path
from xml.etree import ElementTree

from training.data.tables import split_of
from training.detection.formats.raw import RawBox, RawData, Tree

# Lists of splits. Beside them there is one for each class (cat_train.txt), and one of train and validation together.
_LISTS = ("train", "val", "valid", "validation", "test")


def find_voc(tree: Tree) -> list[Path]:
    """The files that may be of this format."""
    found = tree.ending(".xml")
    return found if any(b"<annotation" in path.read_bytes()[:4096] for path in found[:20]) else []


def read_voc(tree: Tree, files: list[Path]) -> RawData:
    """Reads an XML file for each image; the splits are those of the lists in ImageSets, or of the folders."""
    data = RawData()
    listed = _listed(tree, {path.stem.lower() for path in files})
    used = set()
    for path in files:
        splits = listed.get(path.stem.lower(), []) if listed else [tree.split(path) or "train"]
        if not splits:
            continue
        try:
            root = _parsed(path)
        except (OSError, xml.parsers.expat.ExpatError) as error:
            data.problems.add(str(path), f"cannot be read as Pascal VOC XML: {error}")
            continue
        name, boxes = root.findtext("filename") or path.stem, _boxes(root, path, data)
        # Images are renamed together with their files more often than what these state is.
        image = tree.find(path.stem, path) or tree.find(name, path)
        used.add(image)
        for split in splits:
            data.add(split, image, name, boxes, path)
    rest = sum(path not in used for path in tree.images)
    if rest and not listed:
        data.inspection.notes.append(f"{rest:,} images have no XML file: they are not used")
    return data


def _listed(tree: Tree, stems: set[str]) -> dict[str, list[str]]:
    """The splits of each image, by its stem, from `ImageSets/Main/train.txt` and the other lists."""
    found: dict[str, list[str]] = {}
    for path in tree.ending(".txt"):
        split = split_of(path.stem)
        if split and path.parent.name.lower() == "main" and path.stem.lower() in _LISTS:
            for words in filter(None, map(str.split, path.read_text().splitlines())):
                stem = Path(words[0]).stem.lower()
                if stem in stems:
                    found.setdefault(stem, []).append(split)
    return found


def _parsed(path: Path) -> ElementTree.Element:
    """The document, its tags in lower case; each element has the attribute `line`."""
    parser, builder = xml.parsers.expat.ParserCreate(), ElementTree.TreeBuilder()
    parser.StartElementHandler = lambda tag, _: builder.start(tag.lower(), {"line": str(parser.CurrentLineNumber)})
    parser.EndElementHandler = lambda tag: builder.end(tag.lower())
    parser.CharacterDataHandler = builder.data
    parser.Parse(path.read_bytes(), True)
    return builder.close()


def _boxes(root: ElementTree.Element, path: Path, data: RawData) -> list[RawBox]:
    boxes = []
    for element in root.findall("object"):
        values = [element.findtext(tag) for tag in ("bndbox/xmin", "bndbox/ymin", "bndbox/xmax", "bndbox/ymax", "name")]
        *corners, label = [(value or "").strip() for value in values]
        origin, needed = f"{path}:{element.get('line')}", "the object needs a name and a bndbox"
        try:
            x_min, y_min, x_max, y_max = map(float, corners)
        except ValueError as error:
            data.problems.add(origin, f"{needed} ({error})")
            continue
        if label:
            boxes.append(RawBox((x_min - 1, y_min - 1, x_max, y_max), label, origin))
        else:
            data.problems.add(origin, needed)
    return boxes
