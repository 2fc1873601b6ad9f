"""Outcomes of a CSV file, each beside the decision that it became of."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.outcomes.decisions import KEYS, WHOLE, Decisions
from monitoring.outcomes.measures import Vector
from server.batch.formats import COMPRESSIONS, CSV, FileFormat
from server.batch.whole_file import read_csv_file
from server.errors import BatchRefused, TableRefused
from server.model.schema import Feature
from server.tables.cells import cell_reader

OUTCOME, AT = "outcome", "at"
#: With points the day comes first wherever they are written; with slashes and hyphens the column tells.
_DAY_FIRST = r"^(\d{1,2})\.(\d{1,2})\.(\d{4})"
_EITHER_FIRST = r"^(\d{1,2})[/-](\d{1,2})[/-](\d{4})"
#: As spreadsheets write times of day in English.
_TIMES = ["%Y-%m-%d %I:%M %p", "%Y-%m-%d %I:%M:%S %p"]
#: An outcome may be dated so long before its decision: by the day alone, or by another zone's clock.
_EARLIEST = "interval 1 day"


@dataclass(frozen=True)
class Joined:
    """The decisions that have an outcome, and how many of either found no other.

    `score` and `outcome` (0 or 1) are float64 [n]; `accepted` bool [n]; `period` (the
    beginning of the decision's month, week or day) and `segment` text [n]. `corrected`
    keys came with two outcomes, of which the latest counts; the outcomes of `early` ones are dated
    before every decision of theirs, and count for none.
    """

    score: Vector
    outcome: Vector
    accepted: npt.NDArray[np.bool_]
    period: npt.NDArray[np.object_]
    segment: npt.NDArray[np.object_]
    outcomes: int
    corrected: int
    early: int

    @property
    def strangers(self) -> int:
        """The outcomes of no decision in the log."""
        return self.outcomes - len(self.score) - self.early


@dataclass(frozen=True)
class Outcomes:
    """A CSV file of outcomes: `key`, `outcome`, perhaps `at`, as texts, and `value`, 0 or 1 where it is one.

    The key is called `key` in the file: see `decisions.KEYS`.
    """

    file: Path
    table: pl.DataFrame
    key: str


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
    columns = {_known(name): name for name in file.table.columns}
    key = _key(list(columns)) if len(columns) == len(file.table.columns) else ""
    if not key:
        raise LogError(
            f"expected the columns {wanted} in {path}, KEY being id, request_id, "
            f"row_id, trace_id or a field of the model, got {','.join(file.table.columns)}"
        )
    if file.ragged:
        raise LogError(
            f"expected {len(columns)} cells in each record of {path}, got others in line {file.ragged[0]}"
        )
    table = file.table.select(
        pl.col(columns[key]).str.strip_chars().str.replace(WHOLE, "$1").alias("key"),
        *(pl.col(columns[name]).str.strip_chars().alias(name) for name in (OUTCOME, AT) if name in columns),
    )
    return Outcomes(path, _with_times(_with_values(table), path), key)


def _known(name: str) -> str:
    """A column's name as it is meant: ours whatever its case and outer blanks, a field's as it is."""
    word = name.strip().casefold()
    return word if word in (*KEYS, OUTCOME, AT) else name


def _key(names: Sequence[str]) -> str:
    """The column of the key: the one that is of `KEYS`, else the only other; empty if there are several."""
    others = [name for name in names if name not in (OUTCOME, AT)]
    found = [name for name in others if name in KEYS] or others
    return found[0] if OUTCOME in names and len(found) == 1 else ""


def _with_values(table: pl.DataFrame) -> pl.DataFrame:
    """With `value`, 0 or 1, of outcomes as flags are written anywhere; what is missing is null in both."""
    read = cell_reader(Feature(OUTCOME, kind="flag"))
    words = table[OUTCOME].drop_nulls().unique().to_list()
    meant = {word: read(word.replace(",", ".")) for word in words}
    values = {word: int(value) for word, value in meant.items() if value in (0, 1)}
    missing = [word for word, value in meant.items() if value is None]
    return table.with_columns(
        pl.col(OUTCOME).replace_strict(values, default=None, return_dtype=pl.Int8).alias("value"),
        pl.when(~pl.col(OUTCOME).is_in(missing)).then(pl.col(OUTCOME)).alias(OUTCOME),
    )


def _with_times(table: pl.DataFrame, file: Path) -> pl.DataFrame:
    """With dates that begin with a day, or a month, the year first; raises `LogError`.

    Of 3/4/2026 the rest of the column says which is which, or nobody knows.
    """
    if AT not in table.columns:
        return table
    told = table[AT].str.extract_groups(_EITHER_FIRST).struct.unnest().cast(pl.Int32)
    days = [bool((told[part] > 12).any()) for part in ("1", "2")]
    if told["1"].is_not_null().any() and days[0] == days[1]:
        raise LogError(
            f"expected times that can be read in one way as {AT} in {file}, got "
            f"{table[AT].filter(told['1'].is_not_null())[0]!r}, … of which day and month "
            f"{'change places' if days[0] else 'are not told apart'}: write 2026-03-01"
        )
    either = "$3-$2-$1" if days[0] else "$3-$1-$2"
    times = pl.col(AT).str.replace(_DAY_FIRST, "$3-$2-$1").str.replace(_EITHER_FIRST, either)
    return table.with_columns(times)


def join(decisions: Decisions, told: Outcomes, accepted: str, by: str) -> Joined:
    """The decisions that have an outcome; of several of one key the latest, of those before the outcome.

    `accepted` is the decision below the threshold. Raises `LogError` for an outcome that
    is none, and where no outcome is of a decision.
    """
    outcomes, corrected = load_outcomes(decisions, told)
    before = f"filter ({not_before('o.came', 'd.ts')})"
    # Outcomes are few: grouping only what has one keeps a long log out of memory.
    found = decisions.arrays(
        f"select max_by(score, ts) {before} score, any_value(o.value) outcome, "
        f"max_by(decision, ts) {before} decision, "
        f"strftime(date_trunc('{by}', max(ts) {before}), '%Y-%m-%d') period, "
        f"max_by(segment, ts) {before} segment "
        "from decisions d join outcomes o using (key) group by key"
    )
    if outcomes and not len(found["score"]):
        _refuse_strangers(decisions, told)
    early = np.ma.getmaskarray(found["score"])
    if early.all() and outcomes:
        raise LogError(
            f"expected outcomes of decisions in the log, got {told.file} in which {AT} is before each: "
            "is it the time of something else?"
        )
    found = {name: column[~early] for name, column in found.items()}
    return Joined(
        score=np.asarray(found["score"], dtype=np.float64),
        outcome=np.asarray(found["outcome"], dtype=np.float64),
        accepted=np.asarray(found["decision"] == accepted, dtype=np.bool_),
        period=_texts(found, "period"),
        segment=_texts(found, "segment"),
        outcomes=outcomes,
        corrected=corrected,
        early=int(early.sum()),
    )


def not_before(came: str, ts: str) -> str:
    """The condition in SQL that an outcome that `came` then may be of a decision at `ts`."""
    return f"({came} is null or {ts} is null or {ts} < {came} + {_EARLIEST})"


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
    """The table `outcomes (key, value, came)`, the latest of a key; how many, and how many were corrected."""
    moment = f'"{AT}"' if AT in told.table.columns else "null::varchar"
    with_zone = f"make_timestamp(epoch_us(try_cast({moment} as timestamptz)))"  # as UTC; without, it is
    came = f"coalesce({with_zone}, try_strptime({moment}, {_TIMES}))"
    with tempfile.TemporaryDirectory(prefix="hotrow-outcomes-") as folder:
        copy = f"{folder}/told.csv"  # as DuckDB reads it without a guess, whatever the file is written in
        told.table.write_csv(copy)
        decisions.rows(
            f"create temp table told as select key, value::int as value, {OUTCOME} as word, "
            f"{moment} as moment, {came} as came, row_number() over () as n "
            f"from read_csv({literal(copy)}, header=true, all_varchar=true, delim=',', quote='\"', "
            f"escape='\"', parallel=false) where {OUTCOME} is not null"
        )
    _check(decisions, told.file)
    decisions.rows(
        "create temp table outcomes as select key, count(distinct value) > 1 as corrected, "
        "max(came) as came, arg_max(value, (coalesce(came, 'epoch'::timestamp), n)) as value "
        "from told group by key"
    )
    decisions.rows("drop table told")
    ((outcomes, corrected),) = decisions.rows("select count(*), count(*) filter (corrected) from outcomes")
    return outcomes, corrected


def _check(decisions: Decisions, file: Path) -> None:
    first = "order by n limit 1"
    for n, word in decisions.rows(f"select n, word from told where value is null or key is null {first}"):
        raise LogError(
            f"expected a key and 0 or 1 (or yes, no) as its outcome in {file}, got {word!r} "
            f"in row {n:,}: leave a row out, or its outcome empty, while it is not known"
        )
    for n, moment in decisions.rows(
        f"select n, moment from told where came is null and moment is not null {first}"
    ):
        raise LogError(
            f"expected a time such as 2026-03-01T14:00 or 01.03.2026 as {AT} in {file}, got {moment!r} "
            f"in row {n:,}"
        )
