"""Drift of rows against a bundle's reference, ranked by what it does to the score."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from monitoring.change_point import change_point
from monitoring.drift.csv_rows import CSV_SUFFIXES, rows_of_csv
from monitoring.drift.joint import JointDrift, in_groups, no_longer_together, read_joint, rounded, swapped
from monitoring.drift.rows import SAMPLE_ROWS, ComparedRows, NoBin, places_by_hour, reference_of, rows_of_log
from monitoring.errors import LogError
from monitoring.logs.lines import keep_lines
from monitoring.logs.table import LogTable, open_log
from server.explain.importance import importance, reference_rows
from server.metrics.column_shifts import ColumnCounts, column_shifts, count_of_tests, missing_shift
from server.metrics.drift import MIN_ROWS, Shift, independent_share, reference_counts, shift
from server.model.bundle import Bundle
from server.model.distribution import Distribution, Reference
from server.model.joint import Joint
from server.model.predictor import Predictor
from server.model.schema import Feature, Matrix

Vector: TypeAlias = npt.NDArray[np.float64]

#: The sample's share of missing values lies so near that of all rows.
SEEN_WITHIN = 0.05
DAY = timedelta(days=1)
#: A drift is dated as far back as this, by the hours (UTC).
DATED = timedelta(days=28)
#: Of shorter logs the whole tells as much.
SHORTEST = timedelta(days=2)


@dataclass(frozen=True)
class ColumnDrift:
    """One feature, or the score: how its values, and its gaps, shifted.

    `unseen_rate` is the share of the values present that training never saw, as
    words or beyond its range; `importance` the mean change of the margin when the
    feature's values are shuffled in reference rows, as a share of that of all
    features; `effect` how far the margins come when a drifted feature is put back, and `cost`
    what a decision is expected to cost less then; `when` says in words what it is compared with.
    """

    name: str
    label: str
    distribution: Distribution
    counts: npt.NDArray[np.int64]
    values: Shift
    missing: Shift
    missing_rate: float
    unseen_rate: float
    unseen: Shift
    importance: float
    bins: tuple[str, ...]
    effect: float = 0.0
    cost: float = 0.0
    is_score: bool = False
    is_hidden: bool = False
    when: str = "in training"

    @property
    def drifted(self) -> bool:
        """Whether the values, their absence or unseen ones lie beyond their limit."""
        return self.values.drifted or self.missing.drifted or self.unseen.drifted

    @property
    def why(self) -> str:
        """The reasons in words, empty without drift."""
        reasons = []
        if self.values.drifted_as_a_whole:
            reasons.append(f"PSI {self.values.psi:.3f}, limit {self.values.limit:.3f}")
        elif self.values.drifted:
            reasons += map(self._moved, self.values.moved)
        if self.missing.drifted:
            reasons.append(
                f"missing in {self.missing_rate:.1%}, {self.distribution.missing_rate:.1%} {self.when}"
            )
        if self.unseen.drifted:
            reasons.append(f"{self.unseen_rate:.1%} of values never seen {self.when}")
        return "; ".join(reasons)

    def _moved(self, place: int) -> str:
        now, then = self.counts[place] / self.counts.sum(), self.distribution.shares[place]
        return f"{now:.1%} in {self.bins[place]}, {then:.1%} {self.when}"

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "name": self.name,
            "is_score": self.is_score,
            "psi": self.values.psi,
            "chance": self.values.chance,
            "limit": self.values.limit,
            "missing_rate": self.missing_rate,
            "missing_rate_in_training": self.distribution.missing_rate,
            "missing_psi": self.missing.psi,
            "unseen_rate": self.unseen_rate,
            "importance": self.importance,
            "effect": self.effect,
            "cost": self.cost,
            "drifted": self.drifted,
            "why": self.why,
        }


@dataclass(frozen=True)
class DriftReport:
    """The drift of every column, drifted and important ones first.

    `n` rows were looked at, as good as `independent` ones: rows sent again and again tell little.
    `hidden` features are masked in the log, `strangers` are columns of a file that are no feature,
    `others` the lines of other models that were left out, `doubled` those that were there twice.
    `joint` is what no column shows by itself, `segments` the drift within the rows of one value of
    a field: its name, and its figures as plain values.
    """

    n: int
    independent: int
    columns: list[ColumnDrift]
    hidden: list[str]
    model: str = ""
    strangers: tuple[str, ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    doubled: int = 0
    joint: Sequence[JointDrift] = ()
    segments: Sequence[tuple[str, Mapping[str, Any]]] = ()

    @property
    def found(self) -> list[str]:
        """What drifted, in names: columns, then columns together, then columns of segments."""
        return [
            *(c.name for c in self.drifted),
            *(" and ".join(one.names) for one in self.joint),
            *(f"{name} in {where}" for where, found in self.segments for name in found["drifted"]),
        ]

    @property
    def too_few(self) -> bool:
        """Whether no judgement is possible."""
        return self.independent < MIN_ROWS

    @property
    def verdict(self) -> str:
        """`few` rows, `drift`, or `none`."""
        return "drift" if self.found else "few" if self.too_few else "none"

    @property
    def drifted(self) -> list[ColumnDrift]:
        """The columns that drifted."""
        return [column for column in self.columns if column.drifted]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "model": self.model,
            "n": self.n,
            "independent": self.independent,
            "verdict": self.verdict,
            "drifted": [column.name for column in self.drifted],
            "hidden": self.hidden,
            "unknown_columns": list(self.strangers),
            "other_models": dict(self.others),
            "doubled": self.doubled,
            "joint": [one.to_dict() for one in self.joint],
            "segments": [found for _, found in self.segments],
            "columns": [column.to_dict() for column in self.columns],
        }


def drift_of_files(paths: Sequence[Path], bundle: Bundle, label: str | None = None) -> DriftReport:
    """The drift of logs, or of CSV files with a column for each feature; raises `LogError`.

    Of a log the lines of `label` (`name@version`) count, without it those of the bundle.
    """
    tables = [path for path in paths if path.name.lower().endswith(CSV_SUFFIXES)]
    if tables:
        if len(tables) < len(paths):
            raise LogError("expected logs or CSV files, got both: ask for the drift of each by itself")
        return drift(bundle, rows_of_csv(paths, bundle))
    with open_log(paths, bundle.schema) as log:
        keep_lines(log, bundle, label)
        return drift_of_log(log, bundle)


def drift_of_log(log: LogTable, bundle: Bundle, against: Reference | None = None) -> DriftReport:
    """The drift of the rows of a log; masked features are told by their buckets, or left out."""
    found = drift(bundle, rows_of_log(log, bundle), against=against)
    return replace(found, others=log.others, doubled=log.doubled)


def drift(
    bundle: Bundle, rows: ComparedRows, looks: int = 1, against: Reference | None = None
) -> DriftReport:
    """The drift of the score and of each feature; raises `LogError` without a reference.

    Of so many `looks` at once chance is allowed as often as of one. It is drift from the bundle's
    reference, or `against` another one of the same bins.
    """
    reference = against or reference_of(bundle)
    predictor, usual = Predictor(bundle), reference_rows(bundle)
    weights = importance(predictor, usual)
    independent = independent_share(reference, rows.looked_at, rows.distinct)
    tests = count_of_tests([*reference.features.values(), reference.score]) * looks

    def compared(
        name: str, label: str, distribution: Distribution, column: ColumnCounts, is_score: bool, **more: Any
    ) -> ColumnDrift:
        found = column_shifts(distribution, column, tests, independent, is_score)
        return ColumnDrift(
            name=name,
            label=label,
            distribution=distribution,
            counts=column.counts,
            values=found.values,
            missing=found.missing,
            missing_rate=column.missing / max(1, column.present + column.missing),
            unseen_rate=found.unseen_rate,
            unseen=found.unseen,
            is_hidden=column.is_hidden,
            is_score=is_score,
            when=reference.when,
            **more,
        )

    # A feature may be called as the score is.
    score_name = "(score)" if "score" in bundle.schema.names else "score"
    bins = _ranges(reference.score)
    found = [compared(score_name, "Score", reference.score, rows.score, True, bins=bins, importance=1.0)]
    for name, column in rows.columns.items():
        feature, distribution = bundle.schema[name], reference.features[name]
        more = {"bins": _bins(feature, distribution), "importance": weights[name]}
        found.append(compared(name, feature.label or name, distribution, column, False, **more))
    drifted = [c.name for c in found if c.drifted and not c.is_score and not c.is_hidden]
    felt = _effects(predictor, rows.sample[:SAMPLE_ROWS], usual, drifted)
    nothing = _Felt(0.0, 0.0)
    found = [replace(c, **felt.get(c.name, nothing)._asdict()) for c in found]
    joint = _joint(bundle, reference, rows, found, independent) if looks == 1 else []
    found.sort(key=lambda c: (not c.drifted, not c.is_score, -c.cost, -c.effect, -c.importance))
    n = rows.score.present + rows.score.missing
    return DriftReport(
        n, round(n * independent), found, rows.hidden, bundle.label, rows.strangers, joint=joint
    )


def _joint(
    bundle: Bundle,
    reference: Reference,
    rows: ComparedRows,
    columns: Sequence[ColumnDrift],
    independent: float,
) -> list[JointDrift]:
    """What columns show together; nothing of those whose rows a mask hides, or of too few rows."""
    told = [column for column in columns if not column.is_score]
    seen = [column for column in told if column.values.is_judged and _is_seen(bundle, rows, column)]
    numbers = [c.name for c in seen if bundle.schema[c.name].kind != "category"]
    found = list(swapped(bundle.schema, rows.sample, reference, numbers, independent))
    joint = Joint.from_dict(reference.joint) if reference.joint else read_joint(bundle)
    if joint is None or not seen:
        return found
    steady = [column.name for column in seen if not column.drifted]
    found += no_longer_together(bundle.schema, rows.sample, reference, joint, steady)
    found += rounded(bundle.schema, rows.sample, reference, joint, steady, independent)
    groups = steady if {s.feature for s in joint.segments} <= {c.name for c in seen} else []
    return found + list(in_groups(bundle.schema, rows.sample, reference.features, joint, groups, independent))


def _is_seen(bundle: Bundle, rows: ComparedRows, column: ColumnDrift) -> bool:
    """Whether the sample has the column as it was: a mask leaves less in it than there is."""
    values = rows.sample[:, bundle.schema.names.index(column.name)]
    lacking = float(np.isnan(values).mean()) if len(values) else 1.0
    return not column.is_hidden and abs(lacking - column.missing_rate) < SEEN_WITHIN


def _bins(feature: Feature, distribution: Distribution) -> tuple[str, ...]:
    if feature.kind == "category":
        return feature.categories
    return ("0", "1") if feature.kind == "flag" else _ranges(distribution)


def _ranges(distribution: Distribution) -> tuple[str, ...]:
    edges = [f"{edge:,.4g}" if abs(edge) < 1e5 else f"{edge:,.0f}" for edge in distribution.edges]
    if not edges:
        return ("all",)
    middle = [f"{low} – {high}" for low, high in pairwise(edges)]
    return (f"≤ {edges[0]}", *middle, f"> {edges[-1]}")


class _Felt(NamedTuple):
    """What a column does to margins, and to the cost of a decision: as in `ColumnDrift`."""

    effect: float
    cost: float


def _effects(predictor: Predictor, rows: Matrix, reference: Matrix, names: Iterable[str]) -> dict[str, _Felt]:
    """How far the margins of rows, float64 [n, F], come when one feature is put back to reference values.

    Row by row: each gets the value of the reference rows, float64 [k, F], that has its rank, so a
    value that only moved gets its own, and one that is stuck, or missing, one of all. The distance
    is the mean of the margins' (in log-odds of a binary model): a shift that the score does not
    feel has none. The `cost` of a binary model's is what its decisions cost more than those after,
    if the scores after are what is true (as CBPE takes them): of values that are wrong, not of a
    world that changed.
    """
    random = np.random.default_rng(0)
    before, found = predictor.margins(rows), {}
    for name in names:
        i = predictor.bundle.schema.names.index(name)
        back = rows.copy()
        back[:, i] = _put_back(rows[:, i], reference[:, i], random)
        after = predictor.margins(back)
        cost = _cost_of(predictor, before, after) if predictor.bundle.task == "binary" else 0.0
        found[name] = _Felt(float(np.abs(after - before).mean()), cost)
    return found


def _cost_of(predictor: Predictor, before: Vector, after: Vector) -> float:
    """What a decision by the margins `before` costs more, to be expected, than one by those `after`, or 0."""
    threshold = predictor.bundle.decision.threshold
    now, true = predictor.output_array(before), predictor.output_array(after)
    missed, alarmed = predictor.bundle.decision.costs
    more = missed * true - alarmed * (1.0 - true)  # to accept, beside to reject
    change = np.where(now < threshold, more, 0.0) - np.where(true < threshold, more, 0.0)
    return max(0.0, float(change.mean()))


def _put_back(values: Vector, reference: Vector, random: np.random.Generator) -> Vector:
    """Values, float64 [n] with NaN for missing, as of the reference, float64 [k], each by its rank.

    As many are missing as there; of those that no longer are, or of equal ones, chance says which.
    """
    usual = np.sort(reference[~np.isnan(reference)])
    shuffled = random.permutation(len(values))
    missing = np.isnan(values[shuffled])
    most = round(len(values) * (1 - len(usual) / max(1, len(reference))))
    # Those that are missing stay so first; then others become so.
    left_out = shuffled[np.argsort(~missing, kind="stable")[:most]]
    back = np.full(len(values), np.nan)
    there = shuffled[~np.isin(shuffled, left_out)]
    known = there[~np.isnan(values[there])]
    places = np.empty(len(values))
    places[there] = random.random(len(there))  # of one that is missing nobody knows its rank
    places[known] = (np.argsort(np.argsort(values[known], kind="stable")) + 0.5) / max(1, len(known))
    if len(usual):
        back[there] = usual[(places[there] * len(usual)).astype(int)]
    return back


@dataclass(frozen=True)
class LastDay:
    """The drift of the rows of the last 24 hours; `since` when, by name, where there was none before."""

    drift: DriftReport
    since: dict[str, datetime]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "n": self.drift.n,
            "drifted": [column.name for column in self.drift.drifted],
            "since": {name: f"{start.isoformat()}Z" for name, start in self.since.items()},
        }


def last_day(log: LogTable, bundle: Bundle) -> LastDay | None:
    """The last 24 hours that a log has rows of; None of one of less than two days."""
    first, last = log.row("select min(ts), max(ts) from scored")
    if first is None or last - first < SHORTEST:
        return None
    end = last + timedelta(microseconds=1)
    with log.looking_at(end - DAY, end):
        found = drift(bundle, rows_of_log(log, bundle, SAMPLE_ROWS), looks=2)  # the whole is the other
    with log.looking_at(end - DATED, end):
        begun = {column.name: _began(log, bundle, column) for column in found.drifted}
    return LastDay(found, {name: start for name, start in begun.items() if start is not None})


def _began(log: LogTable, bundle: Bundle, column: ColumnDrift) -> datetime | None:
    """The hour in which a column changed; None if it was no different before, or had drifted already."""
    hours, counts = places_by_hour(log, bundle, column.name)
    at = change_point(counts)
    before, bins = counts[:at].sum(axis=0), len(column.distribution.shares)
    values = shift(reference_counts(column.distribution), before[:bins], tests=1)
    present = int(before.sum() - before[NoBin.MISSING] - before[NoBin.DROPPED])
    missing = missing_shift(column.distribution, present, int(before[NoBin.MISSING]), tests=1)
    return None if not at or values.drifted or missing.drifted else hours[at]
