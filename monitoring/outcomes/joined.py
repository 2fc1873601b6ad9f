"""Outcomes of a CSV file, each beside the decision that it became of."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.outcomes.decisions import KEYS, Decisions
from monitoring.outcomes.measures import Vector
from server.batch.formats import COMPRESSIONS, CSV, FileFormat
from server.batch.whole_file import read_csv_file
from server.errors import BatchRefused, TableRefused
from server.model.wrong_value import MISSING

OUTCOME, AT = "outcome", "at"
_YES, _NO = ("1", "1.0", "1,0", "true"), ("0", "0.0", "0,0", "false")
#: Times beside those of ISO 8601: with points the day comes first wherever they are written.
_TIMES = ["%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S"]


@dataclass(frozen=True)
class Joined:
    """The decisions that have an outcome, and how many of either found no other.

    `score` and `outcome` (0 or 1) are float64 [n]; `accepted` bool [n]; `period` (the
    beginning of the decision's month, week or day) and `segment` text [n]. `corrected`
    keys came with two outcomes, of which the latest counts.
    """

    score: Vector
    outcome: Vector
    accepted: npt.NDArray[np.bool_]
    period: npt.NDArray[np.object_]
    segment: npt.NDArray[np.object_]
    outcomes: int
    corrected: int

    @property
    def strangers(self) -> int:
        """The outcomes of no decision in the log."""
        return self.outcomes - len(self.score)


@dataclass(frozen=True)
class Outcomes:
    """A CSV file of outcomes: its columns as texts without blanks around them, the key first."""

    file: Path
    table: pl.DataFrame

    @property
    def key(self) -> str:
        """What its outcomes are of: see `decisions.KEYS`."""
        return self.table.columns[0]


def read_outcomes(path: Path) -> Outcomes:
    """The outcomes of a CSV file as people have it; raises `LogError`."""
    wanted = f"KEY,{OUTCOME} or KEY,{OUTCOME},{AT}"
    compression = path.suffix.lower()
    kind = FileFormat(CSV, "", compression if compression in COMPRESSIONS else "")  # whatever its name
    try:
        file = read_csv_file(path, (OUTCOME, AT).__contains__, kind)
    except OSError as error:
        raise LogError(f"expected a readable file at {path}, got: {error.strerror or error}") from None
    except (BatchRefused, TableRefused) as error:
        raise LogError(f"{str(error).removesuffix('.')}: its columns are {wanted}") from None
    names = [_known(name) for name in file.table.columns]
    if len(names) < 2 or names[1] != OUTCOME or names[0] == OUTCOME or names[2:] not in ([], [AT]):
        raise LogError(
            f"expected the columns {wanted} in {path}, KEY being id, request_id, "
            f"row_id, trace_id or a field of the model, got {','.join(file.table.columns)}"
        )
    if file.ragged:
        raise LogError(
            f"expected {len(names)} cells in each record of {path}, got others in line {file.ragged[0]}"
        )
    table = file.table.rename(dict(zip(file.table.columns, names, strict=True)))
    table = table.with_columns(pl.all().str.strip_chars())
    unknown = pl.col(OUTCOME).is_in(MISSING)  # words for a missing value, as in any file of rows
    return Outcomes(path, table.with_columns(pl.when(~unknown).then(pl.col(OUTCOME)).alias(OUTCOME)))


def _known(name: str) -> str:
    """A column's name as it is meant: ours whatever its case and outer blanks, a field's as it is."""
    word = name.strip().casefold()
    return word if word in (*KEYS, OUTCOME, AT) else name


def join(decisions: Decisions, told: Outcomes, accepted: str, by: str) -> Joined:
    """The decisions that have an outcome; of several of one key the latest.

    `accepted` is the decision below the threshold. Raises `LogError` for an outcome that
    is none, and where no outcome is of a decision.
    """
    outcomes, corrected = load_outcomes(decisions, told)
    # Outcomes are few: grouping only what has one keeps a long log out of memory.
    found = decisions.arrays(
        "select d.score, o.value outcome, d.decision decision, d.period period, d.segment segment from ("
        f"select key, max_by(score, ts) score, max_by(decision, ts) decision, "
        f"strftime(date_trunc('{by}', max(ts)), '%Y-%m-%d') period, max_by(segment, ts) segment "
        "from decisions semi join outcomes using (key) group by key) d join outcomes o using (key)"
    )
    if outcomes and not len(found["score"]):
        _refuse_strangers(decisions, told)
    return Joined(
        score=np.asarray(found["score"], dtype=np.float64),
        outcome=np.asarray(found["outcome"], dtype=np.float64),
        accepted=np.asarray(found["decision"] == accepted, dtype=np.bool_),
        period=_texts(found, "period"),
        segment=_texts(found, "segment"),
        outcomes=outcomes,
        corrected=corrected,
    )


def _refuse_strangers(decisions: Decisions, told: Outcomes) -> None:
    theirs, ours = (
        decisions.rows(f"select key from {table} where key is not null limit 1") or [("nothing",)]
        for table in ("outcomes", "decisions")
    )
    raise LogError(
        f"expected outcomes of decisions in the log, got {told.file} with none of these: "
        f"{told.key} is {theirs[0][0]!r}, … there and {ours[0][0]!r}, … in the log"
    )


def _texts(found: Mapping[str, npt.NDArray[np.object_]], name: str) -> npt.NDArray[np.object_]:
    column = found[name]
    return np.ma.filled(column, "") if isinstance(column, np.ma.MaskedArray) else column


def load_outcomes(decisions: Decisions, told: Outcomes) -> tuple[int, int]:
    """The table `outcomes (key, value)`: the latest of each key; how many, and how many were corrected."""
    word = f"lower({OUTCOME})"
    value = f"case when {word} in {_YES} then 1 when {word} in {_NO} then 0 end"
    moment = f'"{AT}"' if AT in told.table.columns else "null::varchar"
    came = f"coalesce(try_cast({moment} as timestamp), try_strptime({moment}, {_TIMES}))"
    with tempfile.TemporaryDirectory(prefix="hotrow-outcomes-") as folder:
        copy = f"{folder}/told.csv"  # as DuckDB reads it without a guess, whatever the file is written in
        told.table.rename({told.key: "key"}).write_csv(copy)
        decisions.rows(
            f"create temp table told as select key, {value} as value, {OUTCOME} as word, "
            f"{moment} as moment, {came} as came, row_number() over () as n "
            f"from read_csv({literal(copy)}, header=true, all_varchar=true, delim=',', quote='\"', "
            f"escape='\"', parallel=false) where {OUTCOME} is not null"
        )
    _check(decisions, told.file)
    decisions.rows(
        "create temp table outcomes as select key, count(distinct value) > 1 as corrected, "
        "arg_max(value, (coalesce(came, 'epoch'::timestamp), n)) as value from told group by key"
    )
    decisions.rows("drop table told")
    ((outcomes, corrected),) = decisions.rows("select count(*), count(*) filter (corrected) from outcomes")
    return outcomes, corrected


def _check(decisions: Decisions, file: Path) -> None:
    first = "order by n limit 1"
    for n, word in decisions.rows(f"select n, word from told where value is null or key is null {first}"):
        raise LogError(
            f"expected a key and 0 or 1 (or true, false) as its outcome in {file}, got {word!r} "
            f"in row {n:,}: leave a row out, or its outcome empty, while it is not known"
        )
    for n, moment in decisions.rows(
        f"select n, moment from told where came is null and moment is not null {first}"
    ):
        raise LogError(
            f"expected a time such as 2026-03-01T14:00 or 01.03.2026 as {AT} in {file}, got {moment!r} "
            f"in row {n:,}"
        )
