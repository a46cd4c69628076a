"""The client against the real server: in a notebook's loop, in threads, in a forked process, interrupted."""

import asyncio
import io
import itertools
import multiprocessing
import signal
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas
import PIL.Image
import pytest

import quartet
from tests.pictures import photograph
from tests.server import ROOT, Server

CAT = ROOT / "examples" / "cat.jpg"
SMEAR = ROOT / "examples" / "smear.jpg"


@pytest.fixture
def client(everything: Server) -> Iterator[quartet.Client]:
    with quartet.Client(everything.url) as client:
        yield client


def test_a_long_list_is_answered_in_order_and_bad_items_alone(client: quartet.Client):
    images = [np.roll(photograph(32, 32), shift, axis=1) for shift in range(70)]
    mixed = [*images[:40], b"junk", *images[40:], SMEAR, b""]
    answers = client.predict(mixed, top_k=10, errors="return")
    assert {index: type(error) for index, error in answers.errors.items()} == {
        40: quartet.UndecodableImageError,
        72: quartet.UndecodableImageError,
    }
    for index in (0, 39, 41, 70):
        alone = client.predict(mixed[index], top_k=10)
        assert alone.label == answers[index].label
        assert alone.probability == pytest.approx(answers[index].probability, abs=1e-4)
    with pytest.raises(quartet.UndecodableImageError) as raised:
        client.predict(mixed)
    assert raised.value.index in (40, 72)
    assert raised.value.request_id


def test_who_answered_and_where_the_time_went(client: quartet.Client):
    served_by = client.predict(CAT).served_by
    assert (served_by.model, served_by.version, served_by.device) == ("classifier", "1", "cpu")
    assert served_by.timing["inference"] > 0


def test_a_seed_gives_the_same_images_in_memory_and_in_a_file(client: quartet.Client, tmp_path: Path):
    generation = client.generate(12, label="7", seed=3)
    saved = client.generate_to(tmp_path / "sevens.zip", 12, label="7", seed=3, progress=True)
    assert saved.seed == generation.seed == 3
    assert saved.size == saved.path.stat().st_size
    with zipfile.ZipFile(saved.path) as archive:
        assert [archive.read(name) for name in archive.namelist()[:12]] == [each.png for each in generation.images]
    sheet = client.generate_to(tmp_path / "sevens.png", 4)
    assert PIL.Image.open(io.BytesIO(sheet._repr_png_())).size == (59, 59)
    with pytest.raises(quartet.InvalidRequestError):
        client.generate_to(tmp_path / "none.npz", 4, label="cat")
    with pytest.raises(ValueError, match=r"\.png, \.zip, \.npz"):
        client.generate_to(tmp_path / "sevens.gif")
    assert {path.name for path in tmp_path.iterdir()} == {"sevens.zip", "sevens.png"}


def test_a_label_may_be_its_index(client: quartet.Client):
    assert client.generate(2, label=7, seed=1).images == client.generate(2, label="7", seed=1).images


def test_generated_images_arrive_one_by_one(client: quartet.Client):
    whole = client.generate(200, seed=3)
    with client.generate(200, seed=3, stream=True) as images:
        assert next(images) == whole.images[0]
        assert tuple(images) == whole.images[1:]
    stream = client.generate(10_000, stream=True)
    next(stream)
    del stream
    assert client.predict(CAT).label == "cat"


def test_a_list_without_an_end_is_answered_as_it_arrives(client: quartet.Client):
    endless = itertools.cycle([CAT, b"junk"])
    with client.predict(endless, stream=True, errors="return") as answers:
        first = [next(answers) for _ in range(100)]
    assert {type(each) for each in first[::2]} == {quartet.Prediction}
    assert {type(each) for each in first[1::2]} == {quartet.UndecodableImageError}
    assert first[99].index == 99
    with pytest.raises(StopIteration):
        next(answers)


async def test_an_asynchronous_stream(everything: Server):
    async with quartet.AsyncClient(everything.url) as client:
        texts = (f"Coffee prices rose by {number}." for number in range(2000))
        labels = [answer.label async for answer in await client.classify_text(texts, stream=True)]
        assert len(labels) == 2000
        stream = await client.predict([CAT], stream=True)
        with pytest.raises(TypeError, match="async for"):
            next(stream)
        await stream.aclose()
        with pytest.raises(TypeError, match="several"):
            await client.predict(CAT, stream=True)


def test_encoding_and_decoding_is_reconstructing(client: quartet.Client):
    digits = np.load(ROOT / "models" / "autoencoder" / "1" / "golden.npz")["images"]
    restored = client.reconstruct(digits)
    decoded = client.decode(client.encode(digits))
    assert [image.png for image in decoded] == [image.png for image in restored]
    assert client.draw_reconstruction(digits[0]).to_pil().size > (28, 28)


def test_explanations_of_many_texts_are_asked_for_in_parts(client: quartet.Client):
    texts = pandas.Series({number: f"Coffee prices rose by {number}." for number in range(10)})
    answers = client.classify_text(texts, explain=True, coverage=0.9)
    assert all(answer.words and answer.label_set for answer in answers)


def test_models(client: quartet.Client):
    models = client.models()
    assert {"classifier", "detector", "topics"} <= {model.name for model in models}
    assert client.model("detector").manifest["labels"] == ["RBC", "WBC", "Platelets"]
    assert "accuracy" in models.to_pandas().columns
    with pytest.raises(quartet.UnknownModelError, match="'none'"):
        client.model("none")


async def test_it_works_while_a_loop_is_running(client: quartet.Client):
    assert client.predict(CAT).label == "cat"


def test_threads_share_it(client: quartet.Client):
    labels: list[str] = []
    threads = [threading.Thread(target=lambda: labels.append(client.predict(CAT).label)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert labels == ["cat"] * 8


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_connections_of_its_own(client: quartet.Client):
    assert client.predict(CAT).label == "cat"
    process = multiprocessing.get_context("fork").Process(target=lambda: client.predict(CAT))
    process.start()
    process.join(30)
    assert process.exitcode == 0


async def test_a_call_that_is_cancelled_ends(everything: Server):
    async with quartet.AsyncClient(everything.url, concurrency=2) as client:

        def endless() -> Iterator[bytes]:
            while True:
                yield CAT.read_bytes()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.predict(endless()), 0.3)
        assert (await client.predict(CAT)).label == "cat"


def test_ctrl_c_ends_a_call(client: quartet.Client):
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            if sent == 100:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            yield CAT.read_bytes()

    with pytest.raises(KeyboardInterrupt):
        client.predict(endless())
    client.predict(CAT)
    assert sent < 1000
