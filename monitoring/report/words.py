"""The words that the terminal and the page share."""

import math
import re
from collections.abc import Iterator, Mapping

from monitoring.drift.comparison import DriftReport, LastDay
from monitoring.logs.lines import counted
from monitoring.outcomes.words import outcome_conclusions
from monitoring.report.plots import duration
from monitoring.report.report import Report
from server.errors import number_of
from server.metrics.drift import LARGE_PSI, MIN_ROWS, TOLERATED_PSI

#: Words of decisions that stand for a high risk; of others nobody knows which is the bad one.
_ADVERSE = "refus|declin|reject|den[iy]|risk|risque|default|défaut|fraud|bad|high|positive|alert|block|churn"
#: Says what the figures are that drift is told by.
PSI_MEANS = (
    "PSI, the population stability index, says how far the values of a column have moved from training: "
    f"0 is not at all, {LARGE_PSI} far. Above its limit it is drift: beyond what is tolerated "
    f"({TOLERATED_PSI}) and what chance alone may add. Where one share is judged by itself, of the missing "
    "or of a rare value, the limit is lower."
)
_MOST_OUTCOMES = 5
_MOST_ANOMALIES = 3
_MOST_DRIFTED = 4
_JOINT = {
    "swapped": "Swapped, as it seems",
    "together": "No longer together as in training",
    "group": "Moved in one group alone",
    "rounded": "Rounded otherwise",
}


def summary(report: Report) -> Iterator[tuple[str, str, bool]]:
    """The figures to see first: name, value, and whether it is bad news."""
    found = report.figures
    unit, seconds = found.pace
    pace = found.requests / found.seconds * seconds if found.seconds else float(found.requests)
    yield f"requests, {pace:,.1f} per {unit}", f"{found.requests:,}", False
    if report.errors is not None:
        yield "answered with an error", percent(report.errors.rate), report.errors.rate > 0.01
    yield from _answers(report)
    yield "median latency", duration(found.latency.p50), False
    yield "99th percentile", duration(found.latency.p99), False
    odd = len(report.anomalies)
    yield "anomaly" if odd == 1 else "anomalies", str(odd), bool(odd)
    if report.drift is not None:
        drifted = len(report.drift.drifted)
        said = "too few rows" if report.drift.too_few else f"{drifted}"
        yield f"column{'s' * (drifted != 1)} drifted", said, bool(drifted)
    if report.last_day is not None and (drifted := len(report.last_day.drift.drifted)):
        yield f"column{'s' * (drifted != 1)} drifted in the last 24 hours", f"{drifted}", True
    if report.verification is not None:
        lost = report.verification.lost + found.unreadable
        yield "of the lines lost or unreadable", f"{lost:,}", bool(lost)
    elif found.unreadable:
        yield "of the lines unreadable", f"{found.unreadable:,}", True
    if found.doubled:
        yield "of the lines there twice", f"{found.doubled:,}", True
    if found.astray:
        yield "of the lines of a wrong clock", f"{found.astray:,}", True


def conclusions(report: Report) -> Iterator[str]:
    """What follows from the figures, a sentence each, the gravest first."""
    if report.verification is not None and report.verification.lost:
        yield log_words(report)
    if report.drift is not None:
        yield from _drift_conclusions(report.drift)
    if report.last_day is not None:
        yield from last_day_words(report.last_day)
    if report.outcomes is not None:
        yield from outcome_conclusions(report.outcomes)
    yield from report.arms.words()
    longest_first = sorted(report.anomalies, key=lambda odd: odd.first - odd.last)
    for odd in longest_first[:_MOST_ANOMALIES]:
        since = f"{odd.since:%Y-%m-%d %H:%M} UTC"
        yield f"{odd.figure.capitalize()} out of the ordinary from {since} on: {odd.why}."
    if more := longest_first[_MOST_ANOMALIES:]:
        yield f"Listed below: {len(more)} more."
    if report.errors is not None:
        yield f"{percent(report.errors.rate)} of the requests were answered with an error."
    if report.drift is None:
        yield "Whether rows are still as in training cannot be told: the bundle has no reference."
    if not report.anomalies:
        yield "No stretch of time differs from the others by more than chance."


def _drift_conclusions(drift: DriftReport) -> Iterator[str]:
    columns = [column.label for column in drift.drifted if not column.is_score]
    if drift.too_few:
        yield f"Nothing can be said of drift: {drift_words(drift)}."
    elif not drift.found:
        yield f"Rows are as in training: no drift in {drift.n:,}."
    elif columns:
        others = f", then {', '.join(columns[1:_MOST_OUTCOMES])}" if columns[1:] else ""
        moved = "The score moved" if any(c.is_score for c in drift.drifted) else "The score did not move much"
        yield f"{columns[0]} is not as in training and moves the score most{others}. {moved}."
    elif drift.drifted:
        yield "The score moved, and no feature by itself did."
    yield from joint_words(drift)


