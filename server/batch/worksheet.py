"""The first sheet of a workbook as a table: each cell as it is, also beside cells of other kinds."""

import logging
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import fastexcel
import polars as pl

from server.tables.workbook_xml import check_places

# It prints a line for each column of several kinds of cells, and these are read below.
logging.getLogger("fastexcel").setLevel(logging.ERROR)
_BOOLEANS = ["true", "false"]


def read_sheet(path: Path) -> pl.DataFrame:
    """The rows that are not empty, below a header; a column of several kinds of cells holds texts.

    Raises `BatchRefused` for cells so far from each other that a table of them has no room.
    """
    # What is damaged is for the reader to say.
    with suppress(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError):
        check_places(path)
    try:
        return _read(path, read_options={"dtype_coercion": "strict"})
    except fastexcel.UnsupportedColumnTypeCombinationError:
        return _read_mixed(path)


def _read_mixed(path: Path) -> pl.DataFrame:
    """The reader would take TRUE among numbers for 1, and cut numbers among texts to nine decimals."""
    table = _read(path, drop_empty_rows=False)
    names = [column.name for column in table if column.dtype == pl.String or column.dtype.is_numeric()]
    texts, numbers = (
        _read(path, drop_empty_rows=False, drop_empty_cols=False, schema_overrides=dict.fromkeys(names, kind))
        for kind in (pl.String, pl.Float64)
    )
    table = table.with_columns(_as_it_is(table[name], texts[name], numbers[name]) for name in names)
    return table.filter(~pl.all_horizontal(pl.all().is_null()))


def _as_it_is(column: pl.Series, texts: pl.Series, numbers: pl.Series) -> pl.Series:
    """A column by its cells as texts, and as numbers where they are some."""
    if column.dtype.is_numeric() and not texts.is_in(_BOOLEANS).any():
        return column
    # Texts of digits are no numbers that were cut: an id keeps its zeros.
    is_cut = (texts.cast(pl.Float64, strict=False) != numbers).fill_null(value=False)
    return numbers.cast(pl.String).str.strip_suffix(".0").zip_with(is_cut, texts)


def _read(path: Path, **options: Any) -> pl.DataFrame:
    table: pl.DataFrame = pl.read_excel(path, raise_if_empty=False, infer_schema_length=None, **options)
    return table
