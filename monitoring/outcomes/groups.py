"""Which group of people a decision is of, by a field of its row."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from monitoring.errors import LogError
from monitoring.outcomes.measures import Vector

MAX_GROUPS = 16
UNKNOWN_GROUP = "unknown"


def group_name(text: str | None, cuts: Sequence[float]) -> str:
    """The group of a value of the log; without `cuts` the value itself."""
    if text is None or not cuts:
        return UNKNOWN_GROUP if text is None else text
    try:
        value = float(text)
    except ValueError:
        return UNKNOWN_GROUP
    ends = ["", *(f"{cut:g}" for cut in cuts), ""]
    place = bisect_right(cuts, value)
    return f"{ends[place]}..{ends[place + 1]}"


class GroupOutcomes(NamedTuple):
    """The decisions of a group that have an outcome: scores, what came, whether accepted, each [n]."""

    score: Vector
    outcome: Vector
    accepted: npt.NDArray[np.bool_]


def by_group(
    rows: Iterable[tuple[Any, ...]], by: str, cuts: Sequence[float]
) -> dict[str, list[tuple[Any, ...]]]:
    """Of rows of a value of the field `by` and figures, those of a group together; raises `LogError`."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for text, *values in rows:
        found.setdefault(group_name(text, cuts), []).append(tuple(values))
    if len(found) > MAX_GROUPS + 1:
        raise LogError(f"expected at most {MAX_GROUPS} groups, got {len(found):,}: cut a number with --cuts")
    if set(found) == {UNKNOWN_GROUP}:
        raise LogError(f"expected lines with the field {by}, got none: is it a field of the rows?")
    return found
