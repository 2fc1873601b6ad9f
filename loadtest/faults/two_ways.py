"""The fast path against the ASGI path, on the same bytes: F28.

Heads are drawn from few, so that most are remembered ones; what is drawn around
them are spellings that two readers of HTTP could take differently.
"""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import orjson
import uvloop

from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene
from loadtest.harness.http_bytes import converse, several_at_once

HEADS, AT_ONCE = 300, 32
#: A server that has not closed by then waits for more, which both must.
PATIENCE_SECONDS = 20.0
_PATHS = (
    b"/predict",
    b"/predict?x=1",
    b"/predict/",
    b"//predict",
    b"/%70redict",
    b"http://a/predict",
    b"/predict#f",
)
_METHODS = (b"POST", b"post", b"GET", b"PUT", b"HEAD")
_VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.10")
_LENGTHS = (
    "0{0}", "+{0}", " {0}", "{0} ", "\t{0}", "{0}, {0}", "{0}_0", "0x{0:x}", "{0}.0", "-{0}", "{0}\x0b"
)  # fmt: skip
_TYPES = (
    b"application/json", b"Application/JSON", b"application/json; charset=utf-8", b"application/jsonx",
    b"application/json;charset=UTF-8", b"application/json; charset=latin-1", b"text/plain",
)  # fmt: skip
_EXTRA = (
    b"Connection: keep-alive", b"Connection: close", b"Connection: keep-alive, close", b"Connection: upgrade",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer_Encoding: chunked", b": v",
    b"Transfer-Encoding : chunked", b"Content-Encoding: gzip", b"Content-Encoding: identity", b"X Y: z",
    b"Content-Length: 0", b"Expect: 100-continue", b"Expect: x", b"Upgrade: h2c", b"Host: b", b"X: a\x00b",
    b"X-Request-Timeout-Ms: 1000", b"X-Request-Timeout-Ms: x", b"X: a\rb", b"X: a\nb", b"X: a\r\n b",
    b"TE: trailers", b"X: \x80\xff", b"Accept: */*", b"User-Agent: fuzz", b"Cookie: a=b",
    b"X: " + b"y" * 2100, b"X: " + b"y" * 9000,
)  # fmt: skip


def two_ways(scene: Scene, outcome: FaultOutcome) -> None:
    """20,000 connections of odd heads, bodies and pieces to the fast path and to the ASGI path."""
    count = scene.times(20_000, 300)
    with scene.serve() as fast, scene.serve(fast_path="off") as asgi:
        connections = list(_connections([orjson.dumps(row.fields) for row in scene.rows], count))
        found = uvloop.run(_compare(fast.url, asgi.url, connections, outcome))
    outcome.expect_none("connections answered differently", found[:3])


def _connections(bodies: Sequence[bytes], count: int) -> Iterator[list[bytes]]:
    """What is sent over one connection each, in pieces; the same every time."""
    draw = random.Random(20_261_126)
    heads = [_head(draw) for _ in range(HEADS)]
    for _ in range(count):
        requests = [
            _request(draw, draw.choice(heads), draw.choice(bodies)) for _ in range(draw.choice((1, 1, 2, 3)))
        ]
        if draw.random() < 0.5:
            yield requests
            continue
        data = b"".join(requests)
        cuts = sorted(draw.randrange(len(data)) for _ in range(draw.choice((0, 1, 1, 2, 5))))
        yield [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


def _usually(draw: random.Random, choices: Sequence[bytes]) -> bytes:
    return choices[0] if draw.random() < 0.9 else draw.choice(choices)


def _head(draw: random.Random) -> bytes:
    """A head with `%LENGTH%` where the body's length stands."""
    lines = [b"Host: a", b"Content-Type: " + _usually(draw, _TYPES), b"Content-Length: %LENGTH%"]
    for _ in range(draw.choice((0, 0, 0, 1, 2))):
        lines.insert(draw.randrange(len(lines) + 1), draw.choice(_EXTRA))
    if draw.random() < 0.03:
        lines.pop(draw.randrange(len(lines)))
    method, path, version = (_usually(draw, choices) for choices in (_METHODS, _PATHS, _VERSIONS))
    first = b"%b %b %b" % (method, path, version)
    end = b"\r\n" if draw.random() < 0.97 else b"\n"
    return end.join([first, *lines, b"", b""])


def _request(draw: random.Random, head: bytes, body: bytes) -> bytes:
    if draw.random() < 0.1:
        body = draw.choice((b"", b"{}", b"[]", b"null", body[:-1], body + b" ", b"\xef\xbb\xbf" + body))
    length = ("{0}" if draw.random() < 0.95 else draw.choice(_LENGTHS)).format(len(body))
    data = head.replace(b"%LENGTH%", length.encode()) + body
    if draw.random() < 0.03:
        place = draw.randrange(len(data))
        data = (
            data[:place] + draw.choice((b"", b"\0", b"\r\n", b"%c" % draw.randrange(256))) + data[place + 1 :]
        )
    return data


async def _compare(
    fast: str, asgi: str, connections: Sequence[list[bytes]], outcome: FaultOutcome
) -> list[str]:
    differing: list[str] = []
    seen: Counter[str] = Counter()

    async def ask_both(pieces: list[bytes]) -> None:
        by_fast, by_asgi = await asyncio.gather(_ask(fast, pieces), _ask(asgi, pieces))
        seen.update(re.findall(r"HTTP/1.1 (\d+)", by_fast))
        if by_fast != by_asgi:
            differing.append(f"{pieces!r}: {by_fast!r}, {by_asgi!r}"[:2000])

    await several_at_once(AT_ONCE, connections, ask_both)
    outcome.figures["answers"] = ", ".join(f"{number:,} {status}" for status, number in sorted(seen.items()))
    outcome.figures["connections"] = f"{len(connections):,}"
    return differing


async def _ask(url: str, pieces: Sequence[bytes]) -> str:
    """All that comes back over one connection, without what may differ."""
    try:
        received = await converse(url, pieces, PATIENCE_SECONDS)
    except TimeoutError:
        received = b"(open)"
    return _comparable(received.decode("latin-1"))


def _comparable(text: str) -> str:
    """Without ids and dates, the lengths that hang on them, and the order of headers."""
    text = re.sub(r'"id":"[0-9a-f]{12}-\d+"', '"id":""', text)
    text = re.sub(r"(?im)^(date|content-length): .*\r\n", "", text)
    return re.sub(r"(?s)(HTTP/1\.1 \d+[^\r]*\r\n)(.*?)\r\n\r\n", _with_sorted_headers, text)


def _with_sorted_headers(head: "re.Match[str]") -> str:
    return head[1] + "\n".join(sorted(head[2].split("\r\n"))) + "\n\n"
