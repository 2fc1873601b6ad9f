"""Drift that no bin shows: numbers swapped, no longer together, moved in a group, or rounded otherwise."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.errors import LogError
from server.errors import BundleError, number_of
from server.metrics.drift import FALSE_ALARM_RATE, LARGE_PSI, MIN_ROWS, chance_psi, psi, reference_counts
from server.model.bundle import REFERENCE_FILE, Bundle
from server.model.distribution import Distribution, Reference
from server.model.joint import STEPS, Joint, correlations, places, rounded_shares, segment_counts
from server.model.schema import Matrix, Schema

#: A change of a correlation by less, in Fisher's z, is small however sure.
TOLERATED_Z = 0.15
#: A change of the share of values that are rounded by less is none.
TOLERATED_ROUNDING = 0.5
#: Of a group fewer rows are not judged; its bins are joined to a few, so that few are empty by chance.
MIN_GROUP_ROWS, GROUP_BINS = 40, 5
#: Added to each bin: of so few rows one that is empty by chance would tell as much as a moved half.
EMPTY_ROWS = 0.5


@dataclass(frozen=True)
class JointDrift:
    """One finding: its `kind`, a function of this module's, the columns it is of, and why, in words."""

    kind: str
    names: tuple[str, ...]
    why: str
    size: float

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {"kind": self.kind, "names": list(self.names), "why": self.why, "size": self.size}


def read_joint(bundle: Bundle) -> Joint | None:
    """What a bundle's reference tells of columns together, None of one that was written before it did."""
    try:
        content = bundle.read_json(REFERENCE_FILE).get("joint")
        return None if content is None else Joint.from_dict(content)
    except (KeyError, TypeError, AttributeError, BundleError) as error:
        raise LogError(
            f"expected {REFERENCE_FILE} of {bundle.label} as it was written, got {error!r}"
        ) from None


def swapped(
    schema: Schema, rows: Matrix, reference: Reference, among: Sequence[str], share: float
) -> Iterator[JointDrift]:
    """Two numbers of `among` that moved, taken together, beyond chance, each of which is as the other was.

    `rows` are float64 [n, F], of which `share` tell something new. Of near twins one alone may move
    little enough for chance: the sum of two PSI is that of both columns' degrees of freedom.
    """
    features, columns = reference.features, {name: rows[:, schema.names.index(name)] for name in among}
    own = {name: _distance(features[name], column) for name, column in columns.items()}
    tests, n = max(1, math.comb(len(among), 2)), len(rows) * share

    def is_chance(moved: float, distribution: Distribution, bins: int) -> bool:
        return moved <= chance_psi(distribution.n, n, bins, tests)

    for one, other in combinations(among, 2):
        (moved, bins), (moved_too, bins_too) = own[one], own[other]
        if is_chance(moved + moved_too, features[one], bins + bins_too - 1):
            continue
        crossed = ((features[then], columns[now]) for now, then in ((one, other), (other, one)))
        fits = ((_distance(then, now), then) for then, now in crossed)
        if all(is_chance(distance, then, bins) for (distance, bins), then in fits):
            yield JointDrift("swapped", (one, other), f"each is as the other was {reference.when}", 1.0)


def no_longer_together(
    schema: Schema, rows: Matrix, reference: Reference, joint: Joint, among: Collection[str]
) -> Iterator[JointDrift]:
    """Pairs of numbers whose correlation is another than it was, the largest change first.

    The difference of two of Fisher's z has the standard error sqrt(1 / (n - 3) + 1 / (m - 3)).
    """
    placed = places(schema, rows, reference.features, joint.names)
    now, there = correlations(placed), ~np.isnan(placed)
    pairs = list(combinations(range(len(joint.names)), 2))
    reach = NormalDist().inv_cdf(1 - FALSE_ALARM_RATE / (2 * max(1, len(pairs))))
    found = []
    for (i, j), before in zip(pairs, joint.correlations, strict=True):
        n, m = int((there[:, i] & there[:, j]).sum()), joint.n
        if n < 2 * MIN_GROUP_ROWS or not {joint.names[i], joint.names[j]} <= set(among):
            continue
        change = abs(_fisher(float(now[i, j])) - _fisher(before))
        if change > TOLERATED_Z + reach * math.sqrt(1 / (n - 3) + 1 / (m - 3)):
            why = f"correlation {now[i, j]:+.2f}, {before:+.2f} {reference.when}"
            found.append(JointDrift("together", (joint.names[i], joint.names[j]), why, change))
    yield from sorted(found, key=lambda one: -one.size)


