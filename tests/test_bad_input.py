"""Bad input: each kind gets its own answer, and the server handles the next request as if nothing had happened."""

import base64
import io
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from service.stack.problems import Problem
from service.tasks.samples import CAT
from tests.pictures import encode, photograph, png_header
from tests.server import Server
from tests.tiny import solid, write_model

CAT_JPEG = base64.b64decode(CAT)
MB = 1_000_000
PATIENCE = 60  # seconds until a waiting test fails


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose model takes a noticeable time per image."""
    models = tmp_path_factory.mktemp("slow")
    write_model(models, slow=500, max_batch=1)
    running = Server(models=models)
    yield running
    code = running.stop()
    assert code == 0, "".join(running.lines)


def assert_good(server: Server) -> None:
    """The server is ready and classifies the cat correctly."""
    with server.client() as client:
        assert client.get("/healthz/ready").status_code == 200
        answer = client.post("/v1/predict", content=CAT_JPEG, headers={"content-type": "image/jpeg"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["results"][0]["labels"][0]["label"] == "cat"


@pytest.fixture
def unharmed(server: Server) -> Iterator[Server]:
    """The server; after the test it must answer correctly and use no more memory."""
    assert_good(server)
    before = server.memory()
    yield server
    assert_good(server)
    assert server.memory() - before < 60 * MB
    assert not [line for line in server.lines if "Traceback" in line]


def assert_problem(answer: httpx.Response, status: int, slug: str, *, index: int | None = None, says: str = "") -> None:
    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, problem.status, problem.code) == (status, status, slug)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == problem.request_id
    assert problem.instance == "/v1/predict"
    assert problem.index == index
    assert says in problem.detail


def form(count: int, data: bytes = b"x") -> bytes:
    """A multipart form of `count` files, with the boundary `b`."""
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + data + b"\r\n"
    return part * count + b"--b--\r\n"


BODIES = {
    "empty": (b"", "image/jpeg", 422, "undecodable-image", 0, "empty"),
    "no type and empty": (b"", "", 422, "undecodable-image", 0, "empty"),
    "text named jpg": (b"I am a photograph, honestly." * 50, "image/jpeg", 422, "undecodable-image", 0, "no image"),
    "truncated jpeg": (CAT_JPEG[:700], "image/jpeg", 422, "undecodable-image", 0, "truncated"),
    "only the start of a jpeg": (CAT_JPEG[:20], "image/jpeg", 422, "undecodable-image", 0, ""),
    "truncated png": (
        encode(photograph(64, 64))[:2000], "image/png", 422, "undecodable-image", 0, "truncated",
    ),
    "only a png signature": (b"\x89PNG\r\n\x1a\n", "image/png", 422, "undecodable-image", 0, ""),
    "60,000 x 60,000": (png_header(60_000, 60_000), "image/png", 422, "image-too-large", 0, "60000 x 60000"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 422, "undecodable-image", 0, "no image"),
    "wrong type": (CAT_JPEG, "text/plain", 415, "unsupported-media-type", None, "text/plain"),
    "nonsense type": (CAT_JPEG, "nonsense; =", 415, "unsupported-media-type", None, ""),
    "broken base64": (b'{"images": ["%%%"]}', "application/json", 422, "invalid-request", 0, "base64"),
    "base64 cut short": (
        b'{"images": ["' + CAT[:-1].encode() + b'"]}', "application/json", 422, "invalid-request", 0, "base64",
    ),
    "second base64 broken": (
        b'{"images": ["' + CAT.encode() + b'", "\xc3\xa4"]}', "application/json", 422, "invalid-request", 1, "base64",
    ),
    "second image broken": (
        b'{"images": ["' + CAT.encode() + b'", "aGVsbG8="]}', "application/json", 422, "undecodable-image", 1, "",
    ),
    "a number for an image": (b'{"images": [7]}', "application/json", 422, "invalid-request", 0, "string"),
    "no json": (b"{images: 1}", "application/json", 422, "invalid-request", None, "not valid JSON"),
    "no bytes of json": (b"", "application/json", 422, "invalid-request", None, "not valid JSON"),
    "no utf-8": (b'{"images": ["\xff\xfe"]}', "application/json", 422, "invalid-request", None, ""),
    "deep json": (b'{"images": ' + b"[" * 100_000, "application/json", 413, "body-too-large", None, "more than"),
    "deep and well-formed": (
        b'{"images": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "application/json", 413, "body-too-large", None, "more",
    ),
    "a list": (b'["x"]', "application/json", 422, "invalid-request", None, "images"),
    "no images": (b'{"images": []}', "application/json", 422, "invalid-request", None, "at least one"),
    "an unknown field": (
        b'{"images": ["' + CAT.encode() + b'"], "topk": 3}', "application/json", 422, "invalid-request", None, "images",
    ),
    "10,001 in json": (
        b'{"images": [' + b'"",' * 10_000 + b'""]}', "application/json", 413, "body-too-large", None, "10000",
    ),
    "10,001 files": (form(10_001), "multipart/form-data; boundary=b", 413, "body-too-large", None, "10000"),
    "no boundary": (form(1), "multipart/form-data", 422, "invalid-request", None, "boundary"),
    "another boundary": (form(1), "multipart/form-data; boundary=c", 422, "invalid-request", None, "form"),
    "no form": (b"hello", "multipart/form-data; boundary=b", 422, "invalid-request", None, "form"),
    "an empty form": (b"--b--\r\n", "multipart/form-data; boundary=b", 422, "invalid-request", None, "files"),
    "another field": (
        form(1).replace(b'"files"', b'"picture"'), "multipart/form-data; boundary=b", 422, "invalid-request", None,
        "files",
    ),
    "text in the field": (
        form(1).replace(b'; filename="a"', b""), "multipart/form-data; boundary=b", 422, "invalid-request", None,
        "files",
    ),
    "a form that breaks off": (
        form(2, CAT_JPEG)[:-300], "multipart/form-data; boundary=b", 422, "invalid-request", None, "",
    ),
    "declared too large": (bytes(4 * MB + 1), "image/jpeg", 413, "body-too-large", None, "4 MB"),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES)
def test_a_bad_body(unharmed: Server, case: str):
    body, content_type, status, slug, index, says = BODIES[case]
    with unharmed.client() as client:
        headers = {"content-type": content_type} if content_type else {}
        assert_problem(client.post("/v1/predict", content=body, headers=headers), status, slug, index=index, says=says)


@pytest.mark.parametrize(
    ("query", "status", "slug", "says"),
    [
        ("model=nope", 404, "unknown-model", "classifier"),
        ("model=..%2F..%2Fetc", 404, "unknown-model", "classifier"),
        ("top_k=0", 422, "invalid-request", "top_k=0"),
        ("top_k=-1", 422, "invalid-request", "top_k=-1"),
        ("top_k=1000000", 422, "invalid-request", "top_k=1000000"),
        ("top_k=" + "9" * 5000, 422, "invalid-request", "top_k"),
        ("top_k=many", 422, "invalid-request", "top_k=many"),
        ("coverage=1.5", 422, "invalid-request", "coverage=1.5"),
        ("coverage=nan", 422, "invalid-request", "coverage=nan"),
        ("coverage=0.9999", 422, "invalid-request", "the highest"),
        ("topk=3", 422, "invalid-request", "top_k"),
        ("%ff=%ff", 422, "invalid-request", "no parameter"),
        ("top_k", 422, "invalid-request", "name=value"),
    ],
)
def test_a_bad_query(unharmed: Server, query: str, status: int, slug: str, says: str):
    with unharmed.client() as client:
        answer = client.post(f"/v1/predict?{query}", content=CAT_JPEG, headers={"content-type": "image/jpeg"})
        assert_problem(answer, status, slug, says=says)


def test_only_the_first_frame_of_an_animated_gif_is_classified(unharmed: Server):
    cat = Image.open(io.BytesIO(CAT_JPEG))
    still = encode(cat, "GIF")
    moving = encode(cat, "GIF", save_all=True, append_images=[Image.new("RGB", cat.size, "blue")] * 3)
    assert moving != still
    with unharmed.client() as client:
        answers = [
            client.post("/v1/predict", content=data, headers={"content-type": "image/gif"}) for data in (still, moving)
        ]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json() == answers[1].json()
        operation = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]
        assert "first frame" in operation["description"]


def test_a_file_that_pillow_warns_of_leaves_no_line_but_its_own(server: Server):
    exif = Image.Exif()
    exif[0x010E] = "a description that is longer than what is left of it"
    data = encode(Image.open(io.BytesIO(CAT_JPEG)), "JPEG", exif=exif.tobytes()[:30])
    with pytest.warns(UserWarning, match="EXIF|Tag data"):
        Image.open(io.BytesIO(data)).getexif()
    palette = Image.new("P", (8, 8))
    palette.putpalette([0, 0, 0, 255, 255, 255])
    transparent = encode(palette, "PNG", transparency=b"\x00\x80")
    with pytest.warns(UserWarning, match="Transparency expressed in bytes"):
        Image.open(io.BytesIO(transparent)).convert("RGB")
    before = len(server.lines)
    with server.client() as client:
        for number, body in enumerate((data, transparent)):
            answer = client.post("/v1/predict", content=body, headers={"x-request-id": f"warned-{number}"})
            assert answer.status_code == 200, answer.text
    end = time.monotonic() + PATIENCE
    while not any("id=warned-1 " in line for line in server.lines):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert [line for line in server.lines[before:] if " info request id=" not in line] == []


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def head(*headers: str) -> bytes:
    """The head of a POST to /v1/predict."""
    lines = ("POST /v1/predict HTTP/1.1", "Host: quartet", "Content-Type: image/jpeg", *headers)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def receive(connection: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    answer = b""
    try:
        while data := connection.recv(65536):
            answer += data
    except ConnectionResetError:  # the server stops reading once it has answered
        pass
    return answer


def test_a_body_over_the_limit_sent_in_chunks(unharmed: Server):
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with connect(unharmed) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        try:
            for _ in range(16 * MB // 0x10000):
                connection.sendall(chunk)
        except (ConnectionResetError, BrokenPipeError):
            pass
        answer = receive(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body-too-large"' in answer
    assert b"connection: close" in answer.lower()


def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent(unharmed: Server):
    with connect(unharmed) as connection:
        connection.sendall(head("Content-Length: 4000000000", "Expect: 100-continue"))
        answer = receive(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_request_that_is_not_http(unharmed: Server):
    with connect(unharmed) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00 is not HTTP\r\n\r\n")
        assert receive(connection).startswith(b"HTTP/1.1 400 ")


def metric(server: Server, name: str) -> float:
    """The value of one line of /metrics; 0 if there is none."""
    with server.client() as client:
        for line in client.get("/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
    return 0.0


def wait_for_metric(server: Server, name: str, least: float) -> float:
    """The metric's value once it is at least `least`."""
    end = time.monotonic() + PATIENCE
    while (value := metric(server, name)) < least:
        assert time.monotonic() < end, f"{name} stayed at {value}"
        time.sleep(0.02)
    return value


