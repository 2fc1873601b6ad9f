"""Rows to learn from, and what their columns are: all that the recipe knows of a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.model.schema import Matrix, Schema


@dataclass(frozen=True)
class Group:
    """People who are looked at apart: by the words of a category, or by bands of a number.

    `bands` are the lower ends, ascending; the last has no upper end. A `feature` that
    is none of the inputs is one of `Rows.watched`, and `parts` are its words.
    """

    name: str
    feature: str
    bands: tuple[float, ...] = ()
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """The columns of a table.

    `monotone` says for a feature whether the answer never falls (1) or never rises
    (-1) with it; `missing` of such a feature whether a missing value gives the `highest` or
    the `lowest` output of all its values. `unordered` are categories that are compared as sets; the codes of
    others are compared as numbers. `max_leaves` bounds the trees that are tried.
    """

    schema: Schema
    monotone: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    unordered: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    max_leaves: int = 31


@dataclass(frozen=True)
class Rows:
    """Rows in a fixed order, encoded by the server's own schema.

    `features` is float64 [n, F] in the order of the schema with NaN for missing,
    `target` float64 [n] of 0 and 1, `complete` bool [n]: whether a row may be scored.
    The others are learned from alone, as what they lack means something else.
    `watched` are texts, [n] each, "" for missing, that people are told apart by and
    the model does not see.
    """

    features: Matrix
    target: npt.NDArray[np.float64]
    complete: npt.NDArray[np.bool_]
    inputs: Inputs
    watched: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.target)

    def take(self, index: npt.NDArray[np.intp]) -> "Rows":
        """The rows at these positions."""
        watched = {name: texts[index] for name, texts in self.watched.items()}
        return Rows(self.features[index], self.target[index], self.complete[index], self.inputs, watched)
