"""The report as one HTML page that needs nothing else: no script, no other file, no other host."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

from monitoring.drift.comparison import ColumnDrift, DriftReport
from monitoring.report import plots
from monitoring.report.figures import Spread
from monitoring.report.report import Report
from monitoring.report.words import (
    drift_words,
    left_out_words,
    log_words,
    minutes,
    outcome_words,
    percent,
    psi_words,
    summary,
)

_STYLE = Path(__file__).with_name("page.css")


def render(report: Report) -> str:
    """The page of a report, UTF-8 text."""
    found = report.figures
    models = ", ".join(found.models) or "unknown model"
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Prediction log of {escape(models)}</title>",
        f"<style>{_STYLE.read_text(encoding='utf-8')}</style></head><body>",
        f"<h1>Prediction log of {escape(models)}</h1>",
        f'<p class="sub">{found.first:%Y-%m-%d %H:%M:%S} to {found.last:%Y-%m-%d %H:%M:%S} UTC, '
        f"{escape(minutes(found.seconds))}, {found.files} file{'s' * (found.files != 1)}. "
        f"{escape(' '.join((log_words(report), left_out_words(found.others))))}</p>",
        '<div class="cards">',
        *(_card(name, value, bad) for name, value, bad in summary(report)),
        "</div>",
        _anomalies(report),
        _latency(report),
        _scores(report),
        _usage(report),
    ]
    if report.drift is not None:
        parts.append(_drift(report.drift))
    if report.errors is not None:
        rows = [(code, f"{count:,}") for code, count in report.errors.by_code.items()]
        parts.append(
            _section(
                "Answers by status",
                "Since the server's start, from its metrics.",
                _table(["Status", "Requests"], rows, 1),
            )
        )
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _latency(report: Report) -> str:
    found = report.figures
    rows = [
        (f"{ts:%Y-%m-%d %H:%M:%S.%f}", id_, plots.duration(value))
        for ts, id_, value in found.slowest[:5]
        if value
    ]
    return _section(
        "Latency and traffic",
        f"From the whole request to its answer, in periods of {minutes(found.periods.seconds)}.",
        _spread_table([("Latency", found.latency)], plots.duration),
        _plot("Latency over time", plots.latency(found, report.anomalies)),
        '<p class="note">Requests per second</p>',
        _plot("Requests per second over time", plots.traffic(found, report.anomalies)),
        '<p class="note">The slowest requests</p>',
        _table(["Time (UTC)", "Id", "Latency"], rows, 2),
    )


def _scores(report: Report) -> str:
    found, bundle = report.figures, report.bundle
    threshold = bundle.decision.threshold if bundle and bundle.task == "binary" else None
    return _section(
        "Scores and decisions" if found.outcomes else "Predicted values",
        outcome_words(report),
        _plot("Histogram of the scores", plots.scores(found, threshold)),
        *(_refusals(report) if found.outcomes else ()),
    )


def _refusals(report: Report) -> tuple[str, str]:
    found = report.figures
    return (
        f'<p class="note">Share of “{escape(found.refusal)}” over time</p>',
        _plot("Refusal rate over time", plots.refusals(found, report.anomalies)),
    )


def _usage(report: Report) -> str:
    found = report.figures
    charts = (
        f"<figure><figcaption>{name}</figcaption>"
        f"{_plot(name, plots.usage(found, report.anomalies, key))}</figure>"
        for name, key in (("CPU, percent of one core", "cpu"), ("Resident memory, MiB", "memory"))
    )
    return _section(
        "CPU and memory",
        "Of the worker that answered, sampled once a second.",
        _spread_table([("CPU %", found.cpu), ("Memory MiB", found.memory)], lambda value: f"{value:,.1f}"),
        f'<div class="two">{"".join(charts)}</div>',
    )


def _anomalies(report: Report) -> str:
    if not report.anomalies:
        return _section("Anomalies", "None: no stretch of time differs from the others by more than chance.")
    rows = [(f"{odd.since:%Y-%m-%d %H:%M:%S}", odd.figure, odd.why) for odd in report.anomalies]
    return _section(
        "Anomalies",
        "Periods more than six robust standard deviations from the median; shaded red in the plots.",
        _table(["Since (UTC)", "Figure", "Why"], rows),
    )


def _drift(drift: DriftReport) -> str:
    rows = [
        (
            escape(column.label),
            *(psi_words(psi, 3) for psi in (column.values.psi, column.values.chance, column.values.limit)),
            f"{percent(column.distribution.missing_rate)} → {percent(column.missing_rate)}",
            percent(column.unseen_rate),
            "" if column.is_score else percent(column.importance),
            _verdict(column),
        )
        for column in drift.columns
    ]
    names = [
        "Feature",
        "PSI",
        "By chance",
        "Limit",
        "Missing: training → now",
        "Unseen",
        "Importance",
        "Verdict",
    ]
    hidden = f" Hidden by the log's masks: {', '.join(drift.hidden)}." if drift.hidden else ""
    return _section(
        "Drift",
        f"{drift_words(drift)}, against the training distribution. “By chance” is what no drift stays under "
        "for this many rows and bins; the limit tolerates 0.1 more. Importance: how far the score moves when "
        f"the feature's values are shuffled.{hidden}",
        '<div class="scroll">' + _table(names, rows, 1, 2, 3, 4, 5, 6, raw=(0, 7)) + "</div>",
        '<p class="note">Share of the rows in each bin: training grey, now blue, or red where it drifted</p>',
        '<div class="three">' + "".join(map(_distribution, drift.columns)) + "</div>",
    )


def _verdict(column: ColumnDrift) -> str:
    if column.drifted:
        return f'<span class="tag drift">drift</span> {escape(column.why)}'
    words = {"few": "too few rows", "chance": "as in training", "small": "small"}[column.values.verdict]
    words = "masked" if column.is_hidden else words
    return f'<span class="tag {column.values.verdict}">{words}</span>'


def _distribution(column: ColumnDrift) -> str:
    values = column.values
    note = column.why or f"PSI {psi_words(values.psi, 3)}, limit {psi_words(values.limit, 3)}"
    return (
        f'<figure class="{"drifted" if column.drifted else ""}"><figcaption>{escape(column.label)}'
        f"<small>{escape(note)}</small></figcaption>"
        f"{_plot(f'Distribution of {column.label}', plots.distributions(column))}</figure>"
    )


def _card(name: str, value: str, bad: bool) -> str:
    return f'<div class="card{" bad" if bad else ""}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def _section(title: str, note: str, *content: str) -> str:
    return f'<section><h2>{escape(title)}</h2><p class="sub">{escape(note)}</p>{"".join(content)}</section>'


def _plot(title: str, svg: str) -> str:
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)


def _spread_table(spreads: Iterable[tuple[str, Spread]], words: Callable[[float], str]) -> str:
    rows = [
        (name, *(words(v) for v in (s.mean, s.p50, s.p95, s.p99, s.minimum, s.maximum)))
        for name, s in spreads
    ]
    return _table(["", "Mean", "Median", "p95", "p99", "Min", "Max"], rows, 1, 2, 3, 4, 5, 6)


def _table(
    names: Sequence[str], rows: Iterable[Sequence[str]], *numbers: int, raw: Sequence[int] = ()
) -> str:
    right = [' class="n"' if i in numbers else "" for i in range(len(names))]
    head = "".join(f"<th{right[i]}>{escape(name)}</th>" for i, name in enumerate(names))
    body = "".join(
        "<tr>"
        + "".join(f"<td{right[i]}>{cell if i in raw else escape(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
