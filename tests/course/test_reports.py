import json
import shutil

import pytest

from course.reports import main
from tests.server import ROOT


@pytest.fixture
def version(tmp_path):
    folder = tmp_path / "tabular" / "1"
    shutil.copytree(ROOT / "models" / "tabular" / "1", folder)
    return folder


def redraw(folder):
    main([str(folder), "--data", "breast-cancer"])


def test_pictures_are_drawn_in_place_and_nothing_else_changes(version):
    before = {path.name: path.read_bytes() for path in version.iterdir() if path.is_file()}
    picture = version / "report" / "importance.png"
    picture.unlink()
    redraw(version)
    assert picture.is_file()
    assert {path.name: path.read_bytes() for path in version.iterdir() if path.is_file()} == before
    committed = ROOT / "models" / "tabular" / "1" / "report"
    assert (version / "report" / "README.md").read_text() == (committed / "README.md").read_text()


def test_a_graph_that_does_not_reach_its_figures_is_refused(version):
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["metrics"]["accuracy"] = 0.5
    (version / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"reaches 0.96\d\d on these data, and 0.5000 in the manifest"):
        redraw(version)
