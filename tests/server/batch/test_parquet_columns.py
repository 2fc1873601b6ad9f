"""Columns added to Parquet: the others are copied as they were packed, whoever wrote them."""

import random
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from server.batch.job import BatchJob
from server.batch.parquet_columns import add_columns, can_be_added_to
from server.batch.tables import table_schema
from server.batch.thrift_compact import read_struct, written
from server.errors import BatchRefused
from server.model.bundle import Bundle
from tests.support.bundles import THREE_FEATURES, sample_rows


def table(rows: int) -> pl.DataFrame:
    """Rows with columns that are carried along, of many types, some values missing."""
    source = random.Random(rows)
    features = pl.DataFrame(sample_rows(THREE_FEATURES, rows, 3), infer_schema_length=None)
    return features.with_columns(
        pl.Series("id", [source.getrandbits(63) for _ in range(rows)], dtype=pl.Int64),
        pl.Series("note", [source.choice(["", "é", "a" * 200, None]) for _ in range(rows)], dtype=pl.String),
        pl.Series("day", [date.fromordinal(source.randrange(1, 3_000_000)) for _ in range(rows)]),
        pl.Series("share", [source.random() for _ in range(rows)], dtype=pl.Float32),
        pl.Series("flag", [source.choice([True, False, None]) for _ in range(rows)], dtype=pl.Boolean),
        pl.Series("small", [source.randrange(256) for _ in range(rows)], dtype=pl.UInt8),
    )


def by_duckdb(content: pl.DataFrame, path: Path, options: str) -> None:
    content.write_ndjson(path.with_suffix(".jsonl"))
    rows = f"read_json('{path.with_suffix('.jsonl')}', sample_size = -1)"
    duckdb.sql(f"COPY (SELECT * FROM {rows}) TO '{path}' (FORMAT parquet, {options})")


WRITERS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "polars": lambda content, path: content.write_parquet(path),
    "polars, small groups": lambda content, path: content.write_parquet(path, row_group_size=700),
    "polars, snappy, no statistics": lambda content, path: content.write_parquet(
        path, compression="snappy", statistics=False, row_group_size=999
    ),
    "polars, more than one block": lambda content, path: pl.concat([content] * 20).write_parquet(path),
    "DuckDB": lambda content, path: by_duckdb(content, path, "ROW_GROUP_SIZE 2048"),
    "DuckDB, version 2": lambda content, path: by_duckdb(
        content, path, "ROW_GROUP_SIZE 2048, CODEC 'zstd', PARQUET_VERSION v2"
    ),
}


def asked(query: str) -> list[tuple[Any, ...]]:
    """What DuckDB, another reader, answers."""
    return duckdb.connect().execute(query).fetchall()


def scored(path: Path, bundle: Bundle, out: str, on_bad_row: Any = "fail") -> Path:
    target = path.with_name(out)
    BatchJob(path, target, bundle, on_bad_row, 2).run(lambda *_: None)
    return target


@pytest.mark.parametrize("writer", WRITERS)
def test_output_is_the_input_with_the_columns_of_the_other_way(
    writer: str, three: Path, tmp_path: Path
) -> None:
    path, bundle = tmp_path / "in.parquet", Bundle.load(three)
    WRITERS[writer](table(5000), path)
    assert can_be_added_to(path, table_schema(path, ".parquet"))
    found = pl.read_parquet(scored(path, bundle, "out.parquet"))
    anew = pl.read_ipc(scored(path, bundle, "out.arrow"))
    assert found.equals(anew, null_equal=True)
    assert found.schema == anew.schema
    assert found.drop("probability", "decision").equals(pl.read_parquet(path))
    rows = asked(f"SELECT probability, decision, note FROM '{tmp_path / 'out.parquet'}'")
    assert rows == anew.select("probability", "decision", "note").rows()


def test_pages_are_copied_as_they_are(three: Path, tmp_path: Path) -> None:
    """A page that nobody asks for comes out as it went in, and the output is scored again."""
    path, bundle = tmp_path / "in.parquet", Bundle.load(three)
    table(3000).write_parquet(path, compression="gzip", row_group_size=1000)
    target = scored(path, bundle, "out.parquet")
    columns = "path_in_schema, compression, total_compressed_size"
    sizes = f"SELECT {columns} FROM parquet_metadata('{{}}') ORDER BY ALL"
    before, after = (asked(sizes.format(file)) for file in (path, target))
    assert [row for row in after if row[1] == "GZIP"] == before
    again = pl.read_parquet(scored(target, bundle, "again.parquet"))
    assert again["hotrow_probability"].equals(again["probability"])


