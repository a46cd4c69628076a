import os

import pytest

from training.export import servers
from training.export.servers import Running, find_servers


@pytest.fixture
def processes(tmp_path, monkeypatch):
    folder = tmp_path / "proc"
    monkeypatch.setattr(servers, "_PROCESSES", folder)

    def add(pid, command, cwd, parent=1, **settings):
        process = folder / str(pid)
        process.mkdir(parents=True)
        (process / "cmdline").write_text("".join(f"{part}\0" for part in command))
        (process / "environ").write_text("".join(f"{name}={value}\0" for name, value in settings.items()))
        (process / "stat").write_text(f"{pid} (a (strange) name) S {parent} 1 1")
        os.symlink(cwd, process / "cwd")

    return add


def test_servers_of_a_folder_are_found_by_what_they_were_started_with(processes, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    processes(10, ["python", "-m", "service"], tmp_path)
    processes(11, ["python", "-m", "service"], tmp_path, parent=10)  # one of its workers
    processes(12, ["python", "/bin/quartet", "serve", "--models", "../models", "--port=9"], tmp_path / "proc")
    processes(13, ["python", "-m", "service"], "/", QUARTET_MODELS=str(models), QUARTET_PORT="81")
    processes(14, ["python", "-m", "service"], "/")
    processes(15, ["python", "-m", "service", "score", "x"], tmp_path)
    processes(16, ["quartet", "train", "x"], tmp_path)
    processes(17, [], tmp_path)
    assert find_servers(models) == [
        Running(10, "http://127.0.0.1:8000"),
        Running(12, "http://127.0.0.1:9"),
        Running(13, "http://127.0.0.1:81"),
    ]
