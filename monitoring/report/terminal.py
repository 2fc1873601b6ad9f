"""The reports as text for a terminal."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monitoring.drift.comparison import ColumnDrift, DriftReport
from monitoring.drift.timeline import Passed, Period, Since
from monitoring.logs.replay import Replay
from monitoring.outcomes.words import outcome_conclusions
from monitoring.report.anomalies import Anomaly
from monitoring.report.arms import COLUMNS, Arms
from monitoring.report.figures import Spread
from monitoring.report.plots import duration
from monitoring.report.report import Report
from monitoring.report.words import (
    PSI_MEANS,
    drift_notes,
    drift_words,
    last_day_words,
    left_out_words,
    log_words,
    minutes,
    outcome_words,
    percent,
    psi_words,
    summary,
)
from monitoring.tables import pairs, table
from server.errors import number_of


def print_report(report: Report, console: Console, page: Path) -> None:
    """Everything a report says, but for the plots, which are on the page."""
    found = report.figures
    console.print(
        f"[bold]{escape(', '.join(found.models) or 'unknown model')}[/]  "
        f"{found.first:%Y-%m-%d %H:%M:%S} to {found.last:%Y-%m-%d %H:%M:%S} UTC, {minutes(found.seconds)}"
    )
    console.print(log_words(report))
    console.print(outcome_words(report))
    if found.others:
        console.print(left_out_words(found.others))
    cards = pairs()
    for name, value, bad in summary(report):
        cards.add_row(name, f"[red]{value}[/]" if bad else value)
    console.print(cards)
    spreads = table("", "mean", "median", "p95", "p99", "min", "max")
    _add_spread(spreads, "latency", found.latency, duration)
    for name, spread in (("CPU %", found.cpu), ("memory MiB", found.memory), ("score", found.score)):
        _add_spread(spreads, name, spread, lambda value: f"{value:,.3g}")
    console.print(spreads)
    if report.anomalies:
        _print_anomalies(report.anomalies, console)
    if report.outcomes is not None:
        for sentence in outcome_conclusions(report.outcomes):
            console.print(escape(sentence), soft_wrap=True)
    if report.arms:
        _print_arms(report.arms, console)
    if report.drift is not None:
        print_drift(report.drift, console)
    for sentence in last_day_words(report.last_day) if report.last_day else ():
        console.print(sentence, markup=False, style="red", soft_wrap=True)
    console.print(f"Plots: {page}")


def _print_anomalies(anomalies: Sequence[Anomaly], console: Console) -> None:
    odd = table("since (UTC)", words="figure", title="Anomalies")
    odd.add_column("why", overflow="fold")
    for anomaly in anomalies:
        odd.add_row(f"{anomaly.since:%Y-%m-%d %H:%M:%S}", anomaly.figure, anomaly.why)
    console.print(odd)


def _print_arms(compared: Arms, console: Console) -> None:
    arms = table(*COLUMNS)
    for row in compared.table():
        arms.add_row(*map(escape, row))
    console.print(arms)
    for sentence in compared.words():
        console.print(escape(sentence), soft_wrap=True)


def print_drift(drift: DriftReport, console: Console) -> None:
    """The drift of every column, drifted ones first."""
    columns = ("feature", "PSI", "chance", "limit", "missing", "unseen", "importance")
    drifts = table(*columns, words="verdict")
    for column in drift.columns:
        drifts.add_row(
            escape(column.name),
            *(psi_words(psi, 4) for psi in (column.values.psi, column.values.chance, column.values.limit)),
            percent(column.missing_rate),
            percent(column.unseen_rate),
            "" if column.is_score else percent(column.importance),
            f"[red]drift: {escape(column.why)}[/]" if column.drifted else _verdict(column),
        )
    console.print(drifts)
    console.print(PSI_MEANS, style="dim", soft_wrap=True, highlight=False)
    for sentence in drift_notes(drift):
        console.print(sentence, markup=False)
    names = escape(", ".join(drift.found))
    if drift.too_few:
        console.print(f"No judgement: {drift_words(drift)}.")
    else:
        console.print(
            f"[red]Drift in {names}[/] ({drift_words(drift)})"
            if names
            else f"No drift in {drift_words(drift)}"
        )


def print_timeline(
    periods: Sequence[Period], begun: Sequence[Since], over: Sequence[Passed], console: Console
) -> None:
    """Each period's rows and what drifted in it, since when the last one's does, and what did for a while."""
    if not periods:
        return
    timeline = table("since (UTC)", "rows", words="drifted")
    for period in periods:
        names = ", ".join(column.name for column in period.drift.drifted)
        verdict = f"[red]{escape(names)}[/]" if names else "too few rows" if period.drift.too_few else "–"
        timeline.add_row(f"{period.start:%Y-%m-%d %H:%M}", f"{period.drift.n:,}", verdict)
    console.print(timeline)
    for one in begun:
        console.print(f"[red]{escape(one.name)} drifts since {one.start:%Y-%m-%d %H:%M} UTC[/]")
    for run in over:
        time = f"from {run.start:%Y-%m-%d %H:%M} to {run.end:%Y-%m-%d %H:%M} UTC"
        console.print(f"[red]{escape(run.name)} drifted {time}[/]")


def _verdict(column: ColumnDrift) -> str:
    return "masked" if column.is_hidden else column.values.verdict


def print_replay(result: Replay, console: Console) -> None:
    """What the other bundle changes, or whether the same one agrees."""
    console.print(
        f"[bold]{number_of(result.rows, 'row')} replayed with {result.bundle}[/], {result.skipped:,} skipped"
    )
    if result.ignored:
        console.print(f"Fields the bundle does not know: {', '.join(result.ignored)}")
    told = pairs()
    told.add_row("equal to the bit", f"{result.equal:,} ({percent(result.equal / result.rows)})")
    told.add_row("decisions flipped", f"{result.flipped:,} ({percent(result.flipped / result.rows)})")
    for (then, now), count in sorted(result.flips.items()):
        told.add_row(f"  {then} → {now}", f"{count:,}")
    told.add_row("mean shift of the score", f"{result.mean_shift:+.3g}")
    quantiles = zip(("median", "p95", "p99", "largest"), result.moved, strict=True)
    told.add_row("absolute change", ", ".join(f"{name} {value:.3g}" for name, value in quantiles))
    told.add_row("PSI of the scores", f"{result.score_psi:.4f}")
    told.add_row("one row in the model", f"{result.microseconds_per_row:.1f} µs")
    console.print(told)
    if result.most_changed:
        changed = table("rows that changed most", "logged", "now")
        for change in result.most_changed:
            changed.add_row(change.id, f"{change.logged:.6f}", f"{change.replayed:.6f}")
        console.print(changed)
    if result.disagreeing:
        console.print(
            f"[red]Of {number_of(result.audited, 'row')} logged by {result.bundle} "
            f"{result.disagreeing:,} came out otherwise.[/]"
        )
    elif result.audited:
        console.print(
            f"Of {number_of(result.audited, 'row')} logged by {result.bundle} "
            "all came out the same to the bit."
        )


def _add_spread(spreads: Table, name: str, spread: Spread, words: Callable[[float], str]) -> None:
    values = (spread.mean, spread.p50, spread.p95, spread.p99, spread.minimum, spread.maximum)
    spreads.add_row(name, *(words(value) if value == value else "–" for value in values))
