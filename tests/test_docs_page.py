"""The API page in a real browser that can only reach the server."""

import base64
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server import Server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_the_page_asks_for_nothing_from_elsewhere(server: Server):
    with server.client() as client:
        page = client.get("/docs")
        assert page.status_code == 200
        for address in re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)["']""", page.text):
            assert address.startswith("/"), address
            assert not address.startswith("//"), address
            asset = client.get(address)
            assert asset.status_code == 200, address
        assert not re.findall(r"""["'](?:https?:)?//[^"']+["']""", page.text)


def test_the_page_runs_nothing_but_its_own(server: Server):
    with server.client() as client:
        page = client.get("/docs")
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["referrer-policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    scripts = policy["script-src"].split(" ")
    (inline,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    assert scripts == ["'self'", f"'sha256-{digest}'"]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_the_page_renders_with_no_network(server: Server, tmp_path: Path):
    browser = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            f"--user-data-dir={tmp_path}",
            "--no-proxy-server",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--virtual-time-budget=20000",
            "--dump-dom",
            f"{server.url}/docs",
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert browser.returncode == 0, browser.stderr
    page = browser.stdout
    assert re.search(r'class="[^"]*opblock-post', page)
    for text in ("/v1/predict", "Classify images", "/v1/models", "/healthz/ready", "Quartet"):
        assert text in page
    assert "Failed to load" not in page