def in_groups(
    schema: Schema,
    rows: Matrix,
    features: Mapping[str, Distribution],
    joint: Joint,
    among: Collection[str],
    share: float,
) -> Iterator[JointDrift]:
    """Numbers of `among` that moved within the rows of one category, the farthest first."""
    tests = max(1, sum(len(segment.counts) for segment in joint.segments))
    found = []
    for segment in joint.segments:
        feature = schema[segment.feature]
        of_group = rows[rows[:, schema.names.index(feature.name)] == segment.code]
        if len(of_group) * share < MIN_GROUP_ROWS:
            continue
        names = [name for name in segment.counts if name in among]
        for name, counts in segment_counts(schema, of_group, features, names).items():
            before, now = (_joined(c) for c in (np.array(segment.counts[name]), counts))
            bins = int(np.count_nonzero(before + now))
            moved = psi(before + EMPTY_ROWS, now + EMPTY_ROWS)
            if moved > LARGE_PSI + chance_psi(int(before.sum()), int(now.sum()) * share, bins, tests):
                where = f"{feature.name} = {feature.categories[segment.code]}"
                why = f"where {where}: PSI {moved:.2f} in {number_of(len(of_group), 'row')}"
                found.append(JointDrift("group", (name,), why, moved))
    yield from sorted(found, key=lambda one: -one.size)


def rounded(
    schema: Schema, rows: Matrix, reference: Reference, joint: Joint, among: Collection[str], share: float
) -> Iterator[JointDrift]:
    """Numbers of `among` of which half as many more, or fewer, are rounded as in training, in one of `STEPS`.

    So many are no chance: of 200 values a share lies a quarter off once in 10^10 (Hoeffding 1963).
    """
    for name, before in joint.rounded.items():
        column = rows[:, schema.names.index(name)]
        values = column[np.isfinite(column) & (column != 0)]
        is_masked = bool(np.isin(values, reference.features[name].edges).all())  # the ends of buckets
        if name not in among or is_masked or len(values) * share < MIN_ROWS:
            continue
        changes = [
            (abs(now - then), step, f"{now:.0%} are multiples of {step:,}, {then:.0%} {reference.when}")
            for step, now, then in zip(STEPS, rounded_shares(values), before, strict=True)
        ]
        size, _, why = max(changes)
        if size > TOLERATED_ROUNDING:
            yield JointDrift("rounded", (name,), why, size)


def _distance(distribution: Distribution, column: npt.NDArray[np.float64]) -> tuple[float, int]:
    """The PSI of a column, missing values being a bin of their own, and how many bins hold something."""
    missing = round(distribution.n * distribution.missing_rate)
    before = np.append(reference_counts(distribution), missing)
    now = np.append(distribution.counts(column), int(np.isnan(column).sum()))
    return psi(before + EMPTY_ROWS, now + EMPTY_ROWS), int(np.count_nonzero(before + now))


def _fisher(correlation: float) -> float:
    return math.atanh(max(-0.999, min(0.999, correlation)))


def _joined(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Counts [bins + 1], missing last, with neighbouring bins joined to `GROUP_BINS`."""
    parts = np.array_split(counts[:-1], min(GROUP_BINS, len(counts) - 1))
    return np.array([*(part.sum() for part in parts), counts[-1]])
