"""How far counts lie from a reference, and how far chance alone would put them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from server.metrics.shares import moved_shares, tolerated_shares
from server.model.distribution import Distribution, Reference

#: A PSI of 0.1 is commonly called no shift, one of 0.25 a large one (Siddiqi,
#: Credit Risk Scorecards, 2006). Below 0.1 nothing is called drift, however sure.
TOLERATED_PSI = 0.1
LARGE_PSI = 0.25
#: How often chance alone may call something drift, over all that is tested at once.
FALSE_ALARM_RATE = 0.001
#: Fewer rows are not judged: bins that are empty by chance make PSI larger than the
#: chi-square that `chance_psi` takes it for. Of tenths 100 rows exceed the limit at the
#: rate it stands for, 50 rows fifty times as often, 200 rows in practice never.
MIN_ROWS = 200
#: Evidently's stand-in for an empty bin, whose logarithm does not exist.
_EMPTY_SHARE = 1e-4

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shift:
    """One population stability index, and what it is judged against.

    `chance` is what no shift at all would stay under, for these n and bins;
    infinite if there are too few independent rows to say. `n` are all rows; `moved` are the
    bins, of those judged by themselves, whose share grew or shrank by more than chance and
    tolerance, and `share_limit` is the PSI of what is tolerated of these shares.
    """

    psi: float
    chance: float
    n: int
    tolerated: float = TOLERATED_PSI
    moved: tuple[int, ...] = ()
    share_limit: float = math.inf

    @property
    def limit(self) -> float:
        """The PSI above which it is drift: what is tolerated, and what chance may add.

        Where the share of a single bin moved, the limit is no more than `share_limit`, and the PSI
        always lies above that: two bins taken as one have at most the PSI of both apart, so the
        whole has at least that of the moved bin against all others.
        """
        return min(self._limit_of_whole, self.share_limit)

    @property
    def drifted_as_a_whole(self) -> bool:
        """Whether it would be drift without a look at single shares."""
        return self.psi > self._limit_of_whole

    @property
    def _limit_of_whole(self) -> float:
        return self.tolerated + self.chance

    @property
    def is_judged(self) -> bool:
        """Whether there are rows enough to tell chance from drift."""
        return math.isfinite(self.chance)

    @property
    def drifted(self) -> bool:
        """Whether it is neither small nor chance, as a whole or in one share."""
        return self.psi > self.limit

    @property
    def verdict(self) -> str:
        """`few` rows, `chance`, `small`, or drift: `moderate` or `large`."""
        if not self.is_judged:
            return "few"
        if self.psi <= min(self.chance, self.limit):
            return "chance"
        if not self.drifted:
            return "small"
        return "large" if self.psi > LARGE_PSI else "moderate"


def psi(reference: npt.ArrayLike, current: npt.ArrayLike) -> float:
    """The population stability index of two [bins] arrays of counts or shares.

    sum((q - p) ln(q / p)) over the bins, empty bins filled as Evidently does; 0
    if one of them holds nothing.
    """
    p, q = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if not p.sum() or not q.sum():
        return 0.0
    p, q = _filled(p / p.sum()), _filled(q / q.sum())
    return float(np.sum((q - p) * np.log(q / p)))


def shift(
    reference: npt.ArrayLike,
    current: npt.ArrayLike,
    tests: int,
    independent: float = 1.0,
    alone: Sequence[int] = (),
) -> Shift:
    """The shift between two [bins] arrays of counts, one of `tests` that are made together.

    `independent` is the share of the current rows that tell something new; the shares
    of the bins `alone` are judged by themselves too.
    """
    p, q = np.asarray(reference), np.asarray(current)
    n, bins = int(q.sum()), int(np.count_nonzero(p + q))
    rows = n * independent
    if rows < MIN_ROWS:
        return Shift(psi(p, q), math.inf, n)
    moved = moved_shares(p, q * independent, alone, FALSE_ALARM_RATE / tests)
    limits = (psi(*two) for two in tolerated_shares(p, q, moved))
    chance = chance_psi(int(p.sum()), rows, bins, tests)
    return Shift(psi(p, q), chance, n, moved=moved, share_limit=min(limits, default=math.inf))


def independent_share(reference: Reference, rows: int, distinct: int) -> float:
    """The share of `rows` that tell something new, of which `distinct` differ from one another.

    One request sent a thousand times is one observation. But where few rows are
    possible, independent ones repeat: the number possible is taken to be the
    inverse of how often two agree in every bin (Simpson, Measurement of
    diversity, 1949), and its square root allows for features that go together.
    """
    possible = math.prod(1.0 / _agreement(d) for d in reference.features.values())
    if distinct >= math.sqrt(min(rows, possible)):
        return 1.0
    return distinct / rows


def _agreement(distribution: Distribution) -> float:
    """How often two values fall into the same bin, or are both missing."""
    missing = distribution.missing_rate
    shares = (1.0 - missing) * np.asarray(distribution.shares)
    return float(np.sum(shares**2) + missing**2) or 1.0


def chance_psi(reference_n: int, n: float, bins: int, tests: int = 1) -> float:
    """The PSI that two samples of one distribution exceed with `FALSE_ALARM_RATE / tests`.

    Under no shift PSI is about (1/n + 1/N) times a chi-square of bins - 1 degrees
    of freedom (Yurdakul & Naranjo, Statistical properties of the population
    stability index, 2020).
    """
    if bins < 2 or not n or not reference_n:
        return 0.0
    return (1 / n + 1 / reference_n) * _chi_square_quantile(1 - FALSE_ALARM_RATE / tests, bins - 1)


def reference_counts(distribution: Distribution) -> npt.NDArray[np.int64]:
    """The counts [bins] behind a reference's shares, which were rounded."""
    present = distribution.n - round(distribution.n * distribution.missing_rate)
    counts: npt.NDArray[np.int64] = np.rint(np.asarray(distribution.shares) * present).astype(np.int64)
    return counts


def _filled(shares: Shares) -> Shares:
    smallest = float(shares[shares > 0].min())
    empty = smallest / 10**6 if smallest <= _EMPTY_SHARE else _EMPTY_SHARE
    return np.where(shares == 0, empty, shares)


def _chi_square_quantile(probability: float, degrees: int) -> float:
    """Wilson and Hilferty's approximation (1931): here the true value, or up to 16 % more."""
    part = 2 / (9 * degrees)
    z = NormalDist().inv_cdf(probability)
    return float(degrees * (1 - part + z * part**0.5) ** 3)
