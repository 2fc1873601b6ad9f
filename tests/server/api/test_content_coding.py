"""Compressed bodies are read within the limits of plain ones; large answers are compressed when asked."""

import asyncio
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil
import pytest
from starlette.types import Message, Receive, Scope, Send

from loadtest.harness.http_bytes import get
from loadtest.harness.subject import Subject
from server.api.content_coding import PackedAnswers, Unpacker
from server.errors import Problem
from server.model.bundle import Bundle
from server.zstandard import zstd
from tests.support.bundles import ROW
from tests.support.servers import exchange, post, serving

BODY = orjson.dumps(ROW)
LIMIT = 4 * 2**20


@pytest.fixture(scope="module")
def subject(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("coded")
    with serving(three, folder, max_body_bytes="100000", max_batch_bytes=str(LIMIT)) as subject:
        yield subject


def coded(path: str, body: bytes, coding: str, *headers: str) -> bytes:
    return post(path, body, f"Content-Encoding: {coding}", *headers)


def chunked(request: bytes, size: int = 7) -> bytes:
    """The same request with a body of so many bytes a chunk."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b""]) + chunks + b"0\r\n\r\n"


def test_packed_body_is_answered_as_a_plain_one(subject: Subject, three: Path) -> None:
    batch = orjson.dumps({"rows": [ROW] * 3000})
    name = Bundle.load(three).name
    tensor = orjson.dumps(
        {"inputs": [{"name": "features", "shape": [1, 3], "datatype": "FP64", "data": [1, 0, 0]}]}
    )
    for path, body in (("/predict", BODY), ("/predict/batch", batch), (f"/v2/models/{name}/infer", tensor)):
        plain = without_id(exchange(subject.url, post(path, body))[0].body)
        packed = [
            coded(path, gzip.compress(body), "gzip"),
            coded(path, gzip.compress(body), "X-GZip"),
            coded(path, zlib.compress(body), "deflate"),
            coded(path, zstd.compress(body, 19), "zstd"),
            coded(path, zstd.compress(body[:9]) + streamed_zstd(body[9:]), "ZSTD"),
            chunked(coded(path, streamed_zstd(body), "zstd")),
            coded(path, gzip.compress(body[:9]) + gzip.compress(body[9:]), "gzip"),
            chunked(coded(path, gzip.compress(body), "gzip")),
            post(path, body, "Content-Encoding: identity"),
        ]
        answers = exchange(subject.url, *packed)
        assert [answer.status for answer in answers] == [200] * len(packed)
        assert all(without_id(answer.body) == plain for answer in answers)


def streamed_zstd(body: bytes) -> bytes:
    """A frame that does not say how long it is, as of a client that does not know yet; checked at its end."""
    parameter = zstd.CompressionParameter
    packer = zstd.ZstdCompressor(options={parameter.content_size_flag: 0, parameter.checksum_flag: 1})
    return packer.compress(body) + packer.flush()


def without_id(body: bytes) -> dict[str, object]:
    return {name: value for name, value in orjson.loads(body).items() if name != "id"}


def test_damaged_body_is_400(subject: Subject) -> None:
    packed = gzip.compress(BODY)
    damaged = [
        b"",
        packed[:-1],
        packed[:-9],
        packed[:5],
        packed + b"x",
        BODY,
        packed[:-5] + b"x" + packed[-4:],
    ]
    requests = [coded("/predict", body, "gzip") for body in damaged]
    deflated = zlib.compress(BODY)
    requests += [
        coded("/predict", body, "deflate") for body in (packed, deflated[:-1], deflated + b"x", deflated * 2)
    ]
    frame = streamed_zstd(BODY)
    parameter = zstd.CompressionParameter
    wide = zstd.ZstdCompressor(options={parameter.window_log: 24, parameter.content_size_flag: 0})
    frames = [b"", packed, frame[:-1], frame[:3], frame + b"x", frame[:-1] + b"x", BODY]
    frames += [wide.compress(BODY) + wide.flush()]
    requests += [coded("/predict", body, "zstd") for body in frames]
    for request in requests:
        for one in (request, chunked(request)):
            (answer,) = exchange(subject.url, one)
            assert answer.status == 400, request
            assert b"coding" in answer.body
    assert exchange(subject.url, coded("/predict", packed, "gzip"))[0].status == 200


def test_unknown_coding_is_415_and_says_what_is_read(subject: Subject) -> None:
    for coding in (
        "br",
        "zstd, gzip",
        "compress",
        "gzip, gzip",
        "identity, gzip",
        "gzip\r\nContent-Encoding: gzip",
        "x",
    ):
        for path in ("/predict", "/predict/batch", "/explain"):
            (answer,) = exchange(subject.url, coded(path, gzip.compress(BODY), coding))
            assert (answer.status, answer.headers["accept-encoding"]) == (415, "gzip, deflate, zstd"), coding


def test_parquet_is_415_and_says_what_is_read(subject: Subject) -> None:
    request = post("/predict/batch", b"PAR1", content_type="application/vnd.apache.parquet")
    (answer,) = exchange(subject.url, request)
    assert (answer.status, "text/csv" in answer.headers["accept-post"]) == (415, True)


def test_bomb_is_413_and_takes_no_memory(subject: Subject) -> None:
    """64 KB that would be 64 MB, and streams that hold nothing."""
    bomb, nothing = gzip.compress(bytes(2**26)), gzip.compress(b"") * 30_000
    zstd_bomb, zstd_nothing = zstd.compress(bytes(2**26)), zstd.compress(b"") * 40_000
    process = psutil.Process(subject.pid)
    before = process.memory_info().rss
    for path in ("/predict", "/predict/batch", "/explain"):
        for body, coding, status in (
            (bomb, "gzip", 413),
            (nothing, "gzip", 400),
            (zstd_bomb, "zstd", 413),
            (zstd_nothing, "zstd", 400),
        ):
            answers = exchange(subject.url, coded(path, body, coding))
            assert [answer.status for answer in answers] == [status]
    assert process.memory_info().rss - before < 40 * 2**20
    assert exchange(subject.url, post("/predict", BODY))[0].status == 200


def test_pieces_are_small_whatever_was_packed() -> None:
    content = bytes(10**7)
    for coding, packed in (("gzip", gzip.compress(content)), ("zstd", zstd.compress(content))):
        pieces = list(Unpacker(coding, 10**6).pieces(packed, is_last=True))
        assert b"".join(pieces) == content
        assert max(map(len, pieces)) <= 65_536
    with pytest.raises(Problem):
        list(Unpacker("gzip", 10).pieces(bytes(11), is_last=False))


@pytest.mark.parametrize(
    ("accepts", "is_packed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5, br", True),
        ("gzip;q=0", False),
        ("gzip; q=0.00", False),
        ("br", False),
    ],
)
def test_large_answer_is_packed_when_asked(subject: Subject, accepts: str, is_packed: bool) -> None:
    batch = post("/predict/batch", orjson.dumps({"rows": [ROW] * 2000}), f"Accept-Encoding: {accepts}")
    (answer,) = exchange(subject.url, batch)
    assert answer.headers.get("content-encoding") == ("gzip" if is_packed else None)
    content = gzip.decompress(answer.body) if is_packed else answer.body
    assert len(orjson.loads(content)["probabilities"]) == 2000
    if is_packed:
        assert answer.headers["vary"] == "Accept-Encoding"
        assert len(answer.body) < len(content) / 4
    (small,) = exchange(subject.url, post("/predict", BODY, f"Accept-Encoding: {accepts}"))
    assert "content-encoding" not in small.headers
    head = get("/openapi.json").replace(b"\r\n\r\n", f"\r\nAccept-Encoding: {accepts}\r\n\r\n".encode())
    (document,) = exchange(subject.url, head)
    assert document.headers.get("content-encoding") == ("gzip" if is_packed else None)


@pytest.mark.parametrize("header", [(b"content-encoding", b"br"), (b"content-range", b"bytes 0-1/3")])
def test_answer_that_is_packed_or_a_part_goes_as_it_is(header: tuple[bytes, bytes]) -> None:
    sent: list[Message] = []

    async def packed(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [header]})
        await send({"type": "http.response.body", "body": bytes(10**5)})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"accept-encoding", b"br, gzip")]}
    asyncio.run(PackedAnswers(packed)(scope, receive, send))
    assert sent[0]["headers"] == [header]
    assert sent[1]["body"] == bytes(10**5)
