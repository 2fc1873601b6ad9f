"""The words that the terminal and the page share."""

import math
from collections.abc import Iterator

from monitoring.drift.comparison import DriftReport
from monitoring.report.plots import duration
from monitoring.report.report import Report
from server.metrics.drift import MIN_ROWS


def summary(report: Report) -> Iterator[tuple[str, str, bool]]:
    """The figures to see first: name, value, and whether it is bad news."""
    found = report.figures
    pace = found.requests / found.seconds if found.seconds else float(found.requests)
    yield f"requests, {pace:,.1f} per second", f"{found.requests:,}", False
    if report.errors is not None:
        yield "answered with an error", percent(report.errors.rate), report.errors.rate > 0.01
    yield f"high risk, “{found.refusal}”", percent(found.refusal_rate), False
    yield "median latency", duration(found.latency.p50), False
    yield "99th percentile", duration(found.latency.p99), False
    yield "anomalies", str(len(report.anomalies)), bool(report.anomalies)
    if report.drift is not None:
        drifted = "too few rows" if report.drift.too_few else str(len(report.drift.drifted))
        yield "columns drifted", drifted, bool(report.drift.drifted)
    if report.verification is not None:
        lost = report.verification.lost + found.unreadable
        yield "lines lost or unreadable", f"{lost:,}", bool(lost)
    elif found.unreadable:
        yield "lines unreadable", f"{found.unreadable:,}", True


def log_words(report: Report) -> str:
    """What is known about the completeness of the log, in a sentence."""
    checked = report.verification
    if checked is None:
        return "These lines bear no numbers, so that a loss could not be seen."
    open_ended = sum(process.lines is None for process in checked.processes)
    if checked.lost:
        return f"{checked.lost:,} answers have no line: `python -m monitoring verify-log` says which."
    boots = f"{len(checked.boots)} boot{'s' * (len(checked.boots) != 1)}"
    if open_ended:
        return f"No gap in the numbers of {boots}; {open_ended} never closed the log."
    return f"No gap in the numbers of {boots}."


def drift_words(drift: DriftReport) -> str:
    """How many rows were looked at, and whether they were too few."""
    if not drift.too_few:
        return f"{drift.n:,} rows"
    if drift.n < MIN_ROWS:
        return f"{drift.n:,} rows, too few to judge by: at least {MIN_ROWS} are needed"
    return (
        f"{drift.n:,} rows that repeat themselves and tell as much as {drift.independent:,}, "
        f"too few to judge by: at least {MIN_ROWS} are needed"
    )


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
    return f"{seconds:.3g} seconds"
