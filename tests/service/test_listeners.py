"""Sockets that are bound before the models are loaded."""

import os
import socket
import stat
from pathlib import Path

import pytest

from service.listeners import CannotListen, bind
from service.settings import Settings


def test_a_unix_socket_is_for_its_owner_and_group_and_is_removed(tmp_path: Path):
    path = tmp_path / "q.sock"
    listeners = bind(Settings(uds=path))
    assert listeners.url == f"http+unix://{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(path))  # until the models are loaded
    listeners.close()
    assert not path.exists()


def test_the_socket_of_a_dead_server_is_replaced(tmp_path: Path):
    path = tmp_path / "q.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    listeners = bind(Settings(uds=path))
    listeners.main.listen()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listeners.close()


def test_the_socket_of_a_server_that_loads_its_models_is_left(tmp_path: Path):
    path = tmp_path / "q.sock"
    listeners = bind(Settings(uds=path))
    with pytest.raises(CannotListen, match=f"^another server listens on {path}: stop it, or set QUARTET_UDS"):
        bind(Settings(uds=path))
    assert path.is_socket()
    listeners.close()


@pytest.mark.parametrize("backlog", [0, 10], ids=["busy", "idle"])
def test_the_socket_of_another_program_is_left(tmp_path: Path, backlog: int):
    path = tmp_path / "q.sock"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(str(path))
        other.listen(backlog)
        client.connect(str(path))
        with pytest.raises(CannotListen, match=r"^another server listens"):
            bind(Settings(uds=path))
    assert path.is_socket()


@pytest.mark.parametrize("name", ["file", "nowhere/q.sock", "x" * 200])
def test_a_path_that_is_none_for_a_socket(tmp_path: Path, name: str):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(CannotListen, match=r"^cannot listen on .*: set QUARTET_UDS to a free path in a folder"):
        bind(Settings(uds=tmp_path / name))
    assert (tmp_path / "file").read_text() == "precious"


def test_the_path_of_a_url_is_quoted_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    listeners = bind(Settings(uds=Path("a b")))
    assert listeners.url == f"http+unix://{tmp_path}/a%20b"
    listeners.close()


def test_a_busy_port_for_metrics_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for workers in (1, 2):
            with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{port} .*QUARTET_METRICS_HOST or QUARTET_METRICS_P"):
                bind(Settings(port=0, metrics_port=port, workers=workers))


def test_what_the_log_says(tmp_path: Path):
    listeners = bind(Settings(port=0, metrics_port=0, tls_cert=tmp_path / "c", tls_key=tmp_path / "k"))
    assert listeners.metrics
    port, metrics = (each.getsockname()[1] for each in (listeners.main, listeners.metrics))
    assert listeners.describe() == (
        f"serving on https://127.0.0.1:{port}, to be opened in a browser; its API is described at /docs; "
        f"metrics and probes are on http://127.0.0.1:{metrics}"
    )
    listeners.close()


def test_workers_share_what_the_supervisor_has_bound(tmp_path: Path):
    first = bind(Settings(port=0, metrics_port=0, workers=2))
    assert first.metrics
    port, metrics = (each.getsockname()[1] for each in (first.main, first.metrics))
    second = bind(Settings(port=port, metrics_port=metrics), worker=True)
    assert second.url == first.url
    first.close()
    second.close()
    unix = bind(Settings(uds=tmp_path / "q.sock", workers=2))
    shared = bind(Settings(uds=tmp_path / "q.sock"), worker=True, unix=os.dup(unix.main.fileno()))
    assert shared.url == unix.url
    shared.close()
    assert (tmp_path / "q.sock").is_socket()  # it is the supervisor's
    unix.close()
