"""How good a model was, by the outcomes that came: all, by period and by segment; and what is expected."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitoring.logs.database import literal
from monitoring.logs.table import between
from monitoring.outcomes.binary import binary_performance
from monitoring.outcomes.decisions import Decisions, open_decisions
from monitoring.outcomes.estimate import STEP, Expected, expected
from monitoring.outcomes.joined import Joined
from monitoring.outcomes.joining import join
from monitoring.outcomes.multiclass import multiclass_performance
from monitoring.outcomes.regression import regression_performance
from monitoring.outcomes.reported import OutcomeReport, Performance
from monitoring.outcomes.told import told_outcomes
from server.model.bundle import Bundle

#: What measures the rows of each task: how good, named so, one of so many looks.
_MEASURES: dict[str, Callable[[Joined, Bundle, str, npt.NDArray[np.bool_], int], Performance]] = {
    "binary": binary_performance,
    "regression": regression_performance,
    "multiclass": multiclass_performance,
}

#: The tasks of models that outcomes are held against.
TASKS = frozenset(_MEASURES)


def outcome_report(
    paths: Sequence[Path],
    bundle: Bundle,
    label: str | None = None,
    file: Path | None = None,
    by: str = "month",
    segment: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> OutcomeReport:
    """Join outcomes to the decisions of a model's log; raises `LogError`.

    They are those of a file, or else those that are kept beside the log; without any there is what
    the scores promise alone. `segment` is a field of the rows. Decisions from `since` on and before
    `until` count.
    """
    told = told_outcomes(file, paths, bundle)
    kinds = told.kinds if told else ("id",)
    when = between(since, until)
    with open_decisions(paths, bundle.task, label or bundle.label, kinds, segment, when) as decisions:
        joined = join(decisions, told, bundle, by, not when) if told else None
        promised = _promised(decisions, bundle, by) if bundle.task == "binary" else {}
        ((count,),) = decisions.rows("select count(*) from decisions")
    found = _measured(joined, bundle) if joined is not None and len(joined.score) else None
    whole, periods, segments = found or (None, [], [])
    return OutcomeReport(
        model=label or bundle.label,
        decisions=count,
        outcomes=joined.outcomes if joined else None,
        strangers=joined.strangers if joined else 0,
        corrected=joined.corrected if joined else 0,
        early=joined.early if joined else 0,
        unusable=joined.unusable if joined else 0,
        doubled=joined.doubled if joined else 0,
        accepted=int(joined.accepted.sum()) if joined and bundle.task == "binary" else None,
        whole=whole,
        periods=periods,
        segments=segments,
        expected=promised.pop("", None),
        expected_by_period=promised,
    )


def _measured(joined: Joined, bundle: Bundle) -> tuple[Performance, list[Performance], list[Performance]]:
    groups = [("", np.ones(len(joined.score), dtype=np.bool_))]
    counts = [1]
    for values in (joined.period, joined.segment):
        names = [name for name in sorted(set(values)) if name]
        groups += [(name, values == name) for name in names]
        counts.append(len(names))
    measure = _MEASURES[bundle.task]
    found = [measure(joined, bundle, name, rows, len(groups)) for name, rows in groups]
    return found[0], found[1 : 1 + counts[1]], found[1 + counts[1] :]


def _promised(decisions: Decisions, bundle: Bundle, by: str) -> dict[str, Expected]:
    """What the scores promise, of all under the name `""`, and of each period."""
    found = decisions.arrays(
        f"select coalesce(strftime(date_trunc('{by}', ts), '%Y-%m-%d'), '') period, "
        f"round(score / {STEP})::bigint bin, count(*)::double n, avg(score) score, "
        f"count(*) filter (decision = {literal(bundle.decision.below)})::double accepted "
        "from decisions group by all order by bin"
    )
    periods = np.asarray(found["period"])
    everything = np.ones(len(periods), dtype=np.bool_)
    masks = {"": everything} | {str(name): periods == name for name in sorted(set(periods)) if name}
    return {
        name: expected(found["score"][rows], found["n"][rows], found["accepted"][rows], bundle.decision.costs)
        for name, rows in masks.items()
    }
