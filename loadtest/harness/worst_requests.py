"""The worst requests that the defaults allow, each of a kind that once took a worker's time or memory.

Each is about as long as its route takes. Nothing here is random: the same bytes come again.
"""

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from loadtest.harness.http_bytes import post
from loadtest.harness.worst_arrow import arrow_bodies
from server.model.bundle import Bundle
from server.scoring.row_limit import MAX_REASONS
from server.tables.arrow_stream import STREAM
from server.zstandard import zstd

JSON, NDJSON, CSV, OCTETS = "application/json", "application/x-ndjson", "text/csv", "application/octet-stream"
#: A little less than `max_body_bytes` and `max_batch_bytes`.
ONE, MANY = 2**20 - 4096, 2**24 - 4096
#: What a worker is given by deploy/, and may not need even for these: the sum in docs/scaling.md.
WORKER_MB = 512
INDEX = "/v2/repository/index"
#: The id of a decision that there is not.
OVERRIDDEN = "0123456789ab-1"
REFUSED = (400, 413, 422)
EITHER = (200, *REFUSED)


class Worst(NamedTuple):
    """A request, and the status codes it may be answered with; its body is made when it is asked for."""

    name: str
    path: str
    media_type: str | None
    body: Callable[[], bytes]
    statuses: tuple[int, ...] = REFUSED
    headers: tuple[str, ...] = ()

    def message(self) -> bytes:
        """The request as it is sent."""
        return post(self.path, self.body(), *self.headers, content_type=self.media_type)


def worst_requests(bundle: Bundle) -> Iterator[Worst]:
    """All of them, for a model with a number and a category among its features."""
    for path in ("/predict", "/explain", "/recourse"):
        yield from _of_one_row(bundle, path)
    for worst in _of_one_row(bundle, f"/decisions/{OVERRIDDEN}/override"):
        yield worst._replace(statuses=(*REFUSED, 404))
    for worst in _of_one_row(bundle, INDEX):
        yield worst._replace(statuses=EITHER)
    yield from _of_json(bundle)
    yield from _of_reasons(bundle)
    yield from _of_lines(bundle)
    yield from _of_csv(bundle)
    yield from _of_arrow(bundle)
    yield from _of_outcomes()
    yield from _of_inputs(bundle)
    yield from _of_binary_inputs(bundle)
    yield from _of_packed_bodies(bundle)


def fill(size: int, before: bytes, piece: bytes, after: bytes = b"", between: bytes = b"") -> bytes:
    """As many pieces as fit between what stands before and behind them."""
    count = (size - len(before) - len(after)) // (len(piece) + len(between))
    return b"".join((before, (piece + between) * (count - 1), piece, after))


def members(size: int, before: bytes, after: bytes) -> bytes:
    """As many members of different names, in seven hexadecimal digits, as fit."""
    count = (size - 99) // 12
    text = np.tile(np.frombuffer(b',"0000000":0', np.uint8), (count, 1))
    digits = np.arange(count)[:, None] >> np.arange(24, -1, -4) & 15
    text[:, 2:9] = np.frombuffer(b"0123456789abcdef", np.uint8)[digits]
    return before + text.tobytes()[1:] + after


def _row(bundle: Bundle) -> bytes:
    return json.dumps(next(iter(bundle.golden_rows())).fields).encode()


def _number(bundle: Bundle) -> bytes:
    return next(f.name for f in bundle.schema.features if f.kind == "number").encode()


def _of_one_row(bundle: Bundle, path: str) -> Iterator[Worst]:
    row, name = _row(bundle), _number(bundle)
    listed = b'{"%b":[' % name
    bodies = {
        "empty lists": partial(fill, ONE, listed, b"[]", b"]}", b","),
        "empty objects": partial(fill, ONE, listed, b"{}", b"]}", b","),
        "members": partial(members, ONE, b"{", b"}"),
        "one member again": partial(fill, ONE, b"{", b'"%b":1' % name, b"}", b","),
        "digits": partial(fill, ONE, b'{"%b":0.' % name, b"0", b"}"),
        "a long name": partial(fill, ONE, b'{"', b"x", b'":1}'),
        "escaped quotes": partial(fill, ONE, b'{"', b'\\"', b'":1}'),
        "escapes": partial(fill, ONE, b'{"', b"\\u0041", b'":1}'),
        "brackets": partial(fill, ONE, b"", b"["),
    }
    for what, body in bodies.items():
        yield Worst(f"{path}: {what}", path, JSON, body)
    for what, piece in (("blanks", b" "), ("line breaks", b"\r\n")):
        yield Worst(f"{path}: {what}", path, JSON, partial(fill, ONE, row[:-1], piece, b"}"), (200,))


