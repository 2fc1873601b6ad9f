"""Arrow's IPC format as a body of many rows: what polars writes, what damage does, what has no meaning."""

import asyncio
import io
import random
import sys
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import orjson
import polars as pl
import pytest

from server.api.arrow_rows import arrow_rows
from server.errors import BodyTooLarge, MalformedBody, Problem, UnacceptableRow, UnsupportedMedia
from server.model.schema import Feature, Schema
from server.tables.arrow_writer import arrow_stream

LONG = "a category of more than twelve bytes"
SCHEMA = Schema(
    [Feature("amount"), Feature("count", "integer"), Feature("word", "category", categories=("x", LONG))],
    ignored=("passed over",),
)
FRAME = pl.DataFrame(
    {"amount": [1.5, None, 0.1, float("nan")], "count": [1, 2, None, 4], "word": ["x", LONG, None, "Zoë"]}
)
ROWS = [
    {"amount": 1.5, "count": 1, "word": "x"},
    {"amount": None, "count": 2, "word": LONG},
    {"amount": 0.1, "count": None, "word": None},
    {"amount": None, "count": 4, "word": "Zoë"},
]


def read(body: bytes, limit: int = 100, row_bytes: int = 1000, most: int = 100_000) -> list[Any]:
    return list(map(orjson.loads, asyncio.run(arrow_rows(body, SCHEMA, limit, row_bytes, most))))


def stream(frame: pl.DataFrame, compression: str = "uncompressed") -> bytes:
    body = io.BytesIO()
    frame.write_ipc_stream(body, compression=cast(Any, compression))
    return body.getvalue()


def file(frame: pl.DataFrame, compression: str = "uncompressed") -> bytes:
    body = io.BytesIO()
    frame.write_ipc(body, compression=cast(Any, compression))
    return body.getvalue()


def as_polars_may_write_it(frame: pl.DataFrame) -> Iterator[bytes]:
    words = pl.Enum(["x", LONG, "Zoë"])
    for typed in (
        frame,
        *(frame.with_columns(pl.col("word").cast(kind)) for kind in (pl.Categorical, words)),
    ):
        for compression in ("uncompressed", "lz4", "zstd"):
            yield stream(typed, compression)
            yield file(typed, compression)
    old = io.BytesIO()
    frame.write_ipc_stream(old, compat_level=pl.CompatLevel.oldest())  # offsets in place of views
    yield old.getvalue()


def test_rows_are_those_that_polars_wrote() -> None:
    for body in as_polars_may_write_it(FRAME):
        assert read(body) == ROWS
    batches = pl.concat([FRAME[:1], FRAME[1:]], rechunk=False)
    assert read(stream(batches)) == ROWS
    assert read(stream(FRAME[1:3])) == ROWS[1:3]


