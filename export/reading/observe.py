"""What the training data says of the features, and the data as the model sees it."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars

from export.errors import ExportRefused
from export.forest.evidence import underscored
from export.reading.table import DataTable
from server.errors import FieldError, listed
from server.model.bounds import Bounds
from server.model.schema import MAX_EXACT_INTEGER, Feature, Inferred, Matrix, Schema
from server.tables.cells import CellRules, category_words, number
from server.tables.columns import FeatureNames

#: Bad values are named one by one up to here, and a column that has more of them than good ones is refused.
MAX_NAMED = 5
_BOOLEANS = {"true": 1.0, "false": 0.0}


class DataColumn(NamedTuple):
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

    path: Path
    columns: tuple[DataColumn, ...]

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


def read_data(features: Sequence[Feature], table: DataTable) -> Data:
    """The columns of the features; raises `ExportRefused` if one is absent or is of another kind."""
    frame = table.columns
    if frame.is_empty():
        raise ExportRefused(f"expected rows in {table.path}, got none: name another file")
    named = _by_feature(features, frame.columns, table.path)
    columns = tuple(_column(f, frame[named[f.name]], table) for f in features)
    return Data(table.path, columns)


class DataNames:
    """The feature that a column of the data means: by name, label or case; a blank is LightGBM's `_`."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self._find = FeatureNames(Schema(features))
        self._blanks = {underscored(feature.name): feature.name for feature in features}

    def __call__(self, column: str) -> str | None:
        """The feature's name, None if it means none."""
        return self._find(column) or self._find(underscored(column)) or self._blanks.get(column)


def named_as_columns(
    features: Sequence[Feature], columns: Collection[str], written: Collection[str]
) -> list[Feature]:
    """The features by the names that the data has: with blanks where LightGBM put `_`.

    Not of those `written` in a description, nor where two columns differ by that alone.
    """
    blanks: dict[str, list[str]] = {}
    for column in columns:
        blanks.setdefault(underscored(column), []).append(column)

    def renamed(feature: Feature) -> Feature:
        found = [] if feature.name in written else blanks.get(feature.name, [])
        return replace(feature, name=found[0]) if len(found) == 1 else feature

    return [renamed(feature) for feature in features]


def _by_feature(features: Sequence[Feature], columns: Sequence[str], path: Path) -> dict[str, str]:
    """The column of each feature; raises `ExportRefused` if one has none, or two that are equally near."""
    find = DataNames(features)
    named: dict[str, str] = {}
    for column in columns:
        feature = find(column)
        if feature is None or (feature in named and column != feature):
            continue
        named[feature] = column
    absent = [feature.name for feature in features if feature.name not in named]
    if absent:
        near = get_close_matches(absent[0], columns, 1, 0.6)
        hint = f" (nearest: {near[0]!r})" if near else f": its columns are {listed(columns)}"
        raise ExportRefused(f"expected a column of {listed(absent)} in {path}, got none{hint}")
    return named


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


def _inferred(feature: Feature, column: DataColumn) -> Feature:
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


def _column(feature: Feature, column: polars.Series, table: DataTable) -> DataColumn:
    if column.dtype.is_nested() or column.dtype.is_temporal() or column.dtype == polars.Binary:
        raise ExportRefused(
            f"expected numbers or texts in the column {column.name} of {table.path}, got {column.dtype}: "
            "give the values that the model was trained on"
        )
    if column.dtype in (polars.Categorical, polars.Enum):
        column = column.cast(polars.String)
    rules = table.rules
    read = _codes(feature, column, rules) if feature.kind == "category" else _numbers(column, rules)
    good = int((~np.isnan(read.values)).sum())
    if int(read.bad.sum()) > good:
        raise _refused(feature, read, table)
    return read


def _refused(feature: Feature, column: DataColumn, table: DataTable) -> ExportRefused:
    row = int(np.flatnonzero(column.bad)[0])
    got = f"got {column.texts[row]!r} in row {row + 1} and {int(column.bad.sum()) - 1} more"
    if feature.kind == "category":
        return ExportRefused(
            f"expected {feature.expected[:300]} in the column {feature.name} of {table.path}, {got}"
        )
    words = set(column.texts.drop_nulls().str.strip_chars().to_list()).difference(table.rules.missing)
    return ExportRefused(
        f"expected numbers in the column {feature.name} of {table.path}, {got}: the model takes "
        f"numbers there; if it was trained on codes of {len(words)} words, name them in their order with "
        f'--describe ({{"name": "{feature.name}", "kind": "category", "categories": […]}})'
    )


def _numbers(column: polars.Series, rules: CellRules) -> DataColumn:
    if column.dtype != polars.String:
        values = column.cast(polars.Float64).fill_nan(None).to_numpy().astype(np.float64)
        bad = np.isinf(values)
        return DataColumn(np.where(bad, np.nan, values), bad, column, column.dtype == polars.Boolean)
    texts = column.str.strip_chars()
    missing = (texts.is_null() | texts.is_in(list(rules.missing))).to_numpy()
    different = texts.filter(~polars.Series(missing)).unique().to_list()
    read = {text: _number(text, rules) for text in different}
    values = texts.replace_strict(read, default=math.nan, return_dtype=polars.Float64).to_numpy()
    booleans = bool(different) and all(text.lower() in _BOOLEANS for text in different)
    return DataColumn(values, ~missing & np.isnan(values), column, booleans)


def _number(text: str, rules: CellRules) -> float:
    if text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    value = number(text, rules)
    return math.nan if isinstance(value, str) else float(value)


def _codes(feature: Feature, column: polars.Series, rules: CellRules) -> DataColumn:
    """The codes of a category's column: each different value is encoded once, as a client's would be."""
    missing = set(rules.missing).difference(feature.categories)
    words = category_words(feature)
    codes = {
        value: _code(feature, words, value)
        for value in column.unique(maintain_order=True).to_list()
        if not (value is None or value != value or (type(value) is str and value.strip() in missing))
    }
    if codes and all(math.isnan(code) for code in codes.values()):
        # The column may hold the codes themselves, as a label encoder left them.
        known = range(len(feature.categories))
        codes = {value: _float(value) if _float(value) in known else math.nan for value in codes}
    values = np.array([codes.get(value, math.nan) for value in column.to_list()], dtype=np.float64)
    present = np.array([value in codes for value in column.to_list()], dtype=np.bool_)
    return DataColumn(values, np.isnan(values) & present, column)


def _code(feature: Feature, words: Mapping[str, str], value: Any) -> float:
    for spelling in _readings(words, value):
        try:
            return feature.encode(spelling)
        except FieldError:
            continue
    return math.nan


def _readings(words: Mapping[str, str], value: Any) -> Iterator[Any]:
    """What a cell may stand for: itself, and of a text the label, number or boolean that it spells."""
    yield value
    if type(value) is not str:
        return
    text = value.strip()
    yield words.get(text, text)
    if text.lower() in _BOOLEANS:
        yield text.lower() == "true"
    if math.isfinite(_float(text)):
        yield _float(text)


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
