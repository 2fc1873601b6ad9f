"""Champion and challenger on the same rows: flips, shift, and what outcomes say where they came."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.logs.table import between, reader
from monitoring.outcomes import measures
from monitoring.outcomes.challenged import Challenge, Paired
from monitoring.outcomes.decisions import Decisions, opened
from monitoring.outcomes.joining import load_outcomes, not_before
from monitoring.outcomes.measures import Interval
from monitoring.outcomes.told import Told, folder_of, kept_outcomes, read_outcomes
from server.model.bundle import Bundle
from server.outcomes.record import KEYS

#: The files that the challenger's process writes beside the prediction log.
PATTERN = "challenger-*.ndjson"
WORST_ROWS = 5
_COLUMNS = {
    "ts": "TIMESTAMP",
    "id": "VARCHAR",
    "request_id": "VARCHAR",
    "header_request_id": "VARCHAR",
    "row_id": "VARCHAR",
    "trace_id": "VARCHAR",
    "model": "VARCHAR",
    "score": "DOUBLE",
    "decision": "VARCHAR",
    "challenger": "VARCHAR",
    "challenger_score": "DOUBLE",
    "challenger_decision": "VARCHAR",
}


def challenges(
    paths: Sequence[Path],
    bundle: Bundle,
    outcomes: Path | None = None,
    required: bool = True,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Challenge]:
    """Every challenger of a bundle's model in the folders of a log; raises `LogError`.

    Costs are those of the bundle, for both. Where none is `required` there may be none. Rows
    answered from `since` on and before `until` count.
    """
    files = _files(paths, required)
    if not files:
        return []
    told = read_outcomes(outcomes, bundle) if outcomes else kept_outcomes(map(folder_of, paths))
    if outcomes and told and (bundle.task != "binary" or not set(told.kinds) <= set(KEYS)):
        raise LogError(
            f"expected outcomes of a binary model, by {', '.join(KEYS[:-1])} or {KEYS[-1]}, got outcomes by "
            f"{told.kinds[0]} of {bundle.label}, a {bundle.task} model"
        )
    if bundle.task != "binary":
        told = None
    with _open(files, told.kinds if told else (), between(since, until)) as table:
        pairs = table.rows("select distinct model, challenger from challenged order by all")
        wanted = [pair for pair in pairs if pair[0] == bundle.label]
        if required and not wanted:
            found = ", ".join(f"{challenger} beside {model}" for model, challenger in pairs) or "none"
            time = " in the time of --since and --until" if since or until else ""
            raise LogError(f"expected a challenger of {bundle.label}{time}, got {found}: name the --model")
        if told is not None:
            load_outcomes(table, told, bundle)
        return [_challenge(table, bundle, challenger, told) for _, challenger in wanted]


def _challenge(table: Decisions, bundle: Bundle, challenger: str, told: Told | None) -> Challenge:
    rows = f"challenged where model = {literal(bundle.label)} and challenger = {literal(challenger)}"
    ((count, first, last, mean, deviation),) = table.rows(
        "select count(*), min(ts)::varchar, max(ts)::varchar, avg(challenger_score - score), "
        f"stddev_samp(challenger_score - score) from {rows}"
    )
    found = Challenge(
        champion=bundle.label,
        challenger=challenger,
        rows=count,
        first=first,
        last=last,
        flips=table.rows(
            f"select decision, challenger_decision, count(*) from {rows} "
            "and decision is distinct from challenger_decision group by all order by all"
        ),
        shift=Interval.around(mean, (deviation or math.nan) / math.sqrt(count)),
        worst=table.rows(
            f"select id, score, challenger_score from {rows} "
            f"order by abs(challenger_score - score) desc, id limit {WORST_ROWS}"
        ),
    )
    if told is None:
        return found
    sides = [
        f"select c.rowid row_number, c.*, o.value outcome, o.came from (select rowid, * from {rows}) c "
        f"join outcomes o on c.key{i} = o.key and o.kind = {literal(kind)} "
        f"where o.value is not null and {not_before('o.came', 'c.ts')}"
        for i, kind in enumerate(told.kinds)
    ]
    joined = table.arrays(
        "select score, challenger_score, decision, challenger_decision, outcome "
        f"from ({' union all '.join(sides)}) "
        "qualify row_number() over (partition by row_number order by came desc nulls last) = 1"
    )
    keys = " union all ".join(
        f"select {literal(kind)} kind, key{i} as key from {rows}" for i, kind in enumerate(told.kinds)
    )
    ((strangers,),) = table.rows(f"select count(*) from outcomes anti join ({keys}) using (kind, key)")
    paired = _paired(joined, bundle) if len(joined["outcome"]) else None
    return replace(found, strangers=strangers, paired=paired)


def _paired(joined: dict[str, Any], bundle: Bundle) -> Paired:
    outcome = np.asarray(joined["outcome"], dtype=np.float64)
    scores = [np.asarray(joined[name], dtype=np.float64) for name in ("score", "challenger_score")]
    missed, alarmed = bundle.decision.costs
    spent = [
        np.where(np.asarray(joined[name]) == bundle.decision.below, missed * outcome, alarmed * (1 - outcome))
        for name in ("decision", "challenger_decision")
    ]
    return Paired(
        n=len(outcome),
        auc=measures.auc(scores[0], outcome),
        challenger_auc=measures.auc(scores[1], outcome),
        auc_gain=measures.auc_difference(scores[1], scores[0], outcome),
        cost=float(spent[0].mean()),
        challenger_cost=float(spent[1].mean()),
        cost_saved=measures.at_every_look(spent[0] - spent[1]),
    )


def _files(paths: Sequence[Path], required: bool) -> list[Path]:
    """What challengers' processes wrote into the folders; if one is required, also a path that is a file."""
    named = [path for path in paths if required and not path.is_dir()]
    files = named + [file for path in paths if path.is_dir() for file in sorted(path.rglob(PATTERN))]
    if required and not files:
        raise LogError(
            f"expected a folder with {PATTERN} files, as the server writes them while a model has a "
            f"challenger, got {', '.join(map(str, paths))} without"
        )
    return files


@contextmanager
def _open(files: Sequence[Path], kinds: Sequence[str], condition: str) -> Iterator[Decisions]:
    """The table `challenged` of rows that meet a condition, each once, with keys; raises `LogError`."""
    names = {"request_id": "coalesce(request_id, header_request_id)"}
    keys = "".join(f", {names.get(kind, kind)} as key{i}" for i, kind in enumerate(kinds))
    with opened("a challenger") as table:
        table.rows(
            f"create table challenged as select *{keys} from {reader(files, _COLUMNS)} "
            "where id is not null and score is not null and challenger_score is not null "
            f"and {condition or 'true'} "
            "qualify row_number() over (partition by id, challenger order by ts) = 1"
        )
        yield table