def test_lz4_without_its_library_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the images, which do not bring it."""
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    with pytest.raises(UnsupportedMedia, match="compression='zstd'"):
        read(file(FRAME, "lz4"))
    assert read(file(FRAME, "zstd")) == ROWS


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1.5, None], pl.Float32, [1.5, None]),
        ([0.1], pl.Float32, [0.10000000149011612]),
        ([1.5, 65504.0], pl.Float16, [1.5, 65504.0]),
        ([2**53 + 1, -(2**63)], pl.Int64, [2**53 + 1, -(2**63)]),
        ([2**64 - 1], pl.UInt64, [2**64 - 1]),
        ([-128, None], pl.Int8, [-128, None]),
        ([True, None, False], pl.Boolean, [True, None, False]),
        ([Decimal("-12.50"), None, Decimal("0.07")], pl.Decimal(38, 2), [-12.5, None, 0.07]),
        ([None, None], pl.Null, [None, None]),
        ([], pl.Float64, []),
    ],
)
def test_value_is_what_its_type_says(values: list[Any], kind: Any, expected: list[Any]) -> None:
    frame = pl.DataFrame({"amount": pl.Series(values, dtype=kind)})
    assert [row["amount"] for row in read(stream(frame))] == expected


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        ([datetime(2026, 1, 1)], pl.Datetime, "timestamp"),
        ([datetime(2026, 1, 1).date()], pl.Date, "date"),
        ([[1.0]], pl.List(pl.Float64), "large list"),
        ([[1.0, 2.0]], pl.Array(pl.Float64, 2), "list of fixed size"),
        ([{"a": 1}], pl.Struct({"a": pl.Int64}), "struct"),
        ([b"x"], pl.Binary, "binary view"),
    ],
)
def test_type_without_meaning_is_refused_by_name_and_passed_over_where_it_is_ignored(
    values: list[Any], kind: Any, words: str
) -> None:
    column = pl.Series(values, dtype=kind)
    with pytest.raises(UnacceptableRow) as refusal:
        read(stream(pl.DataFrame({"amount": column})))
    (error,) = refusal.value.errors
    assert error.pointer == "/amount"
    assert f"got a column of type {words}: write it in another type" in error.detail
    ignoring = pl.DataFrame({"passed over": column, "count": [7], "word": ["x"]})
    for compression in ("uncompressed", "zstd"):
        assert read(stream(ignoring, compression)) == [{"count": 7, "word": "x"}]


def test_infinite_number_and_other_columns_are_named() -> None:
    with pytest.raises(UnacceptableRow) as refusal:
        read(stream(FRAME.with_columns(amount=pl.Series([1.0, 2.0, float("-inf"), 3.0]))))
    assert [error.pointer for error in refusal.value.errors] == ["/rows/2/amount"]
    with pytest.raises(UnacceptableRow) as refusal:
        read(stream(FRAME.with_columns(salary=1)))
    assert [error.pointer for error in refusal.value.errors] == ["/salary"]
    with pytest.raises(UnacceptableRow, match="preserve_index=False"):
        read(stream(FRAME.with_columns(__index_level_0__=1)))


def test_what_is_larger_than_it_looks_is_refused_before_it_is_made() -> None:
    with pytest.raises(UnacceptableRow, match="expected 1 to 3 rows, got more"):
        read(stream(FRAME), limit=3)
    zeros = pl.DataFrame({"amount": pl.Series([0.0] * 20_000)})
    with pytest.raises(BodyTooLarge, match="at most 100000 bytes, unpacked"):
        read(stream(zeros, "zstd"), limit=10**6)
    repeated = pl.DataFrame({"word": ["x" * 900] * 1000}).cast(pl.Categorical)
    assert len(stream(repeated)) < 10_000
    with pytest.raises(BodyTooLarge, match="each counted in every row"):
        read(stream(repeated), limit=1000)
    with pytest.raises(UnacceptableRow, match="rows of at most 100 bytes"):
        read(stream(repeated), limit=1000, row_bytes=100)
    with pytest.raises(MalformedBody, match="at most 1008 columns"):
        read(stream(pl.DataFrame({str(i): [1] for i in range(1009)})))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "ends before its mark"),
        (b"income,owner\n", "ends before its mark"),
        (b"PAR1....PAR1", "got Parquet: write Arrow IPC"),
        (b"FEA1....FEA1", "write it with version=2"),
        (b"ARROW1\0\0", "a file that is cut off"),
        (b"\xff\xff\xff\xff\0\0\0\0", "does not begin with a schema"),
        (stream(FRAME) + b"\0", "something behind its end"),
    ],
)
def test_what_is_no_stream_is_refused_in_words(body: bytes, words: str) -> None:
    with pytest.raises(MalformedBody, match=words):
        read(body)


def test_no_cut_loses_a_row_and_no_damage_is_more_than_a_refusal() -> None:
    chance = random.Random(0)
    for body in (stream(FRAME), file(FRAME, "lz4"), stream(FRAME.cast({"word": pl.Categorical}), "zstd")):
        for end in range(0, len(body), 37):
            with pytest.raises(MalformedBody):
                read(body[:end])
        for _ in range(60):
            damaged = bytearray(body)
            place = chance.randrange(len(damaged) // 4) * 4
            damaged[place : place + 4] = chance.choice((0, 1, -1, 2**31 - 1, chance.randrange(999))).to_bytes(
                4, "little", signed=True
            )
            try:
                rows = read(bytes(damaged))
            except Problem as problem:
                assert problem.status in (400, 413, 422)  # noqa: PT017 - or the rows are read
            else:
                assert len(rows) <= 100


def test_answer_is_read_by_polars() -> None:
    columns: dict[str, list[Any]] = {
        "id": [7, -(2**63)],
        "probability": [0.1, 5e-324],
        "decision": ["x", "Zoë"],
        "mixed": [1, "a"],
    }
    answer = pl.read_ipc_stream(arrow_stream(columns, {"model": "three@1"}))
    assert answer.schema == {
        "id": pl.Int64,
        "probability": pl.Float64,
        "decision": pl.String,
        "mixed": pl.String,
    }
    assert answer.to_dict(as_series=False) == columns | {"mixed": ["1", "a"]}