def _of_json(bundle: Bundle) -> Iterator[Worst]:
    row = _row(bundle)
    ten_thousand = b'{"rows":[' + b",".join([row] * 10_000)
    bad = json.dumps({feature.name: [] for feature in bundle.schema.features}).encode()
    bodies = {
        "rows {}": partial(fill, MANY, b'{"rows":[', b"{}", b"]}", b","),
        "rows 1": partial(fill, MANY, b'{"rows":[', b"1", b"]}", b","),
        "rows []": partial(fill, MANY, b'{"rows":[', b"[]", b"]}", b","),
        "objects in a row": partial(fill, MANY, b'{"rows":[{"a":[', b"{}", b"]}]}", b","),
        "numbers in a row": partial(fill, MANY, b'{"rows":[{"a":[', b"1", b"]}]}", b","),
        "members of a row": partial(members, MANY, b'{"rows":[{', b"}]}"),
        "members of the batch": partial(members, MANY, b"{", b"}"),
        "another name": partial(fill, MANY, b'{"row":[', b"{}", b"]}", b","),
        "cut off": partial(fill, MANY, b'{"rows":[', b"[]", b"", b","),
        "braces in a name": partial(fill, MANY, b'{"rows":[{"', b"{" * 999, b'":1}]}'),
        "an endless name": partial(fill, MANY, b'{"rows":[{"', b'\\"'),
        "blanks in a row": partial(fill, MANY, b'{"rows":[' + row[:-1], b" ", b"}]}"),
    }
    for what, body in bodies.items():
        yield Worst(f"JSON: {what}", "/predict/batch", JSON, body)
    few = (MANY - 99) // (len(bad) + 1)
    yield Worst(
        "JSON: bad rows",
        "/predict/batch",
        JSON,
        lambda: b'{"rows":[%b]}' % b",".join([bad] * min(few, 10_000)),
    )
    good = {"blanks": b'{"rows":[' + row, "10,000 rows": ten_thousand}
    for what, before in good.items():
        yield Worst(f"JSON: {what}", "/predict/batch", JSON, partial(fill, MANY, before, b" ", b"]}"), (200,))


