"""A column of two values as 0 and 1."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars

from export.errors import ExportRefused
from server.model.wrong_value import MISSING

#: Pairs whose second word is the positive one, in small letters.
_KNOWN = (("0", "1"), ("0.0", "1.0"), ("false", "true"), ("no", "yes"), ("n", "y"))
_SHOWN = 5


class OutcomeColumn(NamedTuple):
    """The outcomes float64 [n], NaN where missing; the value that is 1; how many are missing."""

    values: npt.NDArray[np.float64]
    positive: str
    missing: int


def two_values(
    column: polars.Series, path: Path, asked: str | None = None, known: Sequence[str] = ()
) -> OutcomeColumn:
    """The target of a column of texts, numbers or booleans with two different values.

    `asked` is the value that is 1; else the second of `known`, if these are the two
    values, or of a pair that everybody knows. Raises `ExportRefused`.
    """
    words = column.cast(polars.String).str.strip_chars()
    words = words.set(words.is_in(list(MISSING)), None)
    values = sorted(words.drop_nulls().unique().to_list())
    if len(values) != 2:
        shown = ", ".join(map(repr, values[:_SHOWN])) + ("…" if len(values) > _SHOWN else "")
        raise ExportRefused(
            f"expected two values in the column {column.name} of {path}, got {len(values)} ({shown}): "
            "numbers and several classes are learned elsewhere, and served with python -m export"
        )
    positive = (
        known[1] if asked is None and sorted(known) == values else _positive(column.name, values, asked)
    )
    target = (words == positive).cast(polars.Float64).to_numpy().astype(np.float64)
    return OutcomeColumn(target, positive, words.null_count())


def _positive(name: str, values: Sequence[str], asked: str | None) -> str:
    if asked is not None:
        if asked not in values:
            raise ExportRefused(f"expected --positive to be {values[0]!r} or {values[1]!r}, got {asked!r}")
        return asked
    if tuple(value.lower() for value in values) in _KNOWN:
        return values[1]
    raise ExportRefused(
        f"expected to know which value of {name} has its probability learned, {values[0]!r} or "
        f"{values[1]!r}: say it with --positive"
    )
