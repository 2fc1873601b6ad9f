"""The rows of a log that drift is looked for in, counted by bin where they are.

That is inside DuckDB, which needs no memory for them, whatever their number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.logs.table import LogTable
from server.log.mask import KEEP, bucket_names
from server.log.masked import DROP, HASH, HASH_HEX_DIGITS
from server.metrics.column_shifts import ColumnCounts
from server.model.bundle import Bundle
from server.model.distribution import Distribution, Reference
from server.model.reference import read_reference
from server.model.schema import Feature, Matrix

#: Rows that the features are weighed with, and rows that are told apart.
SAMPLE_ROWS = 1000
#: Rows that columns are looked at together in: at most so many, and so many values.
TOGETHER_ROWS, TOGETHER_VALUES = 20_000, 2_000_000
LOOKED_AT_ROWS = 100_000
#: What a mask puts in a value's place: a hash, or a bucket of other bins than the reference's.
_MASKED = rf"[0-9a-f]{{{HASH_HEX_DIGITS}}}|[-+.0-9e]*\.\.[-+.0-9e]*"


class NoBin(IntEnum):
    """Where a value is counted that no bin stands for: in arrays [bins + 4] from the end."""

    UNKNOWN = -1
    HASHED = -2
    DROPPED = -3
    MISSING = -4


@dataclass(frozen=True)
class ComparedRows:
    """What drift is told of rows: the score, the features by name, and some of the rows themselves.

    `sample` is float64 [k, F], NaN for missing, drawn from all; `distinct` of the first `looked_at`
    rows differ from one another. `strangers` are columns that are no feature.
    """

    score: ColumnCounts
    columns: dict[str, ColumnCounts]
    sample: Matrix
    looked_at: int
    distinct: int
    hidden: list[str]
    strangers: tuple[str, ...] = ()


def rows_of_log(log: LogTable, bundle: Bundle, sample: int | None = None) -> ComparedRows:
    """Count the rows of a log; features whose values it does not tell are hidden.

    The `sample` is of so many rows, or of those that columns are looked at together in.
    """
    reference = reference_of(bundle)
    columns, hidden, fields, words = {}, [], [], []
    dropped = _dropping_instances(log, bundle)
    for i, feature in enumerate(bundle.schema.features):
        names = _bins_by_word(feature, reference)
        column = _logged_column(log, i, reference.features[feature.name], names, dropped[feature.name])
        if column.is_hidden:
            hidden.append(feature.name)
        if not column.is_hidden or column.missing_is_known:
            columns[feature.name] = column
        fields += [f"n{i}", f"w{i}"]
        words.append(_codes_by_word(feature, reference))
    looked_at, distinct = log.row(
        f"select count(*), count(distinct hash({', '.join(fields)}, score)) "
        f"from (from scored limit {LOOKED_AT_ROWS})"
    )
    # In an order of its own: the same log gives the same sample, and not its first rows.
    most = sample or together_rows(len(bundle.schema))
    query = f"select {', '.join(fields)} from scored order by hash(ts, score, id) limit {most}"
    drawn = [
        [
            _code(*pair, codes)
            for pair, codes in zip(zip(row[::2], row[1::2], strict=True), words, strict=True)
        ]
        for row in log.rows(query)
    ]
    return ComparedRows(
        score=_logged_score(log, reference.score),
        columns=columns,
        sample=np.array(drawn, dtype=np.float64),
        looked_at=looked_at,
        distinct=distinct,
        hidden=hidden,
    )


def together_rows(width: int) -> int:
    """How many rows of so many features are looked at together."""
    return max(SAMPLE_ROWS, min(TOGETHER_ROWS, TOGETHER_VALUES // width))


def _dropping_instances(log: LogTable, bundle: Bundle) -> dict[str, list[str]]:
    """The instances, by feature, in whose lines its absence tells nothing: a mask took it out.

    A journal says so, or the bundle; of lines that lie without their journal, their
    other fields do, if they are masked and this one is in none of them. A field
    that an instance shows was never taken out there.
    """
    features = bundle.schema.features
    counts = "".join(f", count(n{i}) + count(w{i}), {_count_masked(f'w{i}')}" for i in range(len(features)))
    dropping: dict[str, list[str]] = {feature.name: [] for feature in features}
    for instance, *found in log.rows(f"select instance{counts} from scored group by 1"):
        there, masked = found[::2], found[1::2]
        mask = log.masks.get(instance)
        # Lines of the original project have no instance, and other features.
        silent = not instance or (mask is None and any(masked))
        for feature, present in zip(features, there, strict=True):
            rule = feature.personal if mask is None else mask.get(feature.name, KEEP)
            if not present and (silent or rule in (DROP, HASH)):
                dropping[feature.name].append(instance)
    return dropping


def _count_masked(word: str) -> str:
    return f"count(*) filter (where regexp_full_match({word}, '{_MASKED}'))"


def _bins_by_word(feature: Feature, reference: Reference) -> tuple[str, ...]:
    """The words that stand for the bins of a feature: its categories, or the names of its buckets."""
    if feature.kind == "category":
        return feature.categories
    if feature.kind == "flag":
        return ()
    return bucket_names(reference.features[feature.name])


def _codes_by_word(feature: Feature, reference: Reference) -> dict[str, float]:
    """What the model is given for a word: a category's code, of a bucket the upper edge."""
    if feature.kind == "category":
        return {word: float(i) for i, word in enumerate(feature.categories)}
    edges = reference.features[feature.name].edges
    return dict(zip(_bins_by_word(feature, reference), (*edges, np.inf), strict=False))


