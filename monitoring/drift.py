"""Drift of logged or filed rows against a bundle's reference, ranked by what it does to the score."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from monitoring.errors import LogError
from monitoring.importance import importance
from monitoring.log_table import LogTable, open_log
from server.bundle import Bundle
from server.drift import Shift, missing_shift, reference_counts, shift
from server.log_mask import BUCKET, bucket_names
from server.predictor import Predictor
from server.reference import Distribution, Reference
from server.schema import Feature, Matrix

SCORE = "score"
_IMPORTANCE_ROWS = 1000


@dataclass(frozen=True)
class ColumnDrift:
    """One feature, or the score: how its values, and its gaps, shifted.

    `unseen_rate` is the share of the values present that training never saw;
    `importance` the mean change of the margin when the feature's values are
    shuffled, as a share of that of all features.
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

    @property
    def drifted(self) -> bool:
        """Whether the values, their absence or unseen ones lie beyond their limit."""
        return self.values.drifted or self.missing.drifted or self.unseen.drifted

    @property
    def why(self) -> str:
        """The reasons in words, empty without drift."""
        reasons = []
        if self.values.drifted:
            reasons.append(f"PSI {self.values.psi:.3f}, limit {self.values.limit:.3f}")
        if self.missing.drifted:
            reasons.append(
                f"missing in {self.missing_rate:.1%}, {self.distribution.missing_rate:.1%} in training"
            )
        if self.unseen.drifted:
            reasons.append(f"{self.unseen_rate:.1%} of values never seen in training")
        return "; ".join(reasons)


@dataclass(frozen=True)
class DriftReport:
    """The drift of every column, drifted and important ones first; `n` rows were looked at."""

    n: int
    columns: list[ColumnDrift]
    hidden: list[str]

    @property
    def drifted(self) -> list[ColumnDrift]:
        """The columns that drifted."""
        return [column for column in self.columns if column.drifted]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "n": self.n,
            "drifted": [column.name for column in self.drifted],
            "hidden": self.hidden,
            "columns": [
                {
                    "name": column.name,
                    "psi": column.values.psi,
                    "chance": column.values.chance,
                    "limit": column.values.limit,
                    "missing_rate": column.missing_rate,
                    "missing_psi": column.missing.psi,
                    "unseen_rate": column.unseen_rate,
                    "importance": column.importance,
                    "drifted": column.drifted,
                    "why": column.why,
                }
                for column in self.columns
            ],
        }


@dataclass(frozen=True)
class Column:
    """One column of rows to compare: codes float64 [n] with NaN for missing, and unknown words."""

    codes: npt.NDArray[np.float64]
    unknown: int = 0


def drift_of_files(paths: Sequence[Path], bundle: Bundle) -> DriftReport:
    """The drift of logs, or of CSV files with a column for each feature; raises `LogError`."""
    if all(path.suffix == ".csv" for path in paths):
        return _drift_of_csv(paths, bundle)
    with open_log(paths, bundle.schema) as log:
        return drift_of_log(log, bundle)


def drift_of_log(log: LogTable, bundle: Bundle) -> DriftReport:
    """The drift of the rows of a log; masked features are told by their buckets, or left out."""
    reference = reference_of(bundle)
    columns: dict[str, Column] = {SCORE: Column(log.column("score"))}
    hidden = []
    for feature in bundle.schema.features:
        rule = log.masked.get(feature.name)
        if rule not in (None, BUCKET):
            hidden.append(feature.name)
            continue
        field = 'input."' + feature.name.replace('"', '""') + '"'
        if rule == BUCKET:
            words = bucket_names(reference.features[feature.name])
            columns[feature.name] = _words(log, field, words, reference.features[feature.name])
        elif feature.kind == "category":
            columns[feature.name] = _words(log, field, feature.categories, None)
        else:
            columns[feature.name] = Column(log.column(field))
    return drift(bundle, reference, columns, hidden)


def drift(
    bundle: Bundle, reference: Reference, columns: Mapping[str, Column], hidden: Iterable[str] = ()
) -> DriftReport:
    """The drift of columns by name, the score among them as `SCORE`."""
    weights = importance(Predictor(bundle), _sample(bundle, columns))
    tests = 3 * len(columns)
    found = []
    for name, column in columns.items():
        if name == SCORE:
            distribution, label, bins = reference.score, "Score", _ranges(reference.score)
        else:
            feature = bundle.schema[name]
            distribution, label = reference.features[name], feature.label or name
            bins = feature.categories if feature.kind == "category" else _ranges(distribution)
            bins = ("0", "1") if feature.kind == "flag" else bins
        found.append(_column_drift(name, label, distribution, column, weights.get(name, 1.0), bins, tests))
    found.sort(key=lambda c: (not c.drifted, c.name != SCORE, -c.importance))
    return DriftReport(len(next(iter(columns.values())).codes), found, list(hidden))


