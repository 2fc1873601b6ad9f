"""Values that a kind of file cannot hold: written as texts or refused, never changed without a word."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import polars as pl

from server.errors import BatchRefused, first_line

# Excel's specifications and limits; the days before are off by one there (its 29 February 1900).
_MAX_SHEET_COLUMNS, _MAX_CELL_CHARACTERS = 16_384, 32_767
_FIRST_SHEET_DAY, _LAST_SHEET_DAY = date(1900, 3, 1), date(9999, 12, 31)


@contextmanager
def held_by(target: str) -> Iterator[None]:
    """Turn what polars says of a value that a kind of file cannot hold into one sentence."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise BatchRefused(
            f"expected values that a {target} file can hold, got: {first_line(error)}: "
            "write another kind of file, or leave the column out"
        ) from None


def refuse_infinite(table: pl.DataFrame, target: str) -> None:
    """Raise `BatchRefused` for an infinite number where there is none: JSON and worksheets would be empty."""
    for column in table.iter_columns():
        if any(numbers.is_infinite().any() for numbers in _numbers(column)):
            raise BatchRefused(
                f"expected numbers that a {target} file can hold in column {column.name}, got an infinite "
                "one: write to .parquet or .csv, or leave the column out"
            )


def _numbers(column: pl.Series) -> Iterator[pl.Series]:
    """A column of floating-point numbers, and those inside its lists and structures."""
    if column.dtype.is_float():
        yield column
    elif column.dtype in (pl.List, pl.Array):
        yield from _numbers(column.explode())
    elif column.dtype == pl.Struct:
        for field in column.struct.unnest().iter_columns():
            yield from _numbers(field)


def for_worksheet(table: pl.DataFrame) -> pl.DataFrame:
    """The table with the columns as texts whose values a worksheet has no cells for.

    These are numbers of more digits than a double's (ids, mostly), times with a zone, and
    days before March 1900 or after 9999. Raises `BatchRefused` for longer texts and more
    columns than it holds.
    """
    if table.width > _MAX_SHEET_COLUMNS:
        raise BatchRefused(
            f"expected at most {_MAX_SHEET_COLUMNS:,} columns for a worksheet, got {table.width:,}: "
            "write to .parquet"
        )
    table = table.with_columns(
        column.cast(pl.String) for column in table.iter_columns() if not _has_cells(column)
    )
    for column in table.select(pl.col(pl.String)).iter_columns():
        longest = column.str.len_chars().max()
        if isinstance(longest, int) and longest > _MAX_CELL_CHARACTERS:
            raise BatchRefused(
                f"expected texts of at most {_MAX_CELL_CHARACTERS:,} characters for a worksheet, got "
                f"{longest:,} in column {column.name}: write to .parquet or .csv, or leave the column out"
            )
    return table


def _has_cells(column: pl.Series) -> bool:
    """Whether a worksheet holds each value of a column as what it is."""
    kind = column.dtype
    if kind.is_integer() or kind.is_decimal():
        return bool(column.cast(pl.Float64).cast(kind, strict=False).eq_missing(column).all())
    if isinstance(kind, pl.Datetime) and kind.time_zone is not None:
        return False
    if kind in (pl.Date, pl.Datetime):
        return bool(column.cast(pl.Date).is_between(_FIRST_SHEET_DAY, _LAST_SHEET_DAY).all())
    return True
