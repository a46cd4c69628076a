from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.pictures import encode, photograph
from tests.tiny import write_model

CARD = """# classifier

| class | F1 |
|---|---|
| red | 0.9 |

![Curves](curves.png)

<script>alert(1)</script> [click](javascript:alert(2))
"""


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    """A models folder whose classifier has a card, a picture, and things that are nobody's business."""
    report = write_model(tmp_path / "models") / "report"
    (report / "README.md").write_text(CARD)
    (report / "curves.png").write_bytes(encode(photograph(8, 8)))
    (report / "notes.svg").write_text("<svg/>")
    (report / "secret.png").symlink_to("../manifest.json")
    (report / "deeper").mkdir()
    return tmp_path / "models"


@asynccontextmanager
async def served(models: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application with the models of a folder."""
    app = create_app(Settings(models=models, device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        yield client


async def test_the_card_is_html_without_scripts(reported: Path):
    async with served(reported) as client:
        card = await client.get("/v1/models/classifier/1/report")
        assert card.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in card.headers["content-security-policy"]
        assert "<td>red</td>" in card.text
        assert '<img src="curves.png" alt="Curves"' in card.text
        assert "<script" not in card.text
        assert 'href="javascript' not in card.text
        again = await client.get("/v1/models/classifier/1/report", headers={"if-none-match": card.headers["etag"]})
        assert again.status_code == 304


async def test_the_files_of_the_report_and_no_others(reported: Path):
    async with served(reported) as client:
        picture = await client.get("/v1/models/classifier/1/report/curves.png")
        assert picture.headers["content-type"] == "image/png"
        assert picture.content == (reported / "classifier/1/report/curves.png").read_bytes()
        assert (await client.get("/v1/models/classifier/1/report/README.md")).text == CARD
        for name in ("notes.svg", "secret.png", "deeper", "..%2Fmanifest.json", "%2e%2e%2fmodel.onnx", "absent.png"):
            answer = await client.get(f"/v1/models/classifier/1/report/{name}")
            assert answer.status_code == 404, name
            assert answer.headers["content-type"] == "application/problem+json"
        for path in ("classifier/2/report", "absent/1/report", "..%2F..%2Fetc/1/report/README.md"):
            assert (await client.get(f"/v1/models/{path}")).status_code == 404


async def test_a_model_may_have_no_report(tmp_path: Path):
    report = write_model(tmp_path) / "report"
    (report / "README.md").unlink()
    report.rmdir()
    async with served(tmp_path) as client:
        assert (await client.get("/v1/models/classifier/1/report")).status_code == 404
        assert (await client.get("/v1/models/classifier/1/report/README.md")).status_code == 404
