"""Golden rows: synthetic applicants as a client would send them, none of them real.

They warm the server up, prove the graph at every start, feed load tests and
fill the form's examples. So that all of a schema is exercised, ordinary rows are
followed by rows with every category, every way to write a flag or a missing
value, and both ends of every range.
"""

from typing import Any, TypeAlias

import numpy as np

from server.model.schema import Feature, Matrix
from train.tables.data import DAYS_PER_YEAR
from train.tables.features import SCHEMA
from train.tables.synthetic import Array, draw_population

Row: TypeAlias = dict[str, Any]

ORDINARY = 200
#: A seed of its own: golden rows are not among the rows of a synthetic training set.
SEED = 20_260
#: Decimals people write; amounts not named here are rounded to hundreds.
_DECIMALS = {
    "EXT_SOURCE_1": 3,
    "EXT_SOURCE_2": 3,
    "EXT_SOURCE_3": 3,
    "CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean": 2,
    "BUREAU_AMT_CREDIT_SUM_OVERDUE_max": 2,
    "AGE_YEARS": 1,
    "YEARS_EMPLOYED": 1,
}


def synthetic_rows(count: int, seed: int = SEED) -> list[Row]:
    """Applicants with figures as people write them; missing features are absent."""
    people = draw_population(count, seed)
    columns = {
        name: _values(feature, people) for name, feature in zip(SCHEMA.names, SCHEMA.features, strict=True)
    }
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def golden_rows() -> list[Row]:
    """The golden rows of the credit model, the same in every bundle."""
    ordinary = synthetic_rows(ORDINARY)
    written = [_write_missing_as_null(row) if i % 4 == 0 else row for i, row in enumerate(ordinary)]
    base = next(row for row in ordinary if len(row) == len(SCHEMA))
    required = {f.name: base[f.name] for f in SCHEMA.features if not f.nullable}
    variants = [{**base, f.name: value} for f in SCHEMA.features for value in _special_values(f)]
    ends = [{f.name: end for f in SCHEMA.features if (end := _end(f, side)) is not None} for side in (0, 1)]
    nothing = {f.name: required.get(f.name) for f in SCHEMA.features}
    return [*written, *variants, *ends, required, nothing]


def encode(rows: list[Row]) -> Matrix:
    """The rows as the server encodes them, float64 [n, F]."""
    return np.array([np.frombuffer(SCHEMA.encode(row)) for row in rows])


def _values(feature: Feature, people: dict[str, Array]) -> list[Any]:
    if feature.name == "AGE_YEARS":
        column = -people["DAYS_BIRTH"] / DAYS_PER_YEAR
    elif feature.name == "YEARS_EMPLOYED":
        column = -people["DAYS_EMPLOYED_clean"] / DAYS_PER_YEAR
    else:
        column = people[feature.name]
    if feature.kind == "category":
        return [str(word) for word in column]
    if feature.kind == "flag":
        return [int(value) for value in column]
    decimals = _DECIMALS.get(feature.name, -2)
    return [None if np.isnan(value) else round(float(value), decimals) for value in column]


def _write_missing_as_null(row: Row) -> Row:
    return {name: row.get(name) for name in SCHEMA.names}


def _special_values(feature: Feature) -> list[Any]:
    """Every category, every spelling of a flag, the ends of a range, and null where it is allowed."""
    missing = [None] if feature.nullable else []
    if feature.kind == "category":
        return [*feature.categories, *missing]
    if feature.kind == "flag":
        return [0, 1, True, False, *missing]
    return [*feature.range, *missing]


def _end(feature: Feature, side: int) -> Any:
    values = [value for value in _special_values(feature) if value is not None]
    return values[-1] if side else values[0]
