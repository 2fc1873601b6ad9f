"""Outcomes joined to the decisions that they became of."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.outcomes.decisions import Decisions
from monitoring.outcomes.joined import Joined
from monitoring.outcomes.told import Told, kept_lines
from server.model.bundle import Bundle
from server.outcomes.record import AT, KEYS, OUTCOME

#: An outcome may be dated so long before its decision: by the day alone, or by another zone's clock.
_EARLIEST = "interval 1 day"


@dataclass(frozen=True)
class OutcomeCounts:
    """How many outcomes there are of different keys, and how many of these came with several values."""

    outcomes: int
    corrected: int


def join(decisions: Decisions, told: Told, bundle: Bundle, by: str, required: bool = True) -> Joined:
    """The decisions that have an outcome; of several of one key the latest, of those before the outcome.

    Where keys of several kinds are of one decision, the latest outcome counts. Raises `LogError` where
    a file has no outcome of a decision and one is `required`, as of a whole log.
    """
    counts = load_outcomes(decisions, told, bundle)
    before = f"filter ({not_before('came', 'ts')})"
    pairs = " union all ".join(
        "select d.rowid decision_row, d.ts, o.key, o.kind, o.value, o.came "
        f"from decisions d join outcomes o on d.key{i} = o.key and o.kind = {literal(kind)}"
        for i, kind in enumerate(told.kinds)
    )
    # Outcomes are few: grouping only what has one keeps a long log out of memory.
    decisions.rows(
        f"create temp table pairs as select max_by(decision_row, ts) {before} decision_row, "
        f"any_value(value) outcome, any_value(came) came from ({pairs}) group by kind, key"
    )
    ((found, early, unusable),) = decisions.rows(
        "select count(*), count(*) filter (decision_row is null), "
        "count(*) filter (decision_row is not null and outcome is null) from pairs"
    )
    latest = "order by came desc nulls last"
    columns = decisions.arrays(
        f"select score, outcome, coalesce(decision = {literal(bundle.decision.below)}, false) accepted, "
        f"strftime(date_trunc('{by}', ts), '%Y-%m-%d') period, segment "
        "from pairs join decisions d on d.rowid = decision_row where outcome is not null "
        f"qualify row_number() over (partition by decision_row {latest}) = 1"
    )
    decisions.rows("drop table pairs")
    if required and told.table is not None and counts.outcomes and not found:
        _refuse_strangers(decisions, told)
    if required and told.table is not None and counts.outcomes and early == found:
        raise LogError(
            f"expected outcomes of decisions in the log, got {told.where} in which {AT} is before each: "
            "is it the time of something else?"
        )
    score = columns["score"]
    return Joined(
        score=np.stack(list(score)) if score.dtype == object and len(score) else np.asarray(score, float),
        outcome=np.asarray(columns["outcome"], dtype=np.float64),
        accepted=np.asarray(columns["accepted"], dtype=np.bool_),
        period=_texts(columns, "period"),
        segment=_texts(columns, "segment"),
        outcomes=counts.outcomes,
        corrected=counts.corrected,
        early=early,
        unusable=unusable,
        doubled=found - early - unusable - len(columns["outcome"]),
    )


def not_before(came: str, ts: str) -> str:
    """The condition in SQL that an outcome that `came` then may be of a decision at `ts`."""
    return f"({came} is null or {ts} is null or {ts} < {came} + {_EARLIEST})"


def _refuse_strangers(decisions: Decisions, told: Told) -> None:
    theirs, ours = (
        decisions.rows(f"select {key} from {table} where {key} is not null limit 1") or [("nothing",)]
        for key, table in (("key", "outcomes"), ("key0", "decisions"))
    )
    raise LogError(
        f"expected outcomes of decisions in the log, got {told.where} with none of these: "
        f"{told.kinds[0]} is {theirs[0][0]!r}, … there and {ours[0][0]!r}, … in the log"
    )


def _texts(found: Mapping[str, npt.NDArray[np.object_]], name: str) -> npt.NDArray[np.object_]:
    column = found[name]
    return np.ma.filled(column, "") if isinstance(column, np.ma.MaskedArray) else column


def load_outcomes(decisions: Decisions, told: Told, bundle: Bundle) -> OutcomeCounts:
    """The table `outcomes (kind, key, value, came)`: the latest of each key that is known."""
    with tempfile.TemporaryDirectory(prefix="hotrow-outcomes-") as folder:
        if told.table is not None:
            copy = f"{folder}/told.parquet"
            told.table.with_row_index("n").write_parquet(copy)
            source = (
                f"select *, null::timestamp ts, value is not null known from read_parquet({literal(copy)})"
            )
        else:
            source = _kept(told, bundle)
        decisions.rows(f"create temp table told as {source}")
    # Without a time of its own an outcome is as old as what told of it.
    order = "(coalesce(came, ts, 'epoch'::timestamp), coalesce(ts, 'epoch'::timestamp), n)"
    decisions.rows(
        "create temp table outcomes as select kind, key, latest.value, latest.came, corrected from ("
        "select kind, key, count(distinct value) > 1 corrected, "
        f"arg_max({{'value': value, 'came': coalesce(came, ts), 'known': known}}, {order}) latest "
        "from told group by kind, key) where latest.known"
    )
    decisions.rows("drop table told")
    ((outcomes, corrected),) = decisions.rows("select count(*), count(*) filter (corrected) from outcomes")
    return OutcomeCounts(outcomes, corrected)


def _kept(told: Told, bundle: Bundle) -> str:
    """The lines beside a log; one that says nothing of this model may be of another's decision."""
    kinds = " ".join(f"when {kind} is not null then '{kind}'" for kind in KEYS)
    key = f"coalesce({', '.join(KEYS)})"
    return (
        f"select case {kinds} end kind, {key} as key, {_value(bundle)} as value, "
        f'"{AT}" came, ts, word is not null known, 0 n '
        f"from (select *, json_extract_string({OUTCOME}, '$') word from {kept_lines(told.kept)}) "
        f"where {key} is not null"
    )


def _value(bundle: Bundle) -> str:
    if bundle.task == "multiclass":
        classes = ", ".join(map(literal, bundle.classes))
        return f"nullif(list_position([{classes}], word), 0)::double - 1"
    number = "try_cast(word as double)"
    if bundle.task != "binary":
        return f"case when isfinite({number}) then {number} end"
    return "case when word in ('0', 'false') then 0.0 when word in ('1', 'true') then 1.0 end"
