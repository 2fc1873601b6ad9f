"""Outcomes of a CSV file, each beside the decision that it became of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.outcomes.decisions import Decisions
from monitoring.outcomes.measures import Vector
from server.errors import first_line

OUTCOME, AT = "outcome", "at"
_YES, _NO = ("1", "1.0", "true"), ("0", "0.0", "false")


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
    decisions: int
    outcomes: int
    corrected: int

    @property
    def strangers(self) -> int:
        """The outcomes of no decision in the log."""
        return self.outcomes - len(self.score)


def read_header(file: Path) -> list[str]:
    """The columns of a CSV file of outcomes, the key first; raises `LogError`."""
    connection = duckdb.connect()
    try:
        names = connection.execute(f"describe select * from {_csv(file)}").fetchall()
    except (duckdb.Error, OSError) as error:
        raise LogError(f"expected a CSV file of outcomes at {file}, got: {first_line(error)}") from None
    finally:
        connection.close()
    columns = [str(name) for name, *_ in names]
    if len(columns) < 2 or columns[1] != OUTCOME or columns[2:] not in ([], [AT]):
        raise LogError(
            f"expected the columns KEY,{OUTCOME} or KEY,{OUTCOME},{AT} in {file}, KEY being id, request_id, "
            f"row_id, trace_id or a field of the model, got {','.join(columns)}"
        )
    return columns


def join(decisions: Decisions, file: Path, columns: list[str], accepted: str, by: str) -> Joined:
    """The decisions whose key the file has; of several of one key the latest.

    `accepted` is the decision below the threshold. Raises `LogError` for an outcome that
    is none.
    """
    outcomes, corrected = _load(decisions, file, columns)
    # Outcomes are few: grouping only what has one keeps a long log out of memory.
    found = decisions.arrays(
        "select d.score, o.value outcome, d.decision decision, d.period period, d.segment segment from ("
        f"select key, max_by(score, ts) score, max_by(decision, ts) decision, "
        f"strftime(date_trunc('{by}', max(ts)), '%Y-%m-%d') period, max_by(segment, ts) segment "
        "from decisions semi join outcomes using (key) group by key) d join outcomes o using (key)"
    )
    ((total,),) = decisions.rows("select count(*) from decisions")
    return Joined(
        score=np.asarray(found["score"], dtype=np.float64),
        outcome=np.asarray(found["outcome"], dtype=np.float64),
        accepted=np.asarray(found["decision"] == accepted, dtype=np.bool_),
        period=_texts(found, "period"),
        segment=_texts(found, "segment"),
        decisions=total,
        outcomes=outcomes,
        corrected=corrected,
    )


def _texts(found: Mapping[str, npt.NDArray[np.object_]], name: str) -> npt.NDArray[np.object_]:
    column = found[name]
    return np.ma.filled(column, "") if isinstance(column, np.ma.MaskedArray) else column


def _load(decisions: Decisions, file: Path, columns: list[str]) -> tuple[int, int]:
    """The table `outcomes (key, value)`: the latest of each key; how many, and how many were corrected."""
    word = f"lower(trim({OUTCOME}))"
    value = f"case when {word} in {_YES} then 1 when {word} in {_NO} then 0 end"
    moment = f'"{AT}"' if AT in columns else "null::varchar"
    key = '"' + columns[0].replace('"', '""') + '"'
    decisions.rows(
        f"create temp table told as select {key} as key, {value} as value, {OUTCOME} as word, "
        f"{moment} as moment, try_cast({moment} as timestamp) as came, row_number() over () as n "
        f"from {_csv(file)} where {OUTCOME} is not null"
    )
    _check(decisions, file)
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
            f"expected a time such as 2026-03-01T14:00 as {AT} in {file}, got {moment!r} in row {n:,}"
        )


def _csv(file: Path) -> str:
    return f"read_csv({literal(str(file))}, header=true, all_varchar=true, parallel=false)"
