import functools
import http.server
import threading
import zipfile

import pytest

from training.data.dataset import DataError
from training.data.sources import locate, name_of


@pytest.fixture
def site(tmp_path):
    """The URL of a server of the files in `tmp_path`, and what was asked of it."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_a_url_is_downloaded_once(tmp_path, site):
    url, asked = site
    (tmp_path / "리뷰.csv").write_text("a\n1\n")
    source = f"{url}/%EB%A6%AC%EB%B7%B0.csv"
    for _ in range(2):
        path = locate(source, "")
        assert (path.name, path.read_text()) == ("리뷰.csv", "a\n1\n")
    assert len(asked) == 1
    assert name_of(source) == "리뷰"
    with pytest.raises(DataError, match=r"gone\.csv: cannot be downloaded: .*404"):
        locate(f"{url}/gone.csv", "")


def test_names_that_windows_in_korea_wrote(tmp_path):
    class Entry(zipfile.ZipInfo):
        def _encodeFilenameFlags(self):  # noqa: N802 - zipfile's own, which would say that it is UTF-8
            return self.filename.encode("cp949"), self.flag_bits & ~0x800

    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(Entry("고양이/1.txt"), "x")
        archive.writestr(Entry("__MACOSX/1.txt"), "x")
    folder = locate(str(tmp_path / "set.zip"), "")
    assert (folder.name, [path.name for path in folder.iterdir()]) == ("고양이", ["1.txt"])
    assert name_of(str(tmp_path / "set.zip")) == "set"


def test_an_archive_that_is_none(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"set\.zip: cannot be unpacked"):
        locate(str(tmp_path / "set.zip"), "")


def test_a_path_is_not_taken_for_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate("uoft-cs/cifar10", "") is None
    (tmp_path / "file.csv").touch()
    assert locate("file.csv", "") is not None
    with pytest.raises(DataError, match=r"\./none: no such file or folder\. Give one\."):
        locate("./none", "Give one.")
    for name in ("./file.csv", "file.csv"):
        with pytest.raises(DataError, match=rf"{name}: is a file where a folder is needed\. Give one\."):
            locate(name, "Give one.", folder=True)
