"""Which column of a LightGBM model holds which list of pandas categories.

The text lists the categories of every pandas column of dtype category, in the
order of the columns, and does not say which columns those are. They are not the
categorical features: an ordered category is a number for LightGBM, a column of
integers can be declared categorical, and a column without splits is neither. So a
pairing is found by what contradicts it, and where two are left the user is asked:
to count would put categories on another column, and every answer would be wrong.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, islice
from typing import Any, TypeAlias

from export.errors import ExportRefused
from export.forest.evidence import Evidence
from export.lightgbm.text import Booster

#: The categories of a column, in the order of their codes, as pandas had them.
Categories: TypeAlias = tuple[Any, ...]


def pair(booster: Booster, evidence: Evidence) -> dict[int, Categories]:
    """The categories of each column that held pandas categories, by the column's index.

    Raises `ExportRefused` if no pairing or more than one agrees with the file and the evidence.
    """
    lists, width = booster.pandas_categories, len(booster.feature_names)
    possible = [[i for i in range(width) if _may_hold(booster, i, values, evidence)] for values in lists]
    required = sorted(i for i in set(chain(*possible)) if _must_hold(booster.feature_names[i], evidence))
    found = list(islice(_pairings(possible, required), 2))
    if not found:
        raise ExportRefused(_words(booster, possible, "no column that each of them fits, in their order"))
    if len(found) > 1:
        raise ExportRefused(_words(booster, possible, "more than one way to pair them"))
    return dict(zip(found[0], lists, strict=True))


def _pairings(possible: Sequence[Sequence[int]], required: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every increasing choice of one column for each list in which no required column is left out."""

    @cache
    def columns(number: int, after: int) -> tuple[int, ...]:
        """The columns list `number` may have behind `after`, from which the rest can be chosen."""
        if number == len(possible):
            return () if any(i > after for i in required) else (-1,)
        return tuple(
            i
            for i in possible[number]
            if i > after and not any(after < other < i for other in required) and columns(number + 1, i)
        )

    def choices(number: int, after: int) -> Iterator[tuple[int, ...]]:
        if number == len(possible):
            yield from [()] if columns(number, after) else []
            return
        for i in columns(number, after):
            yield from ((i, *rest) for rest in choices(number + 1, i))

    return choices(0, -1)


def _must_hold(name: str, evidence: Evidence) -> bool:
    """Whether a column cannot have held anything but categories."""
    return name in evidence.categories or not all(map(_is_number, evidence.values(name) or ()))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _may_hold(booster: Booster, i: int, values: Categories, evidence: Evidence) -> bool:
    """Whether nothing contradicts that column i held these categories."""
    name, texts = booster.feature_names[i], tuple(map(str, values))
    said = evidence.categories.get(name)
    if said is not None or evidence.kinds.get(name, "category") != "category":
        return said is not None and set(said) == set(texts)
    observed = evidence.values(name)
    if observed is not None and not _fits(observed, set(texts)):
        return False
    if booster.codes[i] is None:  # without splits: any column may be so
        return True
    least, largest = booster.codes[i] or (0.0, 0.0)
    lowest = -1.0 if i in booster.categorical else 0.0  # a missing category has the code -1
    return lowest <= least and largest < len(values) and least.is_integer() and largest.is_integer()


def _fits(observed: frozenset[str], texts: set[str]) -> bool:
    """Whether a column with these values may have held the categories: of texts a few may be new."""
    return observed <= texts or (not all(map(_is_number, observed)) and not observed.isdisjoint(texts))


def _words(booster: Booster, possible: Sequence[Sequence[int]], problem: str) -> str:
    lists = "; ".join(
        f"{_shown(values)} fits {_columns(booster, columns)}"
        for values, columns in zip(booster.pandas_categories, possible, strict=True)
    )
    return (
        f"expected the file to tell which columns held its pandas categories, got {problem} ({lists[:600]}): "
        "give --data with training rows, or --describe with kind and categories of these columns"
    )


def _columns(booster: Booster, columns: Sequence[int]) -> str:
    names = [booster.feature_names[i] for i in columns[:4]] + (["…"] if len(columns) > 4 else [])
    return ", ".join(names) or "no column"


def _shown(values: Categories) -> str:
    return "[" + ", ".join(map(str, values[:3])) + (", …]" if len(values) > 3 else "]")