def _of_reasons(bundle: Bundle) -> Iterator[Worst]:
    """The longest response to a request: of as many rows as may be what each feature of each adds."""
    rows = b'{"rows":[%b]}' % b",".join([_row(bundle)] * (MAX_REASONS // len(bundle.schema)))
    for language in ("", "&language=fr"):
        path = f"/predict/batch?reasons=all{language}"
        yield Worst(f"all reasons of rows{language}", path, JSON, lambda: rows, (200,))


def _of_lines(bundle: Bundle) -> Iterator[Worst]:
    bodies = {
        "1": partial(fill, MANY, b"", b"1\n"),
        "of blanks": partial(fill, MANY, b"", b" \n"),
        "without text": partial(fill, MANY, b"", b"\n"),
        "that is one": partial(fill, MANY, b"", b" "),
        "of rows": partial(fill, MANY, b"", _row(bundle) + b"\n"),
        "of bad rows": partial(fill, 10_000 * 3, b"", b"{}\n"),
    }
    for what, body in bodies.items():
        yield Worst(f"lines {what}", "/predict/batch", NDJSON, body)


def _of_csv(bundle: Bundle) -> Iterator[Worst]:
    header = _number(bundle) + b"\n"
    names = [f.name for f in bundle.schema.features]
    table = ",".join(names).encode() + b"\n"
    long, letters = (b",".join([cell * 100] * len(names)) + b"\n" for cell in (b"1", b"x"))
    bodies = {
        "rows of long numbers": partial(fill, min(MANY, 10_000 * len(long)), table, long),
        "rows of long texts": partial(fill, min(MANY, 10_000 * len(letters)), table, letters),
        "cells 1": partial(fill, MANY, header, b"1\n"),
        "blank lines": partial(fill, MANY, header, b"\n"),
        "blank lines of CR": partial(fill, MANY, header, b"\r"),
        "line breaks in a header": partial(fill, MANY, b"", b'"a\n",', b"\n1\n"),
        "a cell of digits": partial(fill, MANY, header, b"1", b"x\n"),
        "cells of digits": partial(fill, MANY, header, b"1" * 16_000 + b"x\n"),
        "names of columns": partial(fill, ONE, header[:-1] + b",", b"a,", b"\n1\n"),
        "names on lines": partial(fill, ONE, header[:-1] + b",", b'"a\n",', b"\n1\n"),
        "an open quote in a header": partial(fill, ONE, b'"', b"\n"),
        "blank lines above a header": partial(fill, ONE, b"", b"\n", header + b"1\n"),
        "columns": partial(fill, MANY, header[:-1], b",", b"\n1\n"),
        "cells": partial(fill, MANY, header, b",", b"\n"),
        "quoted line breaks": partial(fill, MANY, header + b'"', b"\n", b'"\n'),
        "an open quote": partial(fill, MANY, header + b'"', b"x"),
        "quotes": partial(fill, MANY, header, b'"'),
        "bytes that are no text": partial(fill, MANY, header, b"\xff"),
        "letters of no UTF-8": partial(fill, MANY, header, b"\xfca"),
        "NUL": partial(fill, MANY, header, b"\0"),
    }
    for what, body in bodies.items():
        yield Worst(f"CSV: {what}", "/predict/batch", CSV, body)
    decimals = partial(_different_decimals, ONE, bundle)
    yield Worst("CSV: different decimals", "/predict/batch", CSV, decimals, EITHER)


def _different_decimals(size: int, bundle: Bundle) -> bytes:
    """Numbers of which no two are alike, as far as the rows that tell how a file writes them."""
    names = [feature.name for feature in bundle.schema.features if feature.kind == "number"]
    cells = (b"0.%07d" % number for number in itertools.count())
    rows = [
        b",".join(itertools.islice(cells, len(names))) for _ in range(min(9000, size // (10 * len(names))))
    ]
    return b"\n".join([",".join(names).encode(), *rows])


def _of_arrow(bundle: Bundle) -> Iterator[Worst]:
    for what, body in arrow_bodies(bundle):
        yield Worst(f"Arrow: {what}", "/predict/batch", STREAM, body, EITHER)


def _of_inputs(bundle: Bundle) -> Iterator[Worst]:
    name, width = _number(bundle), len(bundle.schema)
    head = b'{"inputs":[{"name":"%b","datatype":"FP64",' % name
    one = b'{"inputs":[{"name":"%b","datatype":"FP64","shape":[1],"data":[1]}]' % name
    matrix = b'{"inputs":[{"name":"features","datatype":"FP64","shape":[%d,%d],"data":[' % (10_000, width)
    given = b'{"name":"a","shape":[1],"datatype":"FP64","data":[1]}'
    bodies = {
        "quotes behind NaN": partial(fill, MANY, b'NaN"', b'\\"'),
        "NaN": partial(fill, MANY, b'{"inputs":[', b"NaN", b"]}", b","),
        "NaN in texts": partial(fill, MANY, b'{"a":[', b'"NaN"', b"]}", b","),
        "a matrix of NaN": partial(fill, MANY, matrix, b"NaN", b"]}]}", b","),
        "a matrix": partial(fill, MANY, matrix, b"1", b"]}]}", b","),
        "a matrix of rows": partial(fill, MANY, matrix, b"[]", b"]}]}", b","),
        "of one row": partial(fill, MANY, head + b'"shape":[1],"data":[', b"1", b"]}]}", b","),
        "without end": partial(fill, MANY, b'{"inputs":[', given, b"]}", b","),
        "{}": partial(fill, MANY, b'{"inputs":[', b"{}", b"]}", b","),
        "and outputs": partial(fill, MANY, one + b',"outputs":[', b'{"name":"margin"}', b"]}", b","),
        "and parameters": partial(fill, MANY, one + b',"parameters":{"a":[', b"[]", b"]}}", b","),
        "with parameters": partial(
            fill, MANY, head + b'"shape":[1],"data":[1],"parameters":{"a":[', b"[]", b"]}}]}", b","
        ),
        "of many dimensions": partial(fill, MANY, head + b'"data":[1],"shape":[', b"1", b"]}]}", b","),
        "and an id": partial(fill, MANY, one + b',"id":"', b"x", b'"}'),
    }
    for what, body in bodies.items():
        yield Worst(f"inputs {what}", f"/v2/models/{bundle.name}/infer", None, body, EITHER)


def _of_binary_inputs(bundle: Bundle) -> Iterator[Worst]:
    number, width = _number(bundle).decode(), len(bundle.schema)
    category = next(f.name for f in bundle.schema.features if f.kind == "category")
    text, matrix = b"\1\0\0\0M", bytes(8 * width * 10_000)
    margins = [{"name": "margin"}] * 10_000

    def binary(what: str, name: str, datatype: str, shape: list[int], content: bytes, **more: Any) -> Worst:
        given = {"name": name, "datatype": datatype, "shape": shape}
        parameters = {"parameters": {"binary_data_size": len(content)}}
        head = json.dumps({"inputs": [given | parameters], **more}).encode()
        headers = (f"Inference-Header-Content-Length: {len(head)}",)
        path = f"/v2/models/{bundle.name}/infer"
        return Worst(f"binary {what}", path, OCTETS, lambda: head + content, EITHER, headers)

    yield binary("UINT8", number, "UINT8", [MANY], b"\1" * MANY)
    yield binary("UINT8 of few rows", number, "UINT8", [10], b"\1" * MANY)
    yield binary("empty texts", category, "BYTES", [MANY // 4], b"\0" * (MANY // 4 * 4))
    yield binary("texts", category, "BYTES", [MANY // 5], text * (MANY // 5))
    yield binary("texts of few rows", category, "BYTES", [10_000], text * (MANY // 5))
    yield binary("bad texts", category, "BYTES", [10_000], text * 10_000)
    yield binary("long text", category, "BYTES", [1], (MANY - 4).to_bytes(4, "little") + b"x" * (MANY - 4))
    yield binary("outputs again", "features", "FP64", [10_000, width], matrix, outputs=margins)


def _of_outcomes() -> Iterator[Worst]:
    """Of a server that takes none (the default) and of one that does."""
    text = '{"id":"000000000000-1","outcome":"%s"}'
    forms: dict[str, tuple[str, Callable[[], bytes]]] = {
        "objects": (JSON, partial(fill, MANY, b"[", b"{}", b"]", b",")),
        "members": (JSON, partial(members, MANY, b"{", b"}")),
        "a long outcome": (JSON, partial(fill, MANY, text[:-4].encode(), b"x", b'"}')),
        "braces": (NDJSON, partial(fill, MANY, b"", b"{}\n")),
        "quotes": (CSV, partial(fill, MANY, b"id,outcome,at\n", b'"')),
        "months": (CSV, partial(fill, MANY, b"id,outcome,at\n1,1,", b"sept", b" 1\n")),
        "short lines": (CSV, partial(fill, MANY, b"id,outcome\n", b"1,1\n")),
    }
    for what, (media_type, body) in forms.items():
        yield Worst(f"/outcomes: {what}", "/outcomes", media_type, body, (*REFUSED, 501))
    for what, form in {"times": "%B %d, %Y %H:%M:%S +05:30", "times by month": "%m/%d/%Y %H:%M:%S"}.items():
        yield Worst(f"/outcomes: {what}", "/outcomes", CSV, partial(_timed_outcomes, form), (200, 501))


def _timed_outcomes(form: str) -> bytes:
    """As many as are taken in one go, each with another time, which takes the longest to read."""
    first = datetime(2020, 1, 1)
    lines = (f'{i:012x}-1,1,"{(first + timedelta(hours=5 * i)).strftime(form)}"\n' for i in range(10_000))
    return ("id,outcome,at\n" + "".join(lines)).encode()


def _of_packed_bodies(bundle: Bundle) -> Iterator[Worst]:
    """Bodies that unpack to twice what any route takes: blanks, or what their reader has most to do with."""
    readers = {
        "/predict": (JSON, b"[]"),
        "/explain": (JSON, b"[]"),
        "/recourse": (JSON, b"[]"),
        f"/decisions/{OVERRIDDEN}/override": (JSON, b"[]"),
        INDEX: (JSON, b"[]"),
        "/predict/batch": (CSV, b"1\n"),
        "/outcomes": (CSV, b"1\n"),
        f"/v2/models/{bundle.name}/infer": (None, b"[]"),
    }
    packers = {
        "gzip": partial(gzip.compress, compresslevel=1, mtime=0),
        "deflate": partial(zlib.compress, level=1),
        "zstd": zstd.compress,
    }
    for (path, (media_type, piece)), (coding, pack) in itertools.product(readers.items(), packers.items()):
        for what, filling in (("blanks", b" "), (repr(piece.decode()), piece)):
            body = partial(_bomb, pack, filling)
            name = f"{path}: {what} in {coding}"
            statuses = (*REFUSED, 501) if path == "/outcomes" else REFUSED
            yield Worst(name, path, media_type, body, statuses, (f"Content-Encoding: {coding}",))


@cache
def _bomb(pack: Callable[[bytes], bytes], filling: bytes) -> bytes:
    """As far beyond every limit as a route could unpack before it sees that."""
    return pack(filling * (2 * MANY // len(filling)))