def _logged_column(
    log: LogTable, position: int, distribution: Distribution, names: Sequence[str], dropping: Sequence[str]
) -> ColumnCounts:
    """One feature of a log: the bin of a number is the number of edges below it, of a word that it names."""
    number = f"n{position}"
    place = _place(position, distribution, names, dropping)
    counts = np.zeros(len(distribution.shares), dtype=np.int64)
    others: dict[int, int] = {}
    for bin_, count in log.rows(f"select {place}, count(*) from scored group by 1"):
        if bin_ < 0:
            others[bin_] = count
        else:
            counts[bin_] = count
    low, high = distribution.range
    beyond = 0
    if np.isfinite((low, high)).all():
        query = (
            f"select count(*) from scored where {number} < '{low!r}'::double or {number} > '{high!r}'::double"
        )
        (beyond,) = log.row(query)
    return ColumnCounts(
        counts,
        missing=others.get(NoBin.MISSING, 0),
        unknown=others.get(NoBin.UNKNOWN, 0),
        hashed=others.get(NoBin.HASHED, 0),
        dropped=others.get(NoBin.DROPPED, 0),
        beyond=beyond,
    )


def _place(
    position: int, distribution: Distribution, names: Sequence[str], dropping: Sequence[str] = ()
) -> str:
    """The bin of a feature's value, or `NoBin`, in SQL."""
    number, word = f"n{position}", f"w{position}"
    listed = f"[{', '.join(map(literal, names))}]::varchar[]"
    dropped = ", ".join(map(literal, dropping)) or "null"
    return (
        f"case when {number} is not null then {_edges_below(number, distribution)} "
        f"when {word} is null then if(instance in ({dropped}), {NoBin.DROPPED}, {NoBin.MISSING}) "
        f"when list_contains({listed}, {word}) then list_position({listed}, {word}) - 1 "
        f"when regexp_full_match({word}, '{_MASKED}') then {NoBin.HASHED} else {NoBin.UNKNOWN} end"
    )


def _place_of_score(distribution: Distribution) -> str:
    return f"case when score is null then {NoBin.MISSING} else {_edges_below('score', distribution)} end"


def _edges_below(value: str, distribution: Distribution) -> str:
    return " + ".join(f"({value} > '{edge!r}'::double)::int" for edge in distribution.edges) or "0"


def places_by_hour(log: LogTable, bundle: Bundle, name: str) -> tuple[list[datetime], npt.NDArray[np.int64]]:
    """The hours that have rows, and how many values of a column lie in each bin, int64 [hours, bins + 4].

    The last four count what `NoBin` names. A name that is no
    feature's is that of the score.
    """
    reference = reference_of(bundle)
    if name in bundle.schema.names:
        distribution, feature = reference.features[name], bundle.schema[name]
        place = _place(bundle.schema.names.index(name), distribution, _bins_by_word(feature, reference))
    else:
        distribution = reference.score
        place = _place_of_score(distribution)
    found = log.rows(
        f"select date_trunc('hour', ts)::timestamp as begun, {place}, count(*) "
        "from scored group by all order by begun"
    )
    hours = sorted({hour for hour, _, _ in found})
    counts = np.zeros((len(hours), len(distribution.shares) + len(NoBin)), dtype=np.int64)
    for hour, bin_, count in found:
        counts[hours.index(hour), bin_] = count  # of `NoBin` from the end
    return hours, counts


def _logged_score(log: LogTable, distribution: Distribution) -> ColumnCounts:
    counted = dict(log.rows(f"select {_place_of_score(distribution)}, count(*) from scored group by 1"))
    counts = np.array([counted.get(i, 0) for i in range(len(distribution.shares))], dtype=np.int64)
    return ColumnCounts(counts, counted.get(NoBin.MISSING, 0))


def reference_of(bundle: Bundle) -> Reference:
    """The reference of a bundle; raises `LogError` if it has none."""
    reference = read_reference(bundle)
    if reference is None:
        raise LogError(
            f"expected a bundle with reference.json, got {bundle.directory} without: "
            "train it with `python -m train`, or leave drift out"
        )
    return reference


def _code(number: float | None, word: str | None, codes: Mapping[str, float]) -> float:
    """A value of the log as the model takes it; of the last bucket nothing."""
    if number is not None:
        return number
    code = codes.get(word or "", np.nan)
    return np.nan if np.isinf(code) else code