def test_bad_rows_have_no_answer(three: Path, tmp_path: Path) -> None:
    path, bundle = tmp_path / "in.parquet", Bundle.load(three)
    content = table(300).with_columns(owner=pl.int_range(300).cast(pl.Float64) % 3)
    content.write_parquet(path, row_group_size=70)
    found = pl.read_parquet(scored(path, bundle, "out.parquet", "null"))
    assert (found["probability"].is_null() == (content["owner"] == 2)).all()
    # Rows that are left out are left out of every column: the file is written anew.
    left = pl.read_parquet(scored(path, bundle, "skipped.parquet", "skip"))
    assert left.equals(found.filter(pl.col("owner") != 2))


def test_run_goes_on_after_an_interruption(three: Path, tmp_path: Path) -> None:
    path, bundle = tmp_path / "in.parquet", Bundle.load(three)
    pl.concat([table(5000)] * 40).write_parquet(path, row_group_size=30_000)
    whole = scored(path, bundle, "whole.parquet").read_bytes()

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    job = BatchJob(path, tmp_path / "out.parquet", bundle, "fail", 1)
    with pytest.raises(KeyboardInterrupt):
        job.run(stop)
    totals = BatchJob(path, tmp_path / "out.parquet", bundle, "fail", 1).run(lambda *_: None)
    assert totals.resumed_rows > 0
    assert (tmp_path / "out.parquet").read_bytes() == whole


@pytest.mark.parametrize("carried", [[[1]], [{"a": 1}], ["a"]], ids=str)
def test_types_that_a_schema_beside_explains_are_written_anew(
    carried: Any, three: Path, tmp_path: Path
) -> None:
    path = tmp_path / "in.parquet"
    column = pl.Series("carried", carried, dtype=pl.Categorical if carried == ["a"] else None)
    content = pl.DataFrame({"income": [1.0], "contract": ["none"], "owner": [True], "carried": column})
    content.write_parquet(path)
    assert not can_be_added_to(path, table_schema(path, ".parquet"))
    found = pl.read_parquet(scored(path, Bundle.load(three), "out.parquet"))
    assert found.select(content.columns).equals(content)
    assert found.schema["carried"] == content.schema["carried"]


def test_file_without_rows(three: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    table(3)[:0].write_parquet(path)
    found = pl.read_parquet(scored(path, Bundle.load(three), "out.parquet"))
    assert found.columns[-2:] == ["probability", "decision"]
    assert found.height == 0


@pytest.mark.parametrize("writer", WRITERS)
def test_footer_that_is_read_and_written_is_the_same(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    WRITERS[writer](table(5000), path)
    content = path.read_bytes()
    footer = content[-8 - int.from_bytes(content[-8:-4], "little") : -8]
    assert written(read_struct(footer)) == footer


def test_damaged_footers_are_left_to_the_reader(tmp_path: Path) -> None:
    """Whatever stands there, the answer is yes or no."""
    path, source = tmp_path / "in.parquet", random.Random(5)
    table(200).write_parquet(path, row_group_size=50)
    content, schema = path.read_bytes(), table_schema(path, ".parquet")
    length = int.from_bytes(content[-8:-4], "little") + 8
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(source.randrange(1, 5)):
            damaged[-source.randrange(1, length + 1)] = source.randrange(256)
        path.write_bytes(damaged)
        can_be_added_to(path, schema)
    path.write_bytes(content)
    assert can_be_added_to(path, schema)


@pytest.mark.parametrize("rows", [99, 101, 0])
def test_columns_of_other_rows_are_not_added(tmp_path: Path, rows: int) -> None:
    table(100).write_parquet(tmp_path / "in.parquet", row_group_size=30)
    added = pl.DataFrame({"probability": [0.5] * rows})
    with pytest.raises(BatchRefused, match="to stay as it was"):
        add_columns(tmp_path / "in.parquet", iter([added[:50], added[50:]]), tmp_path / "whole")


def test_columns_are_not_added_to_what_took_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(b"PAR1" + b"0" * 100 + b"PAR1")
    with pytest.raises(BatchRefused, match="to stay as it was"):
        add_columns(tmp_path / "in.parquet", iter(()), tmp_path / "whole")
