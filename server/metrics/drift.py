"""How far counts lie from a reference, and how far chance alone would put them."""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from server.model.distribution import Distribution, Reference

#: A PSI of 0.1 is commonly called no shift, one of 0.25 a large one (Siddiqi,
#: Credit Risk Scorecards, 2006). Below 0.1 nothing is called drift, however sure.
TOLERATED_PSI = 0.1
LARGE_PSI = 0.25
#: Of values that training never saw one in two hundred is much: the PSI of that share.
TOLERATED_UNSEEN_PSI = 0.0192
#: A number that is nearly always the same has two bins, and the few others little weight in PSI:
#: their share may double or halve, or move by a hundredth, before it is called drift.
RARE_SHARE, RARE_FACTOR, RARE_CHANGE = 0.1, 2.0, 0.01
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
    infinite if there are too few independent rows to say. `n` are all rows; `rare`
    says that the rarer of two bins grew or shrank by more than chance and tolerance.
    """

    psi: float
    chance: float
    n: int
    tolerated: float = TOLERATED_PSI
    rare: bool = False

    @property
    def limit(self) -> float:
        """The PSI above which it is drift: what is tolerated, and what chance may add."""
        return self.tolerated + self.chance

    @property
    def is_judged(self) -> bool:
        """Whether there are rows enough to tell chance from drift."""
        return math.isfinite(self.chance)

    @property
    def drifted(self) -> bool:
        """Whether it is neither small nor chance, or a rare value became twice or half as rare."""
        return self.psi > self.limit or self.rare

    @property
    def verdict(self) -> str:
        """`few` rows, `chance`, `small`, or drift: `moderate` or `large`."""
        if not self.is_judged:
            return "few"
        if self.psi <= self.chance and not self.rare:
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


def shift(reference: npt.ArrayLike, current: npt.ArrayLike, tests: int, independent: float = 1.0) -> Shift:
    """The shift between two [bins] arrays of counts, one of `tests` that are made together.

    `independent` is the share of the current rows that tell something new.
    """
    p, q = np.asarray(reference), np.asarray(current)
    n, bins = int(q.sum()), int(np.count_nonzero(p + q))
    rows = n * independent
    chance = chance_psi(int(p.sum()), rows, bins, tests) if rows >= MIN_ROWS else math.inf
    return Shift(psi(p, q), chance, n)


def unseen_shift(n: int, seen: int, unseen: int, expected: int, tests: int, independent: float) -> Shift:
    """The shift from training's n values, none of them unseen, to `unseen` ones beside `seen` ones.

    Of numbers some lie beyond the range by chance: of any n two are its ends, so
    `expected` is 2.
    """
    found = shift((expected, n), (unseen, seen), tests, independent)
    return replace(found, tolerated=TOLERATED_UNSEEN_PSI)


def rare_shift(found: Shift, reference: npt.ArrayLike, current: npt.ArrayLike, tests: int) -> Shift:
    """The same shift of two [2] arrays of counts, judged by the rarer bin's share too.

    Chance is told by the normal deviate of two shares (Fleiss, Statistical methods
    for rates and proportions, 1981).
    """
    p, q = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if len(p) != 2 or not p.all() or not found.is_judged or not q.sum():
        return found
    bin_ = int(p.argmin())
    before, now = float(p[bin_] / p.sum()), float(q[bin_] / q.sum())
    pooled = float((p[bin_] + q[bin_]) / (p.sum() + q.sum()))
    error = math.sqrt(pooled * (1 - pooled) * (1 / p.sum() + 1 / q.sum()))
    beyond_chance = abs(now - before) > NormalDist().inv_cdf(1 - FALSE_ALARM_RATE / (2 * tests)) * error
    moved = abs(now - before) >= RARE_CHANGE and not before / RARE_FACTOR < now < before * RARE_FACTOR
    return replace(found, rare=before < RARE_SHARE and beyond_chance and moved)


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


def missing_shift(
    distribution: Distribution, present: int, missing: int, tests: int, independent: float = 1.0
) -> Shift:
    """The shift of a missing rate: missing and present as two bins, judged like everything else."""
    before = round(distribution.n * distribution.missing_rate)
    return shift((before, distribution.n - before), (missing, present), tests, independent)


def _filled(shares: Shares) -> Shares:
    smallest = float(shares[shares > 0].min())
    empty = smallest / 10**6 if smallest <= _EMPTY_SHARE else _EMPTY_SHARE
    return np.where(shares == 0, empty, shares)


def _chi_square_quantile(probability: float, degrees: int) -> float:
    """Wilson and Hilferty's approximation (1931): here the true value, or up to 16 % more."""
    part = 2 / (9 * degrees)
    z = NormalDist().inv_cdf(probability)
    return float(degrees * (1 - part + z * part**0.5) ** 3)
