"""Arrow streams and files that a worker has most to do with: bodies of `worst_requests`."""

import io
from collections.abc import Callable, Iterator
from typing import Any, cast

import polars as pl

from server.model.bundle import Bundle
from server.tables.arrow_metadata import Message

#: A little less than `max_batch_bytes`, and the rows that a batch may have.
MANY, ROWS = 2**24 - 4096, 10_000
_LONG = 32_000


def arrow_bodies(bundle: Bundle) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """What each is, and its bytes."""
    number = next(f.name for f in bundle.schema.features if f.kind == "number")
    category = next(f.name for f in bundle.schema.features if f.kind == "category")
    numbers = [f.name for f in bundle.schema.features if f.kind == "number"]
    decimal = pl.Decimal(38, 10)

    def texts(count: int, size: int) -> pl.DataFrame:
        return pl.DataFrame({category: [f"{n:07d}" + "x" * (size - 7) for n in range(count)]})

    yield "rows", lambda: _stream(pl.DataFrame({name: [0.5] * ROWS for name in numbers}))
    yield (
        "decimals",
        lambda: _stream(pl.DataFrame({name: ["0.5"] * ROWS for name in numbers}).cast(decimal), "zstd"),
    )
    yield "too many rows", lambda: _stream(pl.DataFrame({number: pl.zeros(MANY - 8192, pl.Int8, eager=True)}))
    yield (
        "too many rows, packed",
        lambda: _stream(pl.DataFrame({number: pl.zeros(10**7, pl.Int8, eager=True)}), "zstd"),
    )
    yield "texts", lambda: _stream(texts(ROWS, MANY // ROWS - 20))
    yield "texts of lz4", lambda: _stream(texts(ROWS, MANY // ROWS - 20), "lz4")
    yield "a long text, packed", lambda: _stream(texts(1, MANY), "zstd")
    yield "a longer text, packed", lambda: _stream(texts(1, 2 * MANY), "zstd")
    yield (
        "a dictionary of long texts",
        lambda: _file(texts(ROWS // 10, _LONG).cast({category: pl.Categorical}), "zstd"),
    )
    yield (
        "one long text again and again",
        lambda: _stream(pl.concat([texts(1, _LONG)] * ROWS).cast({category: pl.Categorical})),
    )
    yield "columns", lambda: _stream(pl.DataFrame({f"{n:07x}": [1.0] for n in range(5000)}))
    yield "batches", lambda: _batches(pl.DataFrame({number: [0.5]}), MANY)
    yield (
        "batches of dictionaries",
        lambda: _batches(texts(1, 1000).cast({category: pl.Categorical}), MANY, dictionary=True),
    )


def _stream(frame: pl.DataFrame, compression: str = "uncompressed") -> bytes:
    body = io.BytesIO()
    frame.write_ipc_stream(body, compression=cast(Any, compression))
    return body.getvalue()


def _file(frame: pl.DataFrame, compression: str) -> bytes:
    body = io.BytesIO()
    frame.write_ipc(body, compression=cast(Any, compression))
    return body.getvalue()


def _batches(frame: pl.DataFrame, size: int, *, dictionary: bool = False) -> bytes:
    """The frame's one batch, or its one dictionary, as often as it fits behind a schema."""
    whole = _stream(frame)
    ends = list(_ends(whole))
    piece = whole[ends[0] : ends[1] if dictionary else ends[-1]]
    return whole[: ends[0]] + piece * ((size - len(whole)) // len(piece)) + whole[ends[0] :]


def _ends(stream: bytes) -> Iterator[int]:
    """Where each message of a stream ends, before which stand a mark and its length."""
    data, end = memoryview(stream), 0
    while size := int.from_bytes(data[end + 4 : end + 8], "little"):
        end = Message(data, end + 8, size).end
        yield end
