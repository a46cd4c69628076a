"""The attacks that are hostile by what they send, much of it; `connections`, `crowds` and `oddities` have the others.

There is none of batches on which a model fails: no input was found that the routes accept and a committed model fails
on.
"""

import asyncio
import itertools
import json
from collections.abc import Callable

from benchmarks.torture import payloads
from benchmarks.torture.strike import Strike, attack
from benchmarks.torture.wire import Answer, Connection, head

_PREDICT = "/v1/predict"
_JSON = "application/json"


@attack(seconds=5)
async def calm(strike: Strike) -> None:
    """Nothing: what the well-behaved client meets when it is alone."""
    await strike.begin()
    await asyncio.sleep(strike.left)


@attack()
async def bodies(strike: Strike) -> None:
    """100 bodies of 60 MB at once, finished."""
    body = payloads.junk_jpeg()
    await strike.begin()
    await strike.together(100, lambda: strike.post(_PREDICT, body, "image/jpeg"))


@attack(seconds=20)
async def bodies_unfinished(strike: Strike) -> None:
    """100 bodies at once that declare 60 MB, send 55 and then nothing more."""
    body = payloads.junk_jpeg(55_000_000)
    await strike.begin()

    async def one() -> None:
        try:
            async with asyncio.timeout(strike.left):
                await strike.ask(head(_PREDICT, payloads.LARGE, "image/jpeg"), body)
        except TimeoutError:
            pass  # counted as unanswered

    await strike.together(100, one)


async def _on_each_route(strike: Strike, make: Callable[[str], bytes]) -> None:
    bodies = {path: make(field) for path, field in payloads.JSON_ROUTES.items()}
    await strike.begin()
    for path, body in bodies.items():
        await strike.post(path, body, _JSON)


@attack()
async def json_arrays(strike: Strike) -> None:
    """60 MB of empty arrays on each route that reads JSON, one after the other."""
    await _on_each_route(strike, payloads.json_arrays)


@attack()
async def json_keys(strike: Strike) -> None:
    """60 MB of keys, all different, on each route that reads JSON, one after the other."""
    await _on_each_route(strike, payloads.json_keys)


@attack()
async def json_strings(strike: Strike) -> None:
    """60 MB of empty strings on each route that reads JSON, one after the other."""
    await _on_each_route(strike, payloads.json_strings)


@attack()
async def json_crowd(strike: Strike) -> None:
    """20 JSON bodies of 60 MB at once: arrays, keys and strings, on all routes."""
    shapes = (payloads.json_arrays, payloads.json_keys, payloads.json_strings)
    routes = list(payloads.JSON_ROUTES.items())
    made = [(routes[i % len(routes)][0], shapes[i % 3](routes[i % len(routes)][1])) for i in range(20)]
    await strike.begin()
    await asyncio.gather(*(strike.post(path, body, _JSON) for path, body in made))


async def _manifest(strike: Strike, model: str) -> dict[str, object]:
    answer = await _get(strike, f"/v1/models/{model}")
    manifest: dict[str, object] = json.loads(answer.body)["manifest"]
    return manifest


async def _get(strike: Strike, path: str, *headers: str) -> Answer:
    connection = await Connection.open(strike.port)
    try:
        return await connection.ask(head(path, method="GET", headers=headers), keep=True)
    finally:
        connection.close()


async def _repeat(strike: Strike, path: str, body: bytes, media_type: str, clients: int = 1) -> None:
    await strike.begin()
    await strike.again(clients, lambda: strike.post(path, body, media_type))


@attack()
async def tabular_json(strike: Strike) -> None:
    """60 MB of rows of numbers, again and again."""
    columns = (await _manifest(strike, "tabular"))["columns"]
    assert isinstance(columns, list)
    body = payloads.tabular_json([column["name"] for column in columns])
    await _repeat(strike, "/v1/predict-tabular", body, _JSON)


@attack()
async def latents_json(strike: Strike) -> None:
    """60 MB of lists of 32 numbers, again and again."""
    await _repeat(strike, "/v1/decode", payloads.latents_json(32), _JSON)


@attack()
async def csv_columns(strike: Strike) -> None:
    """A line of CSV of 29 million columns, again and again."""
    await _repeat(strike, "/v1/predict-tabular", payloads.csv_columns(), "text/csv")


