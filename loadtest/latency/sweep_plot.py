"""Latency against rate, drawn: where it bends, and which points the generator spoiled."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loadtest.latency.open_loop import LatencyResult
from loadtest.report.plotting import COLOURS, GREY, figure, save

#: More than these are wider than the plot, which would give way to them.
LEGEND_COLUMNS = 4
LINES = {"p50_us": ("p50", ":"), "p99_us": ("p99", "-"), "p999_us": ("p99.9", "--")}


class Series(NamedTuple):
    """One configuration at rising rates; `knee` is the last point before it bends, None without."""

    workers: int
    log_mode: str
    points: list[LatencyResult]
    knee: int | None

    @property
    def label(self) -> str:
        """What it is called in plots and tables."""
        return f"{self.workers} worker{'s' * (self.workers > 1)}, log {self.log_mode}"


def draw_sweep(series: Sequence[Series], file: Path) -> None:
    """Write the PNG: one colour for each configuration, one stroke for each percentile."""
    plot, axis = figure(height=5.0)
    for one, colour in zip(series, itertools.cycle(COLOURS), strict=False):
        rates = [point.rate for point in one.points]
        for key, (_, stroke) in LINES.items():
            axis.plot(rates, [p.corrected[key] / 1000 for p in one.points], stroke, color=colour)
        _draw_points(axis, one, colour)
        if one.knee is not None:
            _draw_knee(axis, one, colour)
        axis.plot([], [], color=colour, label=one.label)
    for name, stroke in LINES.values():
        axis.plot([], [], stroke, color=GREY, label=name)
    axis.set_yscale("log")
    axis.set_xlim(left=0.0)
    axis.set_xlabel("requests a second asked (hollow: the generator was the limit)")
    axis.set_ylabel("latency from the intended send time, ms")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=LEGEND_COLUMNS)
    save(plot, file)


def _draw_points(axis: Any, one: Series, colour: str) -> None:
    for point in one.points:
        axis.plot(
            point.rate,
            point.corrected["p99_us"] / 1000,
            "o",
            color=colour,
            markersize=5,
            markerfacecolor="white" if point.limited else colour,
        )


def _draw_knee(axis: Any, one: Series, colour: str) -> None:
    assert one.knee is not None
    point = one.points[one.knee]
    axis.axvline(point.rate, color=colour, linewidth=0.8, alpha=0.5)
    axis.text(
        point.rate,
        0.98,
        f"knee: {point.rate:,.0f}/s ",
        transform=axis.get_xaxis_transform(),
        rotation=90,
        ha="right",
        va="top",
        color=colour,
    )
