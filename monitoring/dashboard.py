"""Writes the Grafana dashboard: `python -m monitoring.dashboard [FILE]`.

Its panels are a table here; the JSON beside it is what Grafana loads.
"""
# ruff: noqa: E501  # a table reads best with one panel a line

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

from server.cli import CommandParser, run
from server.metrics.names import SCORING_ROUTES

FILE = Path(__file__).parent / "grafana" / "hotrow.json"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
_LAST = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
_CHOSEN = 'instance=~"$instance"'
_SCORING = f'route=~"{"|".join(SCORING_ROUTES)}"'


class Query(NamedTuple):
    """One line, bar or number of a panel."""

    expression: str
    legend: str = ""


class Row(NamedTuple):
    """A heading."""

    title: str


class Panel(NamedTuple):
    """One panel: `kind` is stat, lines, stack or bars, `red_from` the value that is bad."""

    kind: str
    title: str
    unit: str
    width: int
    queries: list[Query]
    red_from: float | None = None
    help: str = ""


def _by(function: str, metric: str, by: str = "", more: str = "") -> str:
    labels = ", ".join(filter(None, [_CHOSEN, more]))
    return f"sum{f' by ({by})' if by else ''} ({function}({metric}{{{labels}}}[$__rate_interval]))"


def _quantile(quantile: float) -> str:
    buckets = _by("rate", "hotrow_request_duration_seconds_bucket", "le", _SCORING)
    return f"histogram_quantile({quantile}, {buckets})"


_REQUESTS = _by("rate", "hotrow_request_duration_seconds_count", more=_SCORING)
_ERRORS = _by("rate", "hotrow_request_duration_seconds_count", more=_SCORING + ', code=~"5.."')
_REJECTED = _by("rate", "hotrow_request_duration_seconds_count", more=_SCORING + ', code=~"4.."')
_DECISIONS = _by("rate", "hotrow_predictions_total", "model, decision")
_LIMIT_HELP = "1 is the limit: a PSI of 0.1, and what chance adds for the present number of rows and bins."

PANELS: list[Row | Panel] = [
    Row("Now"),
    Panel("stat", "Scoring requests", "reqps", 3, [Query(_REQUESTS)]),
    Panel("stat", "Server errors", "percentunit", 3, [Query(f"({_ERRORS} or vector(0)) / {_REQUESTS}")], 0.001),
    Panel("stat", "Rejected rows (4xx)", "percentunit", 3, [Query(f"({_REJECTED} or vector(0)) / {_REQUESTS}")], 0.05, "Requests the model does not take: their fields are named in the responses, and are in no log."),
    Panel("stat", "Median latency", "s", 3, [Query(_quantile(0.5))], 0.005),
    Panel("stat", "99th percentile", "s", 4, [Query(_quantile(0.99))], 0.005),
    Panel("stat", "Log lines lost, last hour", "short", 4, [Query(f"sum(increase(hotrow_log_dropped_total{{{_CHOSEN}}}[1h]))")], 1),
    Panel("stat", "Drift, 1 is the limit", "none", 4, [Query(f"max(hotrow_feature_psi{{{_CHOSEN}}} / hotrow_feature_psi_limit)")], 1, _LIMIT_HELP),
    Row("Requests"),
    Panel("lines", "Latency of scoring requests", "s", 12, [Query(_quantile(q), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99, 0.999)]),
    Panel("stack", "Requests by route and status", "reqps", 12, [Query(_by("rate", "hotrow_request_duration_seconds_count", "route, code"), "{{route}} {{code}}")]),
    Panel("lines", "Shed", "reqps", 8, [Query(_by("rate", "hotrow_shed_total", "reason"), "{{reason}}")]),
    Panel("lines", "Requests in flight", "short", 8, [Query(f"sum(hotrow_requests_in_flight{{{_CHOSEN}}})", "in flight")]),
    Panel("lines", "Budget burned: 1 uses it up in a month", "short", 8, [Query(f"max(hotrow:slow_ratio:rate1h{{{_CHOSEN}}}) / 0.001", "slow, 1 h"), Query(f"max(hotrow:error_ratio:rate1h{{{_CHOSEN}}}) / 0.001", "failed, 1 h")], 14.4),
    Row("Responses"),
    Panel("lines", "Share of each decision", "percentunit", 8, [Query(f"{_DECISIONS} / on (model) group_left sum by (model) ({_DECISIONS})", "{{model}} {{decision}}")]),
    Panel("lines", "Probability", "percentunit", 8, [Query(f"histogram_quantile({q}, {_by('rate', 'hotrow_probability_bucket', 'model, le')})", f"{{{{model}}}} p{q * 100:g}") for q in (0.1, 0.5, 0.9)]),
    Panel("bars", "Scores of the last hour, by upper bound", "short", 8, [Query(f"sum by (le) (increase(hotrow_probability_bucket{{{_CHOSEN}}}[1h]))", "≤ {{le}}")], None, "Cumulative: each bar holds those before it."),
    Row("Drift"),
    Panel("bars", "PSI of each feature, 1 is the limit", "none", 12, [Query(f"sort_desc(max by (feature) (hotrow_feature_psi{{{_CHOSEN}}} / hotrow_feature_psi_limit))", "{{feature}}")], 1, _LIMIT_HELP),
    Panel("lines", "PSI of the score, and its limit", "none", 6, [Query(f"hotrow_score_psi{{{_CHOSEN}}}", "{{model}}"), Query(f"hotrow_score_psi_limit{{{_CHOSEN}}}", "limit {{model}}")]),
    Panel("lines", "Share of rows that lack a feature", "percentunit", 6, [Query(f"hotrow_feature_missing_ratio{{{_CHOSEN}}}", "{{feature}}")]),
    Row("Outcomes"),
    Panel("lines", "AUC by outcomes, with its interval", "none", 8, [Query(f"hotrow_outcome_auc{end}", f"{{{{model}}}}{words}") for end, words in (("", ""), ("_low", " at least"), ("_high", " at most"))] + [Query("hotrow_outcome_expected_auc", "{{model}} promised")], None, "Written by `python -m monitoring performance --textfile`: who was refused, or has no outcome yet, is in no figure."),
    Panel("lines", "Rate of the outcome, and what the scores promise", "percentunit", 8, [Query(f"hotrow_outcome_{name}", f"{{{{model}}}} {words}") for name, words in (("rate", "came"), ("rate_low", "at least"), ("rate_high", "at most"), ("expected_rate", "promised of all"))]),
    Panel("bars", "What drift costs more a decision", "none", 8, [Query("sort_desc(hotrow_offline_feature_cost > 0)", "{{model}} {{feature}}")], None, "Written by `python -m monitoring drift --textfile`, at the model's costs."),
    Row("Workers and log"),
    Panel("stack", "CPU of each worker", "percentunit", 6, [Query(_by("rate", "hotrow_worker_cpu_seconds_total", "worker"), "worker {{worker}}")]),
    Panel("stack", "Memory of each worker", "bytes", 6, [Query(f"sum by (worker) (hotrow_worker_resident_memory_bytes{{{_CHOSEN}}})", "worker {{worker}}")]),
    Panel("lines", "Log lines that wait", "bytes", 6, [Query(f"sum(hotrow_log_queue_bytes{{{_CHOSEN}}})", "waiting")]),
    Panel("lines", "Lines lost, workers restarted, per hour", "short", 6, [Query(f"sum by (reason) (increase(hotrow_log_dropped_total{{{_CHOSEN}}}[1h]))", "lost: {{reason}}"), Query(f"sum(increase(hotrow_worker_restarts_total{{{_CHOSEN}}}[1h]))", "restarts")]),
]  # fmt: skip


