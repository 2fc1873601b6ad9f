"""The rows that drift is looked for in: counted by bin where they are, in a log or in CSV files.

A log is counted inside DuckDB, which needs no memory for it, whatever its length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from monitoring.errors import LogError
from monitoring.logs.table import LogTable
from server.errors import first_line
from server.log.mask import BUCKET, bucket_names
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.reference import Distribution, Reference
from server.model.schema import Feature, Matrix

SCORE = "score"
#: Rows that the features are weighed with, and rows that are told apart.
SAMPLE_ROWS = 1000
LOOKED_AT_ROWS = 100_000


@dataclass(frozen=True)
class Column:
    """One column of rows to compare: how many values lie in each bin, int64 [bins], and how many in none.

    `missing` values are not there, `unknown` ones are words that no bin stands for.
    """

    counts: npt.NDArray[np.int64]
    missing: int
    unknown: int = 0

    @property
    def rows(self) -> int:
        """All values, and those that are missing."""
        return int(self.counts.sum()) + self.missing + self.unknown


@dataclass(frozen=True)
class Rows:
    """What drift is told of rows: their columns by name, and some of the rows themselves.

    `sample` is float64 [k, F], NaN for missing; `distinct` of the first `looked_at`
    rows differ from one another.
    """

    columns: dict[str, Column]
    sample: Matrix
    looked_at: int
    distinct: int
    hidden: list[str]


def rows_of_log(log: LogTable, bundle: Bundle) -> Rows:
    """Count the rows of a log; features whose values it does not tell are hidden."""
    reference = reference_of(bundle)
    columns = {SCORE: _numbers(log, "score", reference.score)}
    hidden, fields, words = [], [], []
    for feature in bundle.schema.features:
        rule = log.masked.get(feature.name)
        distribution = reference.features[feature.name]
        field = 'input."' + feature.name.replace('"', '""') + '"'
        codes: dict[str, float] | None = None
        if rule == BUCKET:
            codes = dict(zip(bucket_names(distribution), (*distribution.edges, np.inf), strict=True))
        elif feature.kind == "category":
            codes = {word: float(i) for i, word in enumerate(feature.categories)}
        if rule not in (None, BUCKET):
            hidden.append(feature.name)
            field = "null"
        elif codes is None:
            columns[feature.name] = _numbers(log, field, distribution)
        else:
            columns[feature.name] = _words(log, field, list(codes))
        fields.append(field)
        words.append(codes)
    looked_at, distinct = log.row(
        "select count(*), count(distinct hash(input, score)) "
        f"from (select input, score from scored limit {LOOKED_AT_ROWS})"
    )
    # In an order of its own: the same log gives the same sample, and not its first rows.
    query = f"select {', '.join(fields)} from scored order by hash(ts, score, id) limit {SAMPLE_ROWS}"
    drawn = [
        [_code(value, codes) for value, codes in zip(row, words, strict=True)] for row in log.rows(query)
    ]
    return Rows(columns, np.array(drawn, dtype=np.float64), looked_at, distinct, hidden)


def rows_of_csv(paths: Sequence[Path], bundle: Bundle) -> Rows:
    """Count the rows of CSV files with a header, and score them; raises `LogError`."""
    fetched = _read_csv(paths)
    present = [feature for feature in bundle.schema.features if feature.name in fetched]
    if not present:
        raise LogError(f"expected columns named as the features of {bundle.label}, got {', '.join(fetched)}")
    reference = reference_of(bundle)
    nothing = np.full(len(next(iter(fetched.values()))), np.nan)
    matrix = np.column_stack(
        [_codes(f, fetched[f.name]) if f in present else nothing for f in bundle.schema.features]
    )
    predictor = Predictor(bundle)
    scores = np.asarray(predictor.outputs(predictor.margins(matrix)), dtype=np.float64)
    columns = {SCORE: _column(scores, reference.score)}
    for i, feature in enumerate(bundle.schema.features):
        if feature in present:
            unknown = _unknown(feature, fetched[feature.name])
            columns[feature.name] = _column(matrix[:, i], reference.features[feature.name], unknown)
    looked_at = matrix[:LOOKED_AT_ROWS]
    distinct = len({row.tobytes() for row in looked_at})
    drawn = np.random.default_rng(0).permutation(len(matrix))[:SAMPLE_ROWS]
    hidden = [feature.name for feature in bundle.schema.features if feature not in present]
    return Rows(columns, matrix[drawn], len(looked_at), distinct, hidden)


def reference_of(bundle: Bundle) -> Reference:
    """The reference of a bundle; raises `LogError` if it has none."""
    reference = Reference.of(bundle)
    if reference is None:
        raise LogError(
            f"expected a bundle with reference.json, got {bundle.directory} without: "
            "train it with `python -m train`, or leave drift out"
        )
    return reference


def _numbers(log: LogTable, field: str, distribution: Distribution) -> Column:
    """A column of numbers: the bin of a value is the number of edges below it."""
    below = " + ".join(f"({field} > '{edge!r}'::double)::int" for edge in distribution.edges) or "0"
    counts, missing = np.zeros(len(distribution.shares), dtype=np.int64), 0
    for bin_, count in log.rows(
        f"select case when {field} is not null then {below} end, count(*) from scored group by 1"
    ):
        if bin_ is None:
            missing = count
        else:
            counts[bin_] = count
    return Column(counts, missing)


def _words(log: LogTable, field: str, words: Sequence[str]) -> Column:
    """A column of words, each of which is a bin."""
    counted = dict(log.rows(f"select {field}, count(*) from scored group by 1"))
    missing = counted.pop(None, 0)
    counts = np.array([counted.pop(word, 0) for word in words], dtype=np.int64)
    return Column(counts, missing, sum(counted.values()))


def _code(value: Any, codes: dict[str, float] | None) -> float:
    """A value of the log as the model takes it; of a bucket its upper edge, of the last one nothing."""
    if codes is not None:
        value = codes.get(value, np.nan)
    return np.nan if value is None or np.isinf(value) else float(value)


def _read_csv(paths: Sequence[Path]) -> dict[str, list[str | None]]:
    names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    connection = duckdb.connect()
    try:
        table = connection.execute(f"select * from read_csv([{names}], all_varchar=true, union_by_name=true)")
        return {name: values.tolist() for name, values in table.fetchnumpy().items()}
    except duckdb.Error as error:
        raise LogError(f"expected CSV files with a header, got: {first_line(error)}") from None
    finally:
        connection.close()


def _column(codes: npt.NDArray[np.float64], distribution: Distribution, unknown: int = 0) -> Column:
    return Column(distribution.counts(codes), int(np.isnan(codes).sum()) - unknown, unknown)


def _codes(feature: Feature, texts: Sequence[str | None]) -> npt.NDArray[np.float64]:
    if feature.kind == "category":
        codes = {name: float(i) for i, name in enumerate(feature.categories)}
        return np.array([codes.get(text or "", np.nan) for text in texts], dtype=np.float64)
    return np.array([_number(text) for text in texts], dtype=np.float64)


def _unknown(feature: Feature, texts: Sequence[str | None]) -> int:
    """How many words are none of a category's."""
    if feature.kind != "category":
        return 0
    return sum(bool(text) and text not in feature.categories for text in texts)


def _number(text: str | None) -> float:
    try:
        return float({"true": 1.0, "false": 0.0}.get(text.lower(), text)) if text else np.nan
    except ValueError:
        return np.nan
