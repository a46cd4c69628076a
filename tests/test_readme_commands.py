"""The commands of README.md, run as printed and in order, in a clone that has only what they install."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import onnx
import pytest
from onnx import TensorProto, helper

from tests.server import ROOT, environment

PATIENCE = 300  # seconds until a waiting test fails
FENCE = re.compile(r"```sh\n(.*?)```", re.DOTALL)
URL = "http://127.0.0.1:8000"
SERVERS = ("make serve", ".venv/bin/quartet serve")
# Installs several gigabytes, so only its recipe is resolved.
LARGE = ("make test", "make install-gpu", "make training")
# Needs a GPU; test_documented_commands.py checks the options.
GPU = (
    "QUARTET_DEVICE=cuda .venv/bin/quartet doctor",
    "QUARTET_DEVICE=cuda make serve",
)
TRAIN = ".venv/bin/quartet train "
# Compares the answers to live requests.
WAIT = ".venv/bin/quartet models promote mine --if-agreement "
OUTPUTS = {
    "found.png": b"\x89PNG",
    "sevens.png": b"\x89PNG",
    "models/mine/1/manifest.json": b"{",
    "models/mine/2/manifest.json": b"{",
}


def commands() -> list[str]:
    blocks = "".join(FENCE.findall((ROOT / "README.md").read_text())).replace("\\\n", " ")
    return [line.partition(" #")[0].strip() for line in blocks.splitlines()]


def shell(command: str, folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=clean_environment(**settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def clean_environment(**settings: object) -> dict[str, str]:
    """The environment of a new shell: nothing of this test run's interpreter or of a `make` around it."""
    inherited = environment(host="127.0.0.1", port=0, device="cpu", **settings)
    foreign = ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    base = getattr(sys, "_base_executable", sys.executable)
    return {name: value for name, value in inherited.items() if name not in foreign} | {"PYTHON": base}


class Foreground:
    """A server that was started in a terminal.

    Attributes:
        url: where it answers.
    """

    def __init__(self, command: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=clean_environment(),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self._lines: list[str] = []
        watchdog = threading.Timer(PATIENCE, self._kill)
        watchdog.start()
        try:
            for line in self._process.stderr:
                self._lines.append(line)
                if found := re.search(r"serving on (http://[^\s,]+)", line):
                    self.url = found[1]
                    break
            else:
                pytest.fail(f"{command}:\n{''.join(self._lines)}")
        finally:
            watchdog.cancel()
        self._reader = threading.Thread(target=self._lines.extend, args=(self._process.stderr,))
        self._reader.start()

    def _kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ends it as Ctrl-C does."""
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(PATIENCE)
        finally:
            if self._process.poll() is None:
                self._kill()
                self._process.wait()
            self._reader.join()
            if self._process.stderr:
                self._process.stderr.close()


@contextmanager
def asking(url: str) -> Iterator[None]:
    """Asks the model again and again for as long as it lasts."""
    ended = threading.Event()
    document = {"texts": [f"{word} report {number}" for word in ("wheat", "crude") for number in range(20)]}

    def ask() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as client:
            while not ended.wait(0.02):
                client.post("/v1/classify-text", params={"model": "mine"}, json=document)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the files that git would commit, in a folder called quartet, with texts in ../my-data."""
    folder = tmp_path_factory.mktemp("home") / "quartet"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    # A model that somebody has.
    nodes = [helper.make_node("Softmax", ["petals"], ["species"], axis=-1)]
    shape = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("petals", "species")
    }
    graph = helper.make_graph(nodes, "flowers", [shape["petals"]], [shape["species"]])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "flowers.onnx")
    for label, words in (("grain", ("wheat", "maize", "corn")), ("oil", ("crude", "barrels", "petroleum"))):
        for number in range(60):
            path = folder.parent / "my-data" / label / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{words[number % 3]} and {words[number % 2]}, report {number}")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def served(clone: Path) -> Iterator[Foreground]:
    """What `make serve` installs and starts."""
    server = Foreground("make serve", clone)
    yield server
    server.stop()


def test_every_command_of_the_readme_works(clone: Path, served: Foreground):
    printed = commands()
    assert printed[0] == "make serve"
    assert {*LARGE, *GPU, *SERVERS} <= set(printed)
    url, later = served.url, None
    try:
        for command in printed[1:]:
            if command in LARGE:
                done = shell(f"make --dry-run {command.removeprefix('make ')}", clone)
            elif command in GPU:
                continue
            elif command in SERVERS:
                later = Foreground(command, clone)
                url = later.url
                continue
            elif command.startswith(WAIT):
                assert later is not None
                with asking(later.url):
                    done = shell(command, clone, server=url)
            elif command.startswith(TRAIN):
                # torch is not installed here; the environment of the tests has it.
                trainer = f"{sys.executable} -m quartet.command_line train {command.removeprefix(TRAIN)}"
                done = shell(trainer, clone)
            else:
                done = shell(command.replace(URL, url), clone, server=url)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            if command.startswith("curl") and " -o " not in command:
                assert "results" in json.loads(done.stdout), command
        for name, start in OUTPUTS.items():
            assert (clone / name).read_bytes().startswith(start)
        assert later is not None
        asked = shell(
            f"curl -d 'wheat and corn' -H 'Content-Type: text/plain' {later.url}/v1/classify-text?model=mine", clone
        )
        answer = json.loads(asked.stdout)
        assert answer["results"][0]["labels"][0]["label"] == "grain"
        assert answer["version"] == "1"  # promoted and rolled back
        log = (clone / "models" / "mine" / "audit.jsonl").read_text()
        assert all(change in log for change in ("publish 2 as candidate", "shadow candidate", "rollback"))
    finally:
        if later is not None:
            later.stop()


def test_the_client_is_imported_from_the_folder_that_holds_the_clone(clone: Path, served: Foreground):
    program = f"import quartet; print(quartet.Client('{served.url}').predict('quartet/examples/cat.jpg').label)"
    done = shell(f'quartet/.venv/bin/python -c "{program}"', clone.parent)
    assert (done.stdout, done.stderr) == ("cat\n", "")


def test_a_command_whose_libraries_are_missing_says_how_to_install_them(clone: Path, served: Foreground):
    for command, extra in (("train ../my-data", "training"), ("score topics x.jsonl y.parquet", "score")):
        (clone / "x.jsonl").write_text('{"text": "wheat"}\n')
        done = shell(f".venv/bin/quartet {command}", clone)
        assert done.returncode == 1
        install = rf"\.venv/bin/python[0-9.]* -m pip install -c constraints\.txt -e '\.\[{extra}\]'"
        assert re.search(install, done.stderr.splitlines()[-1])
        assert not (clone / "y.parquet.parts").exists()
    done = shell(".venv/bin/quartet score topics x.jsonl y.jsonl -o top_k=1", clone)
    assert done.returncode == 0, done.stderr
