"""Real servers with keys: one that is made at the start, several workers, a file that changes, mistakes."""

import http.client
import re
from pathlib import Path

from service.access.keys import digest_of
from tests.keyed import bearer, write_keys
from tests.server import Server
from tests.test_shutdown import fail_to_start
from tests.test_workers import wait_for, workers


def status(server: Server, key: str | None, path: str = "/v1/models") -> int:
    """Of a request on a connection of its own, which any worker may get."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", path, headers=bearer(key) if key else {})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def test_a_server_that_others_reach_makes_a_key_that_all_workers_know(tiny_models: Path):
    server = Server(models=tiny_models, host="0.0.0.0", workers=2, threads=2)
    log = "".join(server.lines)
    (key,) = set(re.findall(r"quartet_[\w-]{43}", log))
    assert log.count(key) == 2  # alone, and in a command that can be copied
    assert f"curl -H 'Authorization: Bearer {key}' http://localhost:{server.port}/v1/models" in log
    assert {status(server, key) for _ in range(20)} == {200}
    assert {status(server, None) for _ in range(20)} == {401}
    assert status(server, digest_of(key)) == 401
    assert status(server, key, "/metrics") == 200
    assert status(server, None, "/healthz/ready") == 200
    # Other programs of the user can read a process's environment.
    assert not any(key in str(process.environ()) for process in workers(server))
    assert server.stop() == 0
    assert "".join(server.lines).count(key) == 2


def test_an_open_server_needs_no_key(tiny_models: Path):
    server = Server(models=tiny_models, host="0.0.0.0", open=1)
    assert status(server, None) == 200
    assert not re.search(r"quartet_[\w-]{43}", "".join(server.lines))
    assert server.stop() == 0


def test_workers_follow_one_file(tiny_models: Path, tmp_path: Path):
    keys = write_keys(tmp_path / "keys.toml", alice={})
    server = Server(models=tiny_models, keys=keys, workers=2, threads=2)
    assert {status(server, "alice") for _ in range(20)} == {200}
    write_keys(tmp_path / "new", bob={}).replace(keys)
    wait_for(lambda: {status(server, "bob") for _ in range(20)} == {200})
    wait_for(lambda: {status(server, "alice") for _ in range(20)} == {401})
    assert server.stop() == 0


def test_a_mistake_in_the_file_is_told_at_the_start(tiny_models: Path, tmp_path: Path):
    code, line = fail_to_start(models=tiny_models, keys=tmp_path / "keys.toml")
    assert code == 2
    assert f"QUARTET_KEYS: {tmp_path / 'keys.toml'} cannot be read: No such file or directory" in line
    (tmp_path / "keys.toml").write_text("\n[alice]\nscopes = ['infer']\n")
    for count in (1, 2):
        code, line = fail_to_start(models=tiny_models, keys=tmp_path / "keys.toml", workers=count)
        assert code == 2
        assert "keys.toml: line 2, 'alice': sha256 is missing" in line
