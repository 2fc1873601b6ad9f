"""The columns of a table as encoded rows: `Schema.encode`'s rules, a column at a time."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from server.errors import MAX_LISTED_ERRORS, BadValue, BatchRefused, FieldError
from server.model.bounds import Bounds
from server.model.schema import MAX_EXACT_INTEGER, Feature, Matrix, Schema
from server.tables.cells import (
    MAX_NUMBER_LENGTH,
    ONES_AND_TWOS,
    PLAIN,
    CellRules,
    Read,
    cell_reader,
    in_ones_and_twos,
)


class Encoded(NamedTuple):
    """float64 [n, F], column after column, which rows are bad, bool [n], and what is wrong with some."""

    rows: Matrix
    bad: npt.NDArray[np.bool_]
    details: list[BadValue]


class _Column(NamedTuple):
    """Values as Float64, null or NaN where there is none, and which texts are no value of the feature."""

    values: pl.Series
    wrong: npt.NDArray[np.bool_] | None = None


def encode_table(
    table: pl.DataFrame, schema: Schema, bounds: Bounds, columns: Mapping[str, int], rules: CellRules = PLAIN
) -> Encoded:
    """The rows of a table; `columns` says which of its columns holds which feature.

    A feature without a column is missing. Texts are read as the cells of a CSV file
    are, by `rules`. Raises `BatchRefused` if a column's type can hold no values of
    its feature.
    """
    # A column after the other in memory: each is written, and looked at, as a whole.
    rows = np.full((len(schema), table.height), np.nan).T
    wrong = np.zeros((len(schema), table.height), dtype=np.bool_).T
    for i, feature in enumerate(schema.features):
        if feature.name in columns:
            column = _encoded(table.to_series(columns[feature.name]), feature, rules)
            if feature.form_kind == "flag" and _is_in_ones_and_twos(column.values):
                column = _Column(column.values, column.values.is_not_null().to_numpy())
            rows[:, i] = column.values.to_numpy()
            if column.wrong is not None:
                wrong[:, i] = column.wrong
    out_of_bounds = bounds.bad(rows)
    out_of_bounds |= wrong
    bad: npt.NDArray[np.bool_] = np.logical_or.reduce(out_of_bounds, axis=1)
    details = _describe(table, schema, out_of_bounds, columns, rules) if bad.any() else []
    return Encoded(rows, bad, details)


def _encoded(column: pl.Series, feature: Feature, rules: CellRules) -> _Column:
    dtype = column.dtype
    if dtype == pl.Null:
        return _Column(column.cast(pl.Float64))
    if dtype in (pl.Categorical, pl.Enum):
        return _encoded(column.cast(pl.String), feature, rules)
    if feature.kind == "category":
        return _by_value(column, feature, rules)
    if dtype == pl.String:
        return _numbers(column, feature, rules)
    if dtype == pl.Boolean and feature.form_kind == "flag":
        return _Column(column.cast(pl.Float64))
    if dtype.is_numeric():
        values = column.cast(pl.Float64)  # NaN is a missing value too
        whole = dtype.is_integer() and feature.kind == "integer"
        return _Column(values, _too_large(column, values) if whole else None)
    raise _refused(column, feature)


def _is_in_ones_and_twos(values: pl.Series) -> bool:
    # Most columns are told by their smallest value alone.
    return values.min() == 1.0 and in_ones_and_twos(values.unique().to_list())


def _too_large(column: pl.Series, values: pl.Series) -> npt.NDArray[np.bool_] | None:
    """Integers, and their `values` in float64, that float64 cannot tell from their neighbours."""
    # An integer is compared with none that its type could not hold: most types hold no such number.
    near = (values.abs() >= MAX_EXACT_INTEGER).fill_null(value=False).to_numpy()
    if not near.any():
        return None
    large = np.zeros(len(column), np.bool_)
    large[near] = [abs(value) > MAX_EXACT_INTEGER for value in column.filter(pl.Series(near)).to_list()]
    return large


def _numbers(column: pl.Series, feature: Feature, rules: CellRules) -> _Column:
    """Texts as numbers: most by the fast parser, what it does not read the same way one by one."""
    like_numbers = _words_like_numbers(rules)
    if like_numbers:
        column = column.set(column.is_in(like_numbers), None)
    texts = column
    if rules.decimal != ".":
        # A point in a file of decimal commas is not a decimal one.
        with_point = column.str.contains(".", literal=True)
        texts = column.str.replace(rules.decimal, ".", literal=True)
        texts = texts.set(with_point, None) if with_point.any() else texts
    numbers = texts.cast(pl.Float64, strict=False)
    if _all_read(numbers, column, feature):
        return _Column(numbers)
    again = numbers.is_null() | ~numbers.is_finite()
    if feature.kind == "integer":
        again |= numbers.abs() >= MAX_EXACT_INTEGER
    again |= column.str.len_bytes() > MAX_NUMBER_LENGTH
    again = (again.fill_null(value=True) & column.is_not_null() & (column != "")).fill_null(value=False)
    places = again.arg_true()
    found = _by_value(column[places], feature, rules)
    wrong = np.zeros(len(column), np.bool_)
    if found.wrong is not None:
        wrong[places.to_numpy()] = found.wrong
    return _Column(numbers.scatter(places, found.values), wrong)


@lru_cache(maxsize=16)
def _words_like_numbers(rules: CellRules) -> tuple[str, ...]:
    """The words for missing that the fast parser would read: `-999` is one where somebody says so."""
    words = pl.Series(rules.missing, dtype=pl.String)
    numbers = words.str.replace(rules.decimal, ".", literal=True).cast(pl.Float64, strict=False)
    return tuple(words.filter(numbers.is_finite().fill_null(value=False)))


def _all_read(numbers: pl.Series, texts: pl.Series, feature: Feature) -> bool:
    """Whether the fast parser has read every text of a column for certain: told by few looks at the whole."""
    if numbers.null_count() != texts.null_count() or numbers.is_nan().any():
        return False
    ends: list[Any] = [texts.str.len_bytes().max(), numbers.min(), numbers.max()]
    if None in ends:
        return True  # no value at all
    longest, low, high = ends
    largest = MAX_EXACT_INTEGER if feature.kind == "integer" else math.inf
    return bool(longest <= MAX_NUMBER_LENGTH and -largest < low and high < largest)


def _by_name(column: pl.Series, feature: Feature, read: Read) -> pl.Series | None:
    """The codes of a column in which every text is a category's own name, None if one is not."""
    names = feature.categories
    if column.dtype != pl.String or len(names) > _FEW_CATEGORIES:
        return None
    if [_code(name, read, feature) for name in names] != list(range(len(names))):
        return None
    codes = column.cast(pl.Enum(names), strict=False)
    return codes.to_physical().cast(pl.Float64) if codes.null_count() == column.null_count() else None