def reference_of(bundle: Bundle) -> Reference:
    """The reference of a bundle; raises `LogError` if it has none."""
    reference = Reference.of(bundle)
    if reference is None:
        raise LogError(
            f"expected a bundle with reference.json, got {bundle.directory} without: "
            "train it with `python -m train`, or leave drift out"
        )
    return reference


def _column_drift(
    name: str,
    label: str,
    distribution: Distribution,
    column: Column,
    weight: float,
    bins: tuple[str, ...],
    tests: int,
) -> ColumnDrift:
    counts = distribution.counts(column.codes)
    n = len(column.codes)
    present = int(counts.sum())
    missing = n - present - column.unknown
    shares = np.asarray(distribution.shares)
    unseen = int(counts[shares == 0.0].sum()) + column.unknown
    seen_before = int(reference_counts(distribution).sum())
    return ColumnDrift(
        name=name,
        label=label,
        distribution=distribution,
        counts=counts,
        values=shift(reference_counts(distribution), counts, tests),
        missing=missing_shift(distribution, n - missing, missing, tests),
        missing_rate=missing / n if n else 0.0,
        unseen_rate=unseen / max(1, present + column.unknown),
        unseen=shift((0, seen_before), (unseen, present + column.unknown - unseen), tests),
        importance=weight,
        bins=bins,
    )


def _words(log: LogTable, field: str, words: Sequence[str], bins: Distribution | None) -> Column:
    """A column of words as codes: a category's position, or a value that lies in a bucket."""
    counted = dict(log.rows(f"select {field} w, count(*) from scored group by 1"))
    values = [float(i) for i in range(len(words))] if bins is None else _inside(bins)
    known = {word: value for word, value in zip(words, values, strict=True) if word in counted}
    codes = [np.full(counted[word], value) for word, value in known.items()]
    unknown = sum(count for word, count in counted.items() if word is not None and word not in known)
    codes.append(np.full(counted.get(None, 0) + unknown, np.nan))
    return Column(np.concatenate(codes), unknown)


def _inside(distribution: Distribution) -> list[float]:
    edges = distribution.edges
    return [*edges, np.inf]


def _drift_of_csv(paths: Sequence[Path], bundle: Bundle) -> DriftReport:
    connection = duckdb.connect()
    names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    try:
        table = connection.execute(f"select * from read_csv([{names}], all_varchar=true, union_by_name=true)")
        fetched = {name: values.tolist() for name, values in table.fetchnumpy().items()}
    except duckdb.Error as error:
        raise LogError(f"expected CSV files with a header, got: {str(error).splitlines()[0]}") from None
    finally:
        connection.close()
    present = [f for f in bundle.schema.features if f.name in fetched]
    if not present:
        raise LogError(f"expected columns named as the features of {bundle.label}, got {', '.join(fetched)}")
    columns = {f.name: _csv_column(f, fetched[f.name]) for f in present}
    matrix = _matrix(bundle, columns, len(next(iter(fetched.values()))))
    predictor = Predictor(bundle)
    scores = np.asarray(predictor.outputs(predictor.margins(matrix)), dtype=np.float64)
    hidden = [f.name for f in bundle.schema.features if f not in present]
    return drift(bundle, reference_of(bundle), {SCORE: Column(scores), **columns}, hidden)


def _csv_column(feature: Feature, texts: list[str | None]) -> Column:
    if feature.kind == "category":
        codes = {name: float(i) for i, name in enumerate(feature.categories)}
        values = np.array([codes.get(text or "", np.nan) for text in texts], dtype=np.float64)
        return Column(values, sum(bool(text) and text not in codes for text in texts))
    return Column(np.array([_number(text) for text in texts], dtype=np.float64))


def _number(text: str | None) -> float:
    try:
        return float({"true": 1.0, "false": 0.0}.get(text.lower(), text)) if text else np.nan
    except ValueError:
        return np.nan


def _matrix(bundle: Bundle, columns: Mapping[str, Column], rows: int) -> Matrix:
    nothing = np.full(rows, np.nan)
    return np.column_stack([columns[n].codes if n in columns else nothing for n in bundle.schema.names])


def _sample(bundle: Bundle, columns: Mapping[str, Column]) -> Matrix:
    """Rows to weigh the features with: each column by itself, for their orders differ."""
    random = np.random.default_rng(0)
    drawn = []
    for name in bundle.schema.names:
        codes = columns[name].codes if name in columns else np.full(1, np.nan)
        drawn.append(random.choice(np.where(np.isinf(codes), np.nan, codes), _IMPORTANCE_ROWS))
    return np.column_stack(drawn)


def _ranges(distribution: Distribution) -> tuple[str, ...]:
    edges = [f"{edge:,.4g}" if abs(edge) < 1e5 else f"{edge:,.0f}" for edge in distribution.edges]
    if not edges:
        return ("all",)
    middle = [f"{low} – {high}" for low, high in pairwise(edges)]
    return (f"≤ {edges[0]}", *middle, f"> {edges[-1]}")