HUNG_UP = 'quartet_requests_total{method="POST",route="/v1/predict",status="0"}'


def test_a_client_that_hangs_up_in_the_middle_of_its_body(unharmed: Server):
    before = metric(unharmed, HUNG_UP)
    with connect(unharmed) as connection:
        connection.sendall(head(f"Content-Length: {MB}", "Expect: 100-continue"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # the request is being read
        connection.sendall(bytes(1000))
    wait_for_metric(unharmed, HUNG_UP, before + 1)


def test_a_client_that_hangs_up_while_it_waits(busy: Server):
    images = 200
    body = form(images, encode(solid("red")))
    before = metric(busy, HUNG_UP)
    batches = 'quartet_batch_size_count{alias="",model="classifier",variant="reference",version="1"}'
    ran = metric(busy, batches)
    memory = busy.memory()
    with connect(busy) as connection:
        connection.sendall(
            head(f"Content-Length: {len(body)}").replace(b"image/jpeg", b"multipart/form-data; boundary=b") + body
        )
        wait_for_metric(busy, batches, ran + 1)  # the first of its images has been answered, most wait
    wait_for_metric(busy, HUNG_UP, before + 1)
    with busy.client() as client:
        answer = client.post("/v1/predict", content=encode(solid("green")), headers={"content-type": "image/png"})
        assert answer.json()["results"][0]["labels"][0]["label"] == "green"
        assert client.get("/healthz/ready").status_code == 200
    assert metric(busy, batches) - ran < images
    assert metric(busy, 'quartet_queue_depth{alias="",model="classifier",variant="reference",version="1"}') == 0
    assert busy.memory() - memory < 60 * MB
    assert not [line for line in busy.lines if "Traceback" in line or "never retrieved" in line]