def _by_value(column: pl.Series, feature: Feature, rules: CellRules) -> _Column:
    """Each distinct value encoded once, as the feature encodes it."""
    read = cell_reader(feature, rules)
    if column.dtype not in (pl.String, pl.Boolean) and not column.dtype.is_numeric():
        raise _refused(column, feature)
    if (found := _by_name(column, feature, read)) is not None:
        return _Column(found)
    distinct = column.unique().drop_nulls()
    codes = [_code(value, read, feature) for value in distinct.to_list()]
    bad = [value for value, code in zip(distinct, codes, strict=True) if code is _WRONG]
    new = pl.Series([None if code is _WRONG else code for code in codes], dtype=pl.Float64)
    values = column.replace_strict(distinct, new, default=None, return_dtype=pl.Float64)
    if not bad:
        return _Column(values)
    return _Column(values, column.is_in(bad).fill_null(value=False).to_numpy())


_WRONG = object()
#: So many names are looked at for each block.
_FEW_CATEGORIES = 100


def _code(value: Any, read: Read, feature: Feature) -> Any:
    """The encoded value, None if it is missing, `_WRONG` if it is none."""
    value = read(value) if isinstance(value, str) else value
    if value is None or value != value:
        return None
    try:
        return feature.encode(value)
    except FieldError:
        return _WRONG


def _describe(
    table: pl.DataFrame,
    schema: Schema,
    wrong: npt.NDArray[np.bool_],
    columns: Mapping[str, int],
    rules: CellRules,
) -> list[BadValue]:
    places = np.argwhere(wrong)[:MAX_LISTED_ERRORS].tolist()
    readers = {feature.name: cell_reader(feature, rules) for feature in schema.features}
    found = []
    for row, i in places:
        feature = schema.features[i]
        value = table.to_series(columns[feature.name])[row] if feature.name in columns else None
        found.append(BadValue(row, feature.name, _detail(value, feature, readers[feature.name])))
    return found


def _detail(value: Any, feature: Feature, read: Read) -> str:
    try:
        value = read(value) if isinstance(value, str) else value
        feature.encode(None if value != value else value)
    except FieldError as error:
        return error.detail
    if feature.form_kind == "flag" and value in (0, 1):  # by itself it is one
        return ONES_AND_TWOS
    return f"expected {feature.expected}, got another value"


def _refused(column: pl.Series, feature: Feature) -> BatchRefused:
    return BatchRefused(
        f"expected {feature.expected} in column {column.name}, got a column of type {column.dtype}: "
        "write the column in another type"
    )
