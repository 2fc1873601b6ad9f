"""What the training data says of the features, and the data as the model sees it."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars

from export.errors import ExportRefused
from export.table import Table
from server.model.bounds import Bounds
from server.model.dialect import MISSING_WORDS
from server.model.schema import MAX_EXACT_INTEGER, Feature, FieldRefused, Inferred, Matrix, Schema

#: Bad values are named one by one up to here, and a column that has more of them than good ones is refused.
MAX_NAMED = 5
_BOOLEANS = {"true": 1.0, "false": 0.0}
_THOUSANDS = r"^([+-]?\d{1,3})((?:[.\x{00A0}\x{202F} ]\d{3})+)(,\d+)?$"


class Column(NamedTuple):
    """A column as the model sees it: float64 [n], NaN where missing or bad; which are bad, and as texts."""

    values: npt.NDArray[np.float64]
    bad: npt.NDArray[np.bool_]
    texts: polars.Series
    booleans: bool = False

    @property
    def has_gaps(self) -> bool:
        """Whether a value is missing; a bad one is not."""
        return bool((np.isnan(self.values) & ~self.bad).any())


@dataclass(frozen=True)
class Data:
    """The training rows in the order of the features, read once."""

    path: Any
    columns: tuple[Column, ...]

    @property
    def matrix(self) -> Matrix:
        """The rows, float64 [n, F], NaN where a value is missing or bad."""
        return np.column_stack([column.values for column in self.columns])

    def faults(self, schema: Schema) -> list[str]:
        """Every value that is none of its feature, by row, column and reason."""
        outside = Bounds(schema).bad(self.matrix)
        found = []
        for i, (feature, column) in enumerate(zip(schema.features, self.columns, strict=True)):
            for row in np.flatnonzero(column.bad | outside[:, i]).tolist():
                got = repr(str(column.texts[row])[:40]) if column.texts[row] is not None else "none"
                found.append(f"row {row + 1}, {feature.name}: expected {feature.expected[:200]}, got {got}")
        return found


def read_data(features: Sequence[Feature], table: Table) -> Data:
    """The columns of the features; raises `ExportRefused` if one is absent or is of another kind."""
    frame = table.columns
    if table.dialect is not None:  # a blank line of a text is no record
        frame = frame.filter(~polars.all_horizontal(polars.all().is_null()))
    if frame.is_empty():
        raise ExportRefused(f"expected rows in {table.path}, got none")
    decimal = table.dialect.decimal if table.dialect else "."
    names = column_names([feature.name for feature in features], frame.columns, str(table.path))
    columns = tuple(
        _column(feature, frame[names[feature.name]], decimal, str(table.path)) for feature in features
    )
    return Data(table.path, columns)


def column_names(features: Sequence[str], columns: Sequence[str], path: str) -> dict[str, str]:
    """For each feature the column that holds it; LightGBM writes `_` for blanks in a name."""
    spelled: dict[str, list[str]] = {}
    for column in columns:
        spelled.setdefault("_".join(column.split(" ")), []).append(column)
    found = {}
    absent = []
    for name in features:
        if name in columns:
            found[name] = name
        elif len(spelled.get(name, ())) == 1:
            found[name] = spelled[name][0]
        else:
            absent.append(name)
    if absent:
        near = get_close_matches(absent[0], columns, 1, 0.6)
        hint = f" (nearest: {near[0]!r})" if near else f": its columns are {', '.join(columns[:5])}…"
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise ExportRefused(
            f"expected a column of each feature in {path}, got none of {absent[0]}{more}{hint}"
        )
    return found


def infer(
    features: Sequence[Feature], data: Data, *, takes_missing: bool, gaps: Collection[int] = ()
) -> list[Feature]:
    """The features with what their columns show: kinds and ranges as inferred, and which may be missing.

    `gaps` are the features that the model itself knows to have been missing in training.
    """
    return [
        replace(_inferred(feature, column), nullable=takes_missing and (i in gaps or column.has_gaps))
        for i, (feature, column) in enumerate(zip(features, data.columns, strict=True))
    ]


def _inferred(feature: Feature, column: Column) -> Feature:
    present = column.values[~np.isnan(column.values)]
    if not len(present):
        return feature
    if feature.kind == "category":
        codes, counts = np.unique(present, return_counts=True)
        return replace(feature, default=feature.categories[int(codes[counts.argmax()])])
    low, high, median = float(present.min()), float(present.max()), float(np.median(present))
    if column.booleans or set(np.unique(present).tolist()) == {0.0, 1.0}:
        return replace(feature, default=None, inferred=Inferred("flag"))
    whole = bool((present == np.floor(present)).all()) and max(-low, high) <= MAX_EXACT_INTEGER
    if whole or feature.kind == "integer":
        return replace(feature, default=float(round(median)), inferred=Inferred("integer", low, high))
    return replace(feature, default=median, inferred=Inferred(None, low, high))


def _column(feature: Feature, column: polars.Series, decimal: str, path: str) -> Column:
    if column.dtype.is_nested() or column.dtype.is_temporal() or column.dtype == polars.Binary:
        raise ExportRefused(
            f"expected numbers or texts in the column {column.name} of {path}, got {column.dtype}: "
            "give the values that the model was trained on"
        )
    if column.dtype in (polars.Categorical, polars.Enum):
        column = column.cast(polars.String)
    read = _codes(feature, column) if feature.kind == "category" else _numbers(column, decimal)
    good = int((~np.isnan(read.values)).sum())
    if int(read.bad.sum()) > good:
        raise _refused(feature, read, path)
    return read


def _refused(feature: Feature, column: Column, path: str) -> ExportRefused:
    row = int(np.flatnonzero(column.bad)[0])
    got = f"got {column.texts[row]!r} in row {row + 1} and {int(column.bad.sum()) - 1} more"
    if feature.kind == "category":
        return ExportRefused(
            f"expected {feature.expected[:300]} in the column {feature.name} of {path}, {got}"
        )
    words = [word for word in column.texts.unique(maintain_order=True).to_list() if word not in MISSING_WORDS]
    return ExportRefused(
        f"expected numbers in the column {feature.name} of {path}, {got}: the model takes numbers there; "
        f"if it was trained on codes of {len(words)} words, name them in the order of their codes with "
        f'--schema ({{"name": "{feature.name}", "kind": "category", "categories": […]}})'
    )


def _numbers(column: polars.Series, decimal: str) -> Column:
    if column.dtype != polars.String:
        numbers = column.cast(polars.Float64).fill_nan(None)
        values = numbers.to_numpy().astype(np.float64)
        bad = np.isinf(values)
        return Column(np.where(bad, np.nan, values), bad, column, column.dtype == polars.Boolean)
    texts = column.str.strip_chars()
    missing = (texts.is_null() | texts.is_in(list(MISSING_WORDS))).to_numpy()
    plain = _with_points(texts) if decimal == "," else texts
    values = plain.cast(polars.Float64, strict=False).to_numpy().astype(np.float64)
    lower = texts.str.to_lowercase()
    words = lower.is_in(list(_BOOLEANS)).to_numpy()
    if words.any():
        values = np.where(words, lower.replace_strict(_BOOLEANS, default=math.nan).to_numpy(), values)
    bad = ~missing & ~np.isfinite(values)
    values = np.where(bad | missing, np.nan, values)
    return Column(values, bad, column, bool(words.any() and (words | missing | bad).all()))


def _with_points(texts: polars.Series) -> polars.Series:
    """Numbers with decimal commas and, between thousands, points or blanks, as Python writes them."""
    thousands = texts.str.contains(_THOUSANDS)
    joined = texts.str.replace_all(r"[.\x{00A0}\x{202F} ]", "")
    return joined.zip_with(thousands, texts).str.replace(",", ".", literal=True)


def _codes(feature: Feature, column: polars.Series) -> Column:
    """The codes of a category's column: each different value is encoded once, as a client's would be."""
    different = column.unique(maintain_order=True).to_list()
    codes = {value: _code(feature, value) for value in different if not _is_missing(feature, value)}
    if codes and all(math.isnan(code) for code in codes.values()):
        # The column may hold the codes themselves, as a label encoder left them.
        known = range(len(feature.categories))
        codes = {value: _number(value) if _number(value) in known else math.nan for value in codes}
    values = np.array([codes.get(value, math.nan) for value in column.to_list()], dtype=np.float64)
    present = np.array([value in codes for value in column.to_list()], dtype=np.bool_)
    return Column(values, np.isnan(values) & present, column)


def _is_missing(feature: Feature, value: Any) -> bool:
    if value is None or (type(value) is float and math.isnan(value)):
        return True
    return type(value) is str and value.strip() in MISSING_WORDS and value not in feature.categories


def _code(feature: Feature, value: Any) -> float:
    for spelling in _readings(value):
        try:
            return feature.encode(spelling)
        except FieldRefused:
            continue
    return math.nan


def _readings(value: Any) -> Iterator[Any]:
    """What a cell may stand for: itself, and of a text the number or boolean that it spells."""
    yield value
    if type(value) is not str:
        return
    yield value.strip()
    if value.strip().lower() in ("true", "false"):
        yield value.strip().lower() == "true"
    number = _number(value)
    if math.isfinite(number):
        yield number


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