def build() -> str:
    """The dashboard as JSON text, the same for the same table."""
    board = (
        dashboard.Dashboard("Hotrow")
        .uid("hotrow")
        .tags(["hotrow", "generated"])
        .description("A server of tabular models: latency, answers, drift, workers and log.")
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("instance")
            .label("Server")
            .datasource(_SOURCE)
            .query('label_values(up{job="hotrow"}, instance)')
            .multi(True)
            .include_all(True)
        )
    )
    for number, panel in enumerate(PANELS, start=1):
        board = (
            board.with_row(dashboard.Row(panel.title).id(number))
            if isinstance(panel, Row)
            else board.with_panel(_panel(panel).id(number))
        )
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _panel(panel: Panel) -> Any:
    made = {"stat": _stat, "lines": _lines, "stack": _lines, "bars": _bars}[panel.kind](panel)
    made = made.title(panel.title).unit(panel.unit).datasource(_SOURCE).span(panel.width)
    made = made.height(4 if panel.kind == "stat" else 8)
    if panel.help:
        made = made.description(panel.help)
    if panel.red_from is not None:
        steps = [Threshold(value=None, color="green"), Threshold(value=panel.red_from, color="red")]
        made = made.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    for i, query in enumerate(panel.queries):
        target = (
            prometheus.Dataquery().expr(query.expression).ref_id("ABCDEFGH"[i]).legend_format(query.legend)
        )
        made = made.with_target(target.instant() if panel.kind == "bars" else target.range())
    return made


def _stat(_: Panel) -> Any:
    return (
        stat.Panel()
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(_LAST)
    )


def _lines(panel: Panel) -> Any:
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
    made = timeseries.Panel().legend(legend).tooltip(tooltip).line_width(1).fill_opacity(8).min(0)
    if panel.kind == "stack":
        made = made.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(30)
    return made


def _bars(_: Panel) -> Any:
    return bargauge.Panel().orientation(VizOrientation.HORIZONTAL).min(0).reduce_options(_LAST)


def main(arguments: Sequence[str]) -> None:
    """Write the dashboard."""
    parser = CommandParser(prog="python -m monitoring.dashboard", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.parse_args(arguments).file.write_text(build(), encoding="utf-8")


if __name__ == "__main__":
    run(main)
