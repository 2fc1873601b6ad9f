"""How far counts lie from a reference, and how far chance alone would put them."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from server.reference import Distribution

#: A PSI of 0.1 is commonly called no shift, one of 0.25 a large one (Siddiqi,
#: Credit Risk Scorecards, 2006). Below 0.1 nothing is called drift, however sure.
TOLERATED_PSI = 0.1
LARGE_PSI = 0.25
#: How often chance alone may call something drift, over all that is tested at once.
FALSE_ALARM_RATE = 0.001
#: Evidently's stand-in for an empty bin, whose logarithm does not exist.
_EMPTY_SHARE = 1e-4

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shift:
    """One population stability index, and what it is judged against.

    `chance` is what no shift at all would stay under, for these n and bins.
    """

    psi: float
    chance: float
    n: int

    @property
    def limit(self) -> float:
        """The PSI above which it is drift: what is tolerated, and what chance may add."""
        return TOLERATED_PSI + self.chance

    @property
    def drifted(self) -> bool:
        """Whether it is neither small nor chance."""
        return self.psi > self.limit

    @property
    def verdict(self) -> str:
        """`chance`, `small`, or drift: `moderate` or `large`."""
        if self.psi <= self.chance:
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


def shift(reference: npt.ArrayLike, current: npt.ArrayLike, tests: int) -> Shift:
    """The shift between two [bins] arrays of counts, one of `tests` that are made together."""
    p, q = np.asarray(reference), np.asarray(current)
    n = int(q.sum())
    return Shift(psi(p, q), chance_psi(int(p.sum()), n, int(np.count_nonzero(p + q)), tests), n)


def chance_psi(reference_n: int, n: int, bins: int, tests: int = 1) -> float:
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


def missing_shift(distribution: Distribution, present: int, missing: int, tests: int) -> Shift:
    """The shift of a missing rate: missing and present as two bins, judged like everything else."""
    before = round(distribution.n * distribution.missing_rate)
    return shift((before, distribution.n - before), (missing, present), tests)


def _filled(shares: Shares) -> Shares:
    smallest = float(shares[shares > 0].min())
    empty = smallest / 10**6 if smallest <= _EMPTY_SHARE else _EMPTY_SHARE
    return np.where(shares == 0, empty, shares)


def _chi_square_quantile(probability: float, degrees: int) -> float:
    """Wilson and Hilferty's approximation (1931): here the true value, or up to 16 % more."""
    part = 2 / (9 * degrees)
    z = NormalDist().inv_cdf(probability)
    return float(degrees * (1 - part + z * part**0.5) ** 3)