@attack()
async def header_huge(strike: Strike) -> None:
    """One header of 200 MB."""
    piece = b"a" * 1_000_000
    start = head(_PREDICT, method="POST")[:-2] + b"X-Huge: "
    await strike.begin()
    await strike.ask(start, *[piece] * 200, b"\r\n\r\n")


@attack()
async def headers_many(strike: Strike) -> None:
    """100 MB of headers of five bytes each."""
    piece = b"a:b\r\n" * 200_000
    await strike.begin()
    await strike.ask(head(_PREDICT)[:-2], *[piece] * 100, b"\r\n")


@attack()
async def png_chunks(strike: Strike) -> None:
    """A small PNG with five million empty chunks, again and again."""
    await _repeat(strike, _PREDICT, payloads.png_chunks(), "image/png")


@attack()
async def png_texts(strike: Strike) -> None:
    """Eight clients send a PNG of 59 kB with 56 compressed texts of 1 MB all the time."""
    await _repeat(strike, _PREDICT, payloads.png_texts(56), "image/png", clients=8)


@attack()
async def png_texts_allowed(strike: Strike) -> None:
    """Eight clients send a PNG of 9 kB with as many compressed texts of 1 MB as are accepted, all the time."""
    await _repeat(strike, _PREDICT, payloads.png_texts(8), "image/png", clients=8)


@attack()
async def webp_pixels(strike: Strike) -> None:
    """Four clients send a WebP of a few hundred bytes and as many pixels as are accepted, all the time."""
    await _repeat(strike, _PREDICT, payloads.webp(4000, 4000), "image/webp", clients=4)


@attack()
async def unicode(strike: Strike) -> None:
    """Eight clients send texts of a ligature that stands for 18 characters: 1,500 bytes each, 16 kB, and 1 MB."""
    bodies = itertools.cycle(("\ufdfa" * characters).encode() for characters in (500, 5_300, 333_000))
    await strike.begin()
    await strike.again(8, lambda: strike.post("/v1/classify-text", next(bodies), "text/plain"))


@attack(seconds=15, beside=("predict", "generate"))
async def generate_many(strike: Strike) -> None:
    """Four clients ask for 10,000 images as a zip all the time."""
    body = json.dumps({"count": 10_000, "format": "zip"}).encode()
    await _repeat(strike, "/v1/generate", body, _JSON, clients=4)


@attack(seconds=5)
async def first_visitors(strike: Strike) -> None:
    """300 clients ask for samples and model cards that nobody has asked for before."""
    paths = [
        f"/v1/models/{model}/1/{what}"
        for model in ("classifier", "detector", "autoencoder", "topics", "tabular")
        for what in ("samples", "report")
    ]
    await strike.begin()
    await asyncio.gather(*(strike.ask(head(path, method="GET")) for path in paths for _ in range(30)))


@attack()
async def jpeg_exif(strike: Strike) -> None:
    """A small JPEG with 20 MB of short segments of Exif, again and again."""
    await _repeat(strike, _PREDICT, payloads.jpeg_exif(), "image/jpeg")


@attack()
async def tiff_tags(strike: Strike) -> None:
    """A TIFF of 4,000 tags, two of them of millions of fractions, again and again."""
    await _repeat(strike, _PREDICT, payloads.tiff_tags(), "image/tiff")


@attack(seconds=20, beside=("predict", "detect", "generate"))
async def jpeg_scans(strike: Strike) -> None:
    """Four clients send a JPEG of 48 million pixels and 100 scans to /v1/detect all the time."""
    await _repeat(strike, "/v1/detect", payloads.jpeg_scans(), "image/jpeg", clients=4)


@attack(seconds=15)
async def explain(strike: Strike) -> None:
    """Four clients have 8 texts of 2,000 words explained all the time."""
    await _repeat(strike, "/v1/classify-text?explain=true", payloads.texts_json(8, 2000), _JSON, clients=4)


@attack()
async def forms(strike: Strike) -> None:
    """30 forms at once of 55 files of a little over 1 MB each."""
    body = payloads.form([payloads.junk_jpeg(1_060_000)] * 55)
    await strike.begin()
    await strike.together(30, lambda: strike.post(_PREDICT, body, payloads.FORM))