def last_day_words(newest: LastDay) -> Iterator[str]:
    """What drifts in the last 24 hours of a log, and since when; nothing if nothing does."""
    told = []
    for column in newest.drift.drifted[:_MOST_DRIFTED]:
        start = newest.since.get(column.name)
        told.append(f"{column.label} since {start:%Y-%m-%d %H:%M} UTC" if start else column.label)
    if more := len(newest.drift.drifted) - len(told):
        told.append(f"{more} more")
    if told:
        yield f"In the last 24 hours, taken alone, not as in training: {'; '.join(told)}."


def _answers(report: Report) -> Iterator[tuple[str, str, bool]]:
    """The share of high risks, of the most frequent class, or the middle of the values."""
    found = report.figures
    if len(found.outcomes) > 2 and not (report.bundle and report.bundle.task == "binary"):
        yield f"class “{found.refusal}”", percent(found.refusal_rate), False
    elif found.outcomes:
        adverse = re.search(_ADVERSE, found.refusal, re.IGNORECASE)
        name = "high risk, " if adverse else "answered "
        yield f"{name}“{found.refusal}”", percent(found.refusal_rate), False
    else:
        yield "median of the predicted values", number(found.score.p50), False


def outcome_words(report: Report) -> str:
    """What was answered, in a sentence."""
    found = report.figures
    if not found.outcomes:
        score = found.score
        return (
            f"{number_of(found.rows, 'row')}; values from {number(score.minimum)} to "
            f"{number(score.maximum)}, half of them above {number(score.p50)}."
        )
    shares = ", ".join(f"{percent(share)} “{name}”" for name, share in found.outcomes[:_MOST_OUTCOMES])
    more = len(found.outcomes) - _MOST_OUTCOMES
    return f"{number_of(found.rows, 'row')}; {shares}" + (f" and {more} more." if more > 0 else ".")


def left_out_words(others: Mapping[str, int]) -> str:
    """The lines of other models, in a sentence; empty if there are none."""
    return f"Lines left out, as of other models: {counted(others)}." if others else ""


def log_words(report: Report) -> str:
    """What is known about the completeness of the log, in a sentence."""
    checked = report.verification
    if checked is None:
        return "These lines bear no numbers, so that a loss could not be seen."
    open_ended = sum(process.lines is None for process in checked.processes)
    if checked.lost:
        lost = number_of(checked.lost, "answer")
        return f"Without a line: {lost}; `python -m monitoring verify-log` says which."
    instances = number_of(len(checked.instances), "instance")
    if open_ended:
        return f"No gap in the numbers of {instances}; {open_ended} never closed the log."
    return f"No gap in the numbers of {instances}."


def drift_words(drift: DriftReport) -> str:
    """How many rows were looked at, and whether they were too few."""
    if not drift.too_few:
        return number_of(drift.n, "row")
    if drift.n < MIN_ROWS:
        return f"{number_of(drift.n, 'row')}, too few to judge by: at least {MIN_ROWS} are needed"
    return (
        f"{drift.n:,} rows that repeat themselves and tell as much as {drift.independent:,}, "
        f"too few to judge by: at least {MIN_ROWS} are needed"
    )


def drift_notes(drift: DriftReport) -> Iterator[str]:
    """What has to be said beside the table: lines left out, masked features, columns of no feature."""
    if drift.others:
        yield left_out_words(drift.others)
    if drift.doubled:
        yield f"There twice, and counted once: {number_of(drift.doubled, 'line')}."
    if drift.hidden:
        hidden = ", ".join(drift.hidden)
        yield f"Not in the log, or masked there, so their values cannot be compared: {hidden}."
    yield from joint_words(drift)
    absent = [column.name for column in drift.columns if column.missing_rate == 1.0 and column.drifted]
    if absent:
        yield f"In no row: {', '.join(absent)}."
    dear = [f"{column.name} {number(column.cost)}" for column in drift.drifted if column.cost]
    if dear:
        yield f"If these values are wrong, a decision costs more, at the model's costs: {', '.join(dear)}."
    for where, found in drift.segments:
        why = "; ".join(f"{column['name']} ({column['why']})" for column in found["columns"])
        yield f"In {where} ({number_of(found['n'], 'row')}): {why or 'no drift'}."
    if absent and drift.strangers:
        yield f"Columns of no feature, perhaps these under other names: {', '.join(drift.strangers)}."


def joint_words(drift: DriftReport) -> Iterator[str]:
    """What columns show together, a sentence each."""
    for one in drift.joint:
        yield f"{_JOINT[one.kind]}: {' and '.join(one.names)} ({one.why})."


def number(value: float) -> str:
    """A number in a few digits, a dash for none."""
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:,.4g}"


def psi_words(psi: float, digits: int) -> str:
    """A PSI, or a dash for a limit that too few rows leave open."""
    return "–" if math.isinf(psi) else f"{psi:.{digits}f}"


def percent(share: float) -> str:
    """A share in percent, a dash for none."""
    if math.isnan(share):
        return "–"
    return f"{share:.0%}" if share in (0.0, 1.0) else f"{share:.1%}" if share >= 0.001 else f"{share:.3%}"


def minutes(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    written = f"{seconds:.3g}"
    return f"{written} second{'s' * (written != '1')}"
