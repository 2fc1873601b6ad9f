"""Files that know their columns' types: Parquet, Arrow and Excel workbooks, read in blocks of rows."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import fastexcel
import polars as pl

from server.batch.formats import ARROW, EXCEL, PARQUET
from server.batch.worksheet import read_sheet
from server.errors import BatchRefused, first_line, listed

#: Rows of a block.
TABLE_ROWS = 50_000
#: Of decimals that polars holds; decimal256 of Arrow has up to 76.
_MAX_DECIMAL_DIGITS = 38
#: What polars and its readers raise: also of whole files, whose types it does not know.
_UNREADABLE = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    fastexcel.FastExcelError,
    OSError,
)
_ELSEWISE = {
    PARQUET: ": if other programs read it, write it as .csv, or leave out columns of unusual types",
    ARROW: ": if other programs read it, write it as .parquet or .csv",
}


def scan_table(path: Path, kind: str) -> pl.LazyFrame:
    """The rows of a table, not yet read. The path is a name, never a pattern."""
    if kind == PARQUET:
        return pl.scan_parquet(path, glob=False)
    if kind == ARROW:
        with open(path, "rb") as file:
            is_file = file.read(6) == b"ARROW1"
        # A stream of Arrow record batches has no index to skip by: it is read as a whole.
        return pl.scan_ipc(path, glob=False) if is_file else pl.read_ipc_stream(path).lazy()
    assert kind == EXCEL
    return read_sheet(path).lazy()


def table_schema(path: Path, kind: str) -> dict[str, pl.DataType]:
    """The names and types of a table's columns; raises `BatchRefused`."""
    with table_errors(path, kind), without_panics():
        schema: dict[str, pl.DataType] = dict(scan_table(path, kind).collect_schema())
    # Polars takes them for decimals of its own, and fails when it writes them.
    wide = [name for name, dtype in schema.items() if _digits(dtype) > _MAX_DECIMAL_DIGITS]
    if wide:
        raise BatchRefused(
            f"expected decimals of at most {_MAX_DECIMAL_DIGITS} digits in {path}, "
            f"got more in {listed(wide)}: write them as decimal128, or as texts"
        )
    return schema


def _digits(dtype: pl.DataType) -> int:
    return dtype.precision if isinstance(dtype, pl.Decimal) else 0


def table_height(path: Path, kind: str) -> int:
    """The number of rows; raises `BatchRefused`."""
    with table_errors(path, kind):
        rows: int = scan_table(path, kind).select(pl.len()).collect().item()
    return rows


def table_blocks(path: Path, kind: str, columns: Sequence[int], first: int = 0) -> Iterator[pl.DataFrame]:
    """Some columns of the rows from `first` on, some at a time, or an empty table of none.

    Raises `BatchRefused` where the file is damaged.
    """
    with table_errors(path, kind):
        chosen = scan_table(path, kind).select(pl.nth(*columns))
        rows = chosen.slice(first)
        found = False
        for block in rows.collect_batches(chunk_size=TABLE_ROWS, maintain_order=True):
            if block.height:
                found = True
                yield block
        if not found and not first:
            yield chosen.head(0).collect()


def table_slice(path: Path, kind: str, first: int, rows: int) -> pl.DataFrame:
    """Some rows; raises `BatchRefused` where the file is damaged."""
    with table_errors(path, kind):
        return scan_table(path, kind).slice(first, rows).collect()


@contextmanager
def table_errors(path: Path, kind: str) -> Iterator[None]:
    """Turn what polars and its readers say of a damaged file into one sentence that names it."""
    try:
        yield
    except _UNREADABLE as error:
        found = f"{first_line(error)}{_ELSEWISE.get(kind, '')}"
        raise BatchRefused(f"expected {path} to be a whole {kind[1:]} file, got: {found}") from None


@contextmanager
def without_panics() -> Iterator[None]:
    """Nothing comes out on stderr meanwhile: polars prints there where it gives up, before it raises."""
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
