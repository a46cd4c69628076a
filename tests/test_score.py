"""quartet score: killed at any moment, it goes on, and neither loses nor doubles a row."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.server import ROOT, environment
from tests.tiny_text import write_topics

PATIENCE = 60  # seconds until a waiting test fails
ROWS = 60_000


def start(models: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "service", "score", *map(str, arguments)],
        cwd=ROOT,
        env=environment(models=models, device="cpu", threads=1),
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_kill_loses_and_doubles_nothing(tmp_path: Path):
    models, output = tmp_path / "models", tmp_path / "out.jsonl"
    write_topics(models)
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": f"oil {row}" if row % 1000 else ""}) + "\n" for row in range(ROWS)))
    parts = tmp_path / "out.jsonl.parts"
    for number, count in ((signal.SIGKILL, 1), (signal.SIGTERM, 2)):
        process = start(models, "topics", source, output, "-o", "top_k=1")
        end = time.monotonic() + PATIENCE
        while len(list(parts.glob("0*.jsonl"))) < count:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == (-9 if number == signal.SIGKILL else 143)
        assert not output.exists()
    assert "the same command resumes from here" in errors
    process = start(models, "topics", source, output, "-o", "top_k=1")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert f"{ROWS} rows, " in errors
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["row"] for row in rows] == list(range(ROWS))
    assert [row["row"] for row in rows if row["error"]] == list(range(0, ROWS, 1000))
    assert not parts.exists()
    process = start(models, "topics", source, output)
    assert "exists: move it away" in process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1
