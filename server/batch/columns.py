"""The columns of a table as encoded rows: `Schema.encode`'s rules, a column at a time."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from server.api.batch_bodies import cell_reader
from server.errors import HotrowError
from server.model.bounds import Bounds
from server.model.schema import Feature, FieldRefused, Matrix, Schema

#: Bad values that are described per block of a file; the others are counted.
MAX_DESCRIBED = 1000


class BatchRefused(HotrowError):
    """A file that cannot be scored as it is."""


class BadValue(NamedTuple):
    """One value that is none of its feature: the row's index in the table, and what was expected."""

    row: int
    feature: str
    detail: str


class Encoded(NamedTuple):
    """float64 [n, F], which rows are bad, bool [n], and what is wrong with the first of them."""

    rows: Matrix
    bad: npt.NDArray[np.bool_]
    details: list[BadValue]


def encode_table(table: pl.DataFrame, schema: Schema, bounds: Bounds) -> Encoded:
    """The rows of a table; a feature without a column is missing, other columns are left alone.

    Text columns are read as the cells of a CSV file are. Raises `BatchRefused` if
    a column's type can hold no values of its feature.
    """
    rows = np.full((table.height, len(schema)), np.nan)
    wrong = np.zeros(rows.shape, dtype=np.bool_)
    for i, feature in enumerate(schema.features):
        if feature.name in table.columns:
            values = _numbers(table[feature.name], feature)
            rows[:, i] = values.to_numpy()
            if values.null_count() != table[feature.name].null_count():
                wrong[:, i] = (values.is_null() & ~_is_missing(table[feature.name])).to_numpy()
    wrong |= bounds.bad(rows)
    bad: npt.NDArray[np.bool_] = np.logical_or.reduce(wrong, axis=1)
    return Encoded(rows, bad, _describe(table, schema, wrong))


def _numbers(column: pl.Series, feature: Feature) -> pl.Series:
    """The column as Float64, null where a value is missing or cannot be read."""
    if column.dtype == pl.Null:
        return column.cast(pl.Float64)
    if feature.kind == "category":
        return _codes(column, feature)
    if column.dtype == pl.Boolean and feature.form_kind == "flag":
        return column.cast(pl.Float64)
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).fill_nan(None)
    if column.dtype == pl.String:
        return _parsed(column, feature)
    raise _refused(column, feature)


def _codes(column: pl.Series, feature: Feature) -> pl.Series:
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise _refused(column, feature)
    words = pl.Enum(feature.categories)
    return column.cast(pl.String).cast(words, strict=False).to_physical().cast(pl.Float64)


def _parsed(column: pl.Series, feature: Feature) -> pl.Series:
    numbers = column.cast(pl.Float64, strict=False)
    # What the fast parser does not read (blanks around it, true, false) is read one by one.
    left = (numbers.is_null() & column.is_not_null()).arg_true()
    if len(left):
        read = [_encoded(cell_reader(feature), feature, text) for text in column[left].to_list()]
        numbers = numbers.scatter(left, read)
    if numbers.is_finite().all():  # nulls apart
        return numbers
    return numbers.set(numbers.is_nan() | numbers.is_infinite(), None)


def _encoded(read: Callable[[str], Any], feature: Feature, text: str) -> float | None:
    try:
        return feature.encode(read(text)) if text else None
    except FieldRefused:
        return None


def _is_missing(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        return column.is_null() | (column == "").fill_null(True)
    return column.is_null() | column.is_nan() if column.dtype.is_float() else column.is_null()


def _describe(table: pl.DataFrame, schema: Schema, wrong: npt.NDArray[np.bool_]) -> list[BadValue]:
    places = np.argwhere(wrong)[:MAX_DESCRIBED].tolist()
    return [BadValue(row, *_detail(table, schema.features[i], row)) for row, i in places]


def _detail(table: pl.DataFrame, feature: Feature, row: int) -> tuple[str, str]:
    value = table[feature.name][row] if feature.name in table.columns else None
    try:
        feature.encode(cell_reader(feature)(value) if isinstance(value, str) and value else value or None)
    except FieldRefused as refusal:
        return feature.name, str(refusal)
    return feature.name, f"expected {feature.expected}, got another value"


def _refused(column: pl.Series, feature: Feature) -> BatchRefused:
    return BatchRefused(
        f"expected {feature.expected} in column {feature.name}, got a column of type {column.dtype}: "
        "write the column in another type"
    )


def output_columns(task: str, classes: Sequence[str]) -> list[str]:
    """The names of the columns that are added to the input's."""
    if task == "binary":
        return ["probability", "decision"]
    return [*(f"probability_{name}" for name in classes), "prediction"]
