"""What is judged of one column: its values, their absence, and values that training never saw.

One rule, for `/metrics` and for what looks at files.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from server.metrics.drift import TOLERATED_PSI, Shift, reference_counts, shift
from server.metrics.shares import lone_bins
from server.model.distribution import Distribution

#: Of values that training never saw one in two hundred is much: the PSI of that share.
TOLERATED_UNSEEN_PSI = 0.0192


@dataclass(frozen=True)
class ColumnCounts:
    """One column of rows to compare: how many values lie in each bin, int64 [bins], and how many in none.

    `missing` values are not there, `unknown` ones are texts that no bin stands for;
    `hashed` ones are there, and masked; of `dropped` ones nobody knows. `beyond` are
    those of the bins that lie beyond what training saw.
    """

    counts: npt.NDArray[np.int64]
    missing: int
    unknown: int = 0
    hashed: int = 0
    dropped: int = 0
    beyond: int = 0

    @property
    def present(self) -> int:
        """The values that are there, whatever they are."""
        return int(self.counts.sum()) + self.unknown + self.hashed

    @property
    def is_hidden(self) -> bool:
        """Whether a mask took every value, so that their distribution cannot be told."""
        return bool(self.hashed + self.dropped) and not self.counts.sum() + self.unknown

    @property
    def missing_is_known(self) -> bool:
        """Whether some rows tell if the value was there."""
        return bool(self.present + self.missing)


@dataclass(frozen=True, slots=True)
class ColumnShifts:
    """The three shifts of one column; `unseen_rate` is of the values present."""

    values: Shift
    missing: Shift
    unseen: Shift
    unseen_rate: float


def column_shifts(
    distribution: Distribution, column: ColumnCounts, tests: int, independent: float, is_score: bool = False
) -> ColumnShifts:
    """The shifts of a column against its reference, among `tests` that are made together.

    `independent` is the share of the rows that tell something new. No bin of a score stands
    for itself.
    """
    told = int(column.counts.sum()) + column.unknown
    empty = np.asarray(distribution.shares) == 0.0
    unseen = min(told, int(column.counts[empty].sum()) + column.unknown + column.beyond)
    before = reference_counts(distribution)
    alone = () if is_score else _alone(distribution)
    values = shift(before, column.counts, tests, independent, alone)
    missing = missing_shift(distribution, column.present, column.missing, tests, independent)
    never_seen = _unseen_shift(distribution, int(before.sum()), told - unseen, unseen, tests, independent)
    values, missing, never_seen = (
        _tolerating(found, distribution.tolerance) for found in (values, missing, never_seen)
    )
    return ColumnShifts(
        values=values,
        missing=missing,
        unseen=never_seen,
        unseen_rate=unseen / max(1, told),
    )


def _tolerating(found: Shift, tolerance: float | None) -> Shift:
    """A shift judged by the tolerance of its feature, as a whole and by its shares; by the usual one of none.

    Values that training never saw are much from half a percent on, unless more is tolerated of all.
    """
    if tolerance is None:
        return found
    usual = 0.0 if found.tolerated == TOLERATED_PSI else found.tolerated
    return replace(found, tolerated=max(usual, tolerance), share_limit=max(found.share_limit, tolerance))


def count_of_tests(distributions: Iterable[Distribution]) -> int:
    """How many tests are made at once of so many columns: each a chance of a false alarm."""
    return sum(4 + len(_alone(distribution)) for distribution in distributions)


def missing_shift(
    distribution: Distribution, present: int, missing: int, tests: int, independent: float = 1.0
) -> Shift:
    """The shift of a missing rate: missing and present as two bins, of which the rarer is judged alone."""
    before = round(distribution.n * distribution.missing_rate)
    counts = (before, distribution.n - before)
    return shift(counts, (missing, present), tests, independent, (int(np.argmin(counts)),))


def _unseen_shift(
    distribution: Distribution, n: int, seen: int, unseen: int, tests: int, independent: float
) -> Shift:
    """The shift from training's n values, none of them unseen, to `unseen` ones beside `seen` ones.

    Of numbers some lie beyond the range by chance: of any n two are its ends.
    """
    expected = 0 if distribution.low is None else 2
    found = shift((expected, n), (unseen, seen), tests, independent)
    return replace(found, tolerated=TOLERATED_UNSEEN_PSI)


def _alone(distribution: Distribution) -> tuple[int, ...]:
    return lone_bins(distribution.shares, distribution.has_codes)
