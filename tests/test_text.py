"""The real server with the committed text classifier: articles as a news agency writes them."""

import httpx
import pytest

from service.tasks.registry import read_manifest
from tests.server import ROOT, Server

FOLDER = ROOT / "models" / "topics" / "1"

# Written for this test, in the manner of the Reuters wire of 1987: with capitals, figures and punctuation.
CRUDE = """OPEC MINISTERS AGREE TO CUT OIL OUTPUT

    GENEVA, March 12 - OPEC's oil ministers agreed to lower the group's crude oil production ceiling to 15.8 mln
barrels per day (bpd) in the first half of the year, from 16.6 mln bpd, and to keep the official price of
18 dlrs a barrel. "The market will be in balance by June," Saudi Arabia's Oil Minister Hisham Nazer told
reporters. Kuwait and the United Arab Emirates said they would not produce above their quotas.
"""
EARN = """<ACME INDUSTRIES INC> 4TH QTR NET

    DAYTON, Ohio, Feb 26 -
    Shr 45 cts vs 31 cts
    Net 4,512,000 vs 3,087,000
    Revs 61.2 mln vs 48.9 mln
    Year
    Shr 1.62 dlrs vs 1.20 dlrs
    Net 16.3 mln vs 12.0 mln
    NOTE: 1986 results include a gain of 12 cts a share from the sale of a subsidiary.
"""
ACQ = """NORTHERN FOODS TO ACQUIRE BAKERY CHAIN

    LONDON, April 2 - Northern Foods Plc said it has agreed to buy privately held Miller Bakeries Ltd for 42.5 mln
stg in cash and shares. The acquisition is subject to approval by shareholders of both companies and is expected to
be completed by the end of May. Northern already owns 9.8 pct of Miller's stock.
"""
COFFEE = """COFFEE TALKS END WITHOUT ACCORD ON QUOTAS

    LONDON, March 3 - Talks at the International Coffee Organization (ICO) on re-introducing export quotas broke down
after Brazil, the largest producer, refused to accept a smaller share, delegates said. Coffee prices fell to 1.20 dlrs
per lb. Colombian growers expect a harvest of 11 mln 60-kilo bags.
"""


@pytest.fixture
def client(everything: Server):
    with everything.client() as client:
        yield client


@pytest.mark.parametrize(
    ("article", "topic"), [(CRUDE, "crude"), (EARN, "earn"), (ACQ, "acq"), (COFFEE, "coffee")], ids=lambda x: x[:10]
)
def test_an_article_as_it_was_written_gets_its_topic(client: httpx.Client, article: str, topic: str):
    response = client.post("/v1/classify-text", content=article.encode(), headers={"content-type": "text/plain"})
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    assert result["labels"][0]["label"] == topic
    # Nearly every word of an ordinary article is in the vocabulary.
    assert result["unknown"] < 0.2 * result["tokens"]
    assert result["cut_off"] == 0


def test_articles_in_one_request_get_the_same_answers_as_alone(client: httpx.Client):
    texts = [CRUDE, EARN, "Cocoa.", ACQ, COFFEE * 20]
    together = client.post("/v1/classify-text?top_k=52", json={"texts": texts}).json()["results"]
    for text, result in zip(texts, together, strict=True):
        (alone,) = client.post("/v1/classify-text?top_k=52", json={"text": text}).json()["results"]
        assert {key: alone[key] for key in ("tokens", "unknown", "cut_off")} == {
            key: result[key] for key in ("tokens", "unknown", "cut_off")
        }
        one, many = ({label["label"]: label["probability"] for label in each["labels"]} for each in (alone, result))
        assert one == pytest.approx(many, abs=1e-4)
    assert together[-1]["tokens"] == read_manifest(FOLDER).max_length
    assert together[-1]["cut_off"] > 0


def test_the_most_influential_words_belong_to_the_topic(client: httpx.Client):
    response = client.post("/v1/classify-text?explain=true", json={"text": COFFEE})
    (result,) = response.json()["results"]
    words = sorted(result["words"], key=lambda word: -word["weight"])
    assert COFFEE[words[0]["start"] :].startswith(words[0]["word"])
    assert words[0]["word"].lower() in {"coffee", "ico", "quotas", "brazil", "colombian", "harvest", "bags"}
