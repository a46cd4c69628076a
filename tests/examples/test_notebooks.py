"""The notebooks of the course are clean files, and run from top to bottom in a kernel of their own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.examples.stand_ins import write_stand_ins
from tests.server import ROOT

FOLDER = ROOT / "examples" / "course"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECTIONS = sorted((ROOT / "docs" / "course").glob("[0-9]-*.md"))
# Seconds. Each takes about ten on a core that it has to itself.
TIMEOUT = 300

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_each_section_has_a_notebook_and_names_it():
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in SECTIONS]
    for section in SECTIONS:
        assert f"examples/course/{section.stem}.ipynb" in section.read_text(), section
        assert f"`{section.stem}.ipynb`" in (FOLDER / "README.md").read_text()


@every_notebook
def test_a_notebook_is_a_clean_file(path):
    written = path.read_text()
    notebook = nbformat.reads(written, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    # What an editor adds would make a difference of every run.
    assert json.dumps(json.loads(written), indent=1, ensure_ascii=False) + "\n" == written
    for cell in notebook.cells:
        assert re.fullmatch(r"[a-z0-9-]+", cell.id)
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), cell.id
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}


@every_notebook
def test_its_links_lead_somewhere(path):
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)", text)
    assert f"../../docs/course/{path.stem}.md" in links
    for link in links:
        assert "://" in link or (FOLDER / link).exists(), link


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folder of data sets: that of COURSE_DATA, or small ones in the same layout."""
    given = os.environ.get("COURSE_DATA")
    return Path(given).resolve() if given else write_stand_ins(tmp_path_factory.mktemp("course"))


@every_notebook
def test_a_notebook_runs_in_a_short_form(path, data, tmp_path):
    environment = {
        "COURSE_SHORT": "1",
        "COURSE_DATA": str(data),
        "HF_DATASETS_CACHE": str(tmp_path / "datasets"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    # What `jupyter execute` runs: a kernel, in the folder of the notebook.
    program = "from nbclient.cli import main; main()"
    limits = [f"--timeout={TIMEOUT}", f"--startup_timeout={TIMEOUT}"]
    command = [sys.executable, "-c", program, str(path), f"--output={tmp_path / 'executed.ipynb'}", *limits]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    code = [cell for cell in nbformat.read(tmp_path / "executed.ipynb", as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            assert "Warning" not in output.get("text", ""), f"{cell.id}: {output.text}"


@every_notebook
def test_a_notebook_checks_what_it_says(path):
    checks = [cell for cell in nbformat.read(path, as_version=4).cells if "check" in cell.metadata.get("tags", ())]
    assert len(checks) >= 3
    assert all("assert" in cell.source for cell in checks)
