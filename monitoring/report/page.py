"""The report as one HTML page that needs nothing else: no script, no other file, no other host."""

from collections.abc import Callable, Sequence
from datetime import datetime

from monitoring.drift.comparison import ColumnDrift, DriftReport
from monitoring.report import plots
from monitoring.report.arms import COLUMNS
from monitoring.report.figures import Spread
from monitoring.report.parts import Part
from monitoring.report.report import Report
from monitoring.report.templates import templates
from monitoring.report.words import (
    PSI_MEANS,
    conclusions,
    drift_words,
    joint_words,
    left_out_words,
    log_words,
    minutes,
    outcome_words,
    percent,
    psi_words,
    summary,
)


def render(report: Report, parts: Sequence[Part] = ()) -> str:
    """The page of a report, UTF-8 text; `parts` are sections beside, those of outcomes."""
    found, bundle = report.figures, report.bundle
    return templates.get_template("page.html").render(
        report=report,
        found=found,
        models=", ".join(found.models) or "unknown model",
        log_words=" ".join((log_words(report), left_out_words(found.others))),
        cards=summary(report),
        conclusions=list(conclusions(report)),
        anomalies=[(_when(odd.since), odd.figure, odd.why) for odd in report.anomalies],
        latency=[_spread("Latency", found.latency, plots.duration)],
        slowest=[
            (f"{ts:%Y-%m-%d %H:%M:%S.%f}", id_, plots.duration(value))
            for ts, id_, value in found.slowest[:5]
            if value
        ],
        outcome_words=outcome_words(report),
        decisions=bundle.outcomes if bundle else (),
        limits=bundle.limits if bundle else (),
        arms=list(report.arms.table()) if report.arms else [],
        parts=parts,
        arm_names=COLUMNS,
        arm_words=" ".join(report.arms.words()),
        usage=[_spread("CPU %", found.cpu, _tenths), _spread("Memory MiB", found.memory, _tenths)],
        drift_note=_drift_note(report.drift) if report.drift is not None else "",
        statuses=[(code, f"{count:,}") for code, count in report.errors.by_code.items()]
        if report.errors is not None
        else [],
    )


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _tenths(value: float) -> str:
    return f"{value:,.1f}"


def _spread(name: str, spread: Spread, words: Callable[[float], str]) -> tuple[str, ...]:
    values = (spread.mean, spread.p50, spread.p95, spread.p99, spread.minimum, spread.maximum)
    return (name, *map(words, values))


def _drift_note(drift: DriftReport) -> str:
    hidden = f" Hidden by the log's masks: {', '.join(drift.hidden)}." if drift.hidden else ""
    joint = "".join(f" {sentence}" for sentence in joint_words(drift))
    return (
        f"{drift_words(drift)}, against the training distribution. {PSI_MEANS} “By chance” is what no drift "
        "stays under for this many rows and bins. Importance: how far the score moves when the feature's "
        f"values are shuffled.{hidden}{joint}"
    )


def _verdict_words(column: ColumnDrift) -> str:
    words = {"few": "too few rows", "chance": "as in training", "small": "small"}
    return "masked" if column.is_hidden else words[column.values.verdict]


def _distance_words(column: ColumnDrift) -> str:
    return f"PSI {psi_words(column.values.psi, 3)}, limit {psi_words(column.values.limit, 3)}"


templates.globals |= {
    "when": _when,
    "minutes": minutes,
    "percent": percent,
    "psi_words": psi_words,
    "verdict_words": _verdict_words,
    "distance_words": _distance_words,
    "plots": plots,
}
