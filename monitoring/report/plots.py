"""The report's plots, each as the text of an SVG image."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from monitoring.drift.comparison import ColumnDrift
from monitoring.outcomes.measures import Interval
from monitoring.report.anomalies import Anomaly
from monitoring.report.figures import SCORE_BINS, Figures, Series, moving_average

INK, MUTED, GRID = "#1f2937", "#6b7280", "#e5e7eb"
BLUE, PALE_BLUE, ORANGE, RED, GREY = "#1d4ed8", "#93b4f5", "#c2410c", "#b91c1c", "#9ca3af"
_NAMED = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    BLUE: "--blue",
    PALE_BLUE: "--pale-blue",
    ORANGE: "--orange",
    RED: "--red",
    GREY: "--grey",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: smaller, searchable
    "svg.hashsalt": "hotrow",  # the same report gives the same bytes
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
#: A time axis is one second long at least.
_SHORTEST_DAYS = 1 / 86_400
_WIDE, _LOW = (10.4, 2.7), (10.4, 1.9)
#: Figures further apart than this are drawn on a logarithmic scale.
_LOG_FROM = 30.0


def latency(figures: Figures, odd: Sequence[Anomaly]) -> str:
    """Median and 99th percentile over time, the moving average of the mean, anomalies shaded."""
    periods = figures.periods
    with _svg(_WIDE) as (axes, image):
        _line(axes, figures, periods.latency_p99, GREY, 0.9, "99th percentile")
        _line(axes, figures, periods.latency_p50, PALE_BLUE, 1.2, "median")
        _line(axes, figures, moving_average(periods.latency_mean), BLUE, 1.8, "moving average of the mean")
        if np.nanmax(periods.latency_p99) > _LOG_FROM * max(1e-9, np.nanmin(periods.latency_p50)):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
        _time_axis(axes)
        _mark(axes, figures, [a for a in odd if a.figure in ("latency", "tail")])
        _legend(axes)
    return image.getvalue()


def traffic(figures: Figures, odd: Sequence[Anomaly]) -> str:
    """Requests over time, per unit of their pace."""
    _, seconds = figures.pace
    with _svg(_LOW) as (axes, image):
        _area(axes, figures, figures.periods.requests / figures.periods.seconds * seconds, BLUE)
        _time_axis(axes)
        _mark(axes, figures, [a for a in odd if a.figure == "requests"])
    return image.getvalue()


def usage(figures: Figures, odd: Sequence[Anomaly], name: str) -> str:
    """`cpu` (percent of one core) or `memory` (MiB) over time with its moving average."""
    values = figures.periods.cpu if name == "cpu" else figures.periods.memory
    with _svg((5.1, 2.1)) as (axes, image):
        _line(axes, figures, values, PALE_BLUE, 1.0, "sampled")
        _line(axes, figures, moving_average(values), BLUE, 1.8, "moving average")
        low, high = axes.get_ylim()
        axes.set_ylim(
            min(low, 0.0) if name == "cpu" else max(0.0, low - 0.1 * high), high + 0.1 * (high - low)
        )
        _time_axis(axes)
        _mark(axes, figures, [a for a in odd if a.figure == name])
    return image.getvalue()


def scores(figures: Figures, decisions: Sequence[str], limits: Sequence[float]) -> str:
    """The histogram of the scores in the colours of what they decide; without limits in one.

    The score decides the first of `decisions` below the first of the rising `limits`, the last from the
    last on.
    """
    edges, width = figures.score_edges, float(figures.score_edges[1] - figures.score_edges[0])
    between = [(GREY, PALE_BLUE)[i % 2] for i in range(len(limits) - 1)]
    colours = [BLUE, *between, ORANGE]
    with _svg(_WIDE) as (axes, image):
        of_bins = np.searchsorted(limits, edges[:-1] + width / 2, side="right")
        axes.bar(
            edges[:-1],
            figures.score_counts,
            width=0.9 * width,
            align="edge",
            color=[colours[i] for i in of_bins],
        )
        for limit in limits:
            axes.axvline(limit, color=INK, linewidth=1.2, linestyle="--")
        if limits:
            ends = [f"under {limits[0]:.3g}"]
            ends += [f"{low:.3g} to {high:.3g}" for low, high in pairwise(limits)]
            ends += [f"from {limits[-1]:.3g}"]
            named = zip(colours, decisions, ends, strict=False)
            axes.legend(
                handles=[Patch(color=colour, label=f"{name}: {end}") for colour, name, end in named],
                loc="upper right",
                fontsize=8,
            )
        last = int(np.flatnonzero(figures.score_counts).max(initial=0))
        axes.set_xlim(edges[0], max(edges[min(last + 2, SCORE_BINS)], edges[SCORE_BINS // 10]))
        axes.set_xlabel("score" if figures.outcomes else "predicted value")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(axis="x", visible=False)
    return image.getvalue()


def refusals(figures: Figures, odd: Sequence[Anomaly]) -> str:
    """The share of refusals over time, and the band chance keeps it in."""
    periods = figures.periods
    n = np.where(periods.scored > 0, periods.scored, np.nan)
    rate, share = figures.refusal_rate, periods.refused / n
    with _svg(_LOW) as (axes, image):
        deviation = 2 * np.sqrt(rate * (1 - rate) / n)
        middle = _middles(figures)
        axes.fill_between(
            middle,
            np.clip(rate - deviation, 0, 1),
            np.clip(rate + deviation, 0, 1),
            color=GRID,
            linewidth=0,
            label="95 % by chance",
        )
        _line(axes, figures, share, PALE_BLUE, 1.0, "per period")
        _line(axes, figures, moving_average(share), BLUE, 1.8, "moving average")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        _time_axis(axes)
        _mark(axes, figures, [a for a in odd if a.figure == "refusals"])
        _legend(axes)
    return image.getvalue()


def distributions(column: ColumnDrift) -> str:
    """Both distributions of one column, bin by bin, missing as a bin of its own."""
    then = np.array([*np.array(column.distribution.shares) * (1 - column.distribution.missing_rate)])
    now = column.counts / max(1, int(column.counts.sum())) * (1 - column.missing_rate)
    names = list(column.bins)
    if column.distribution.missing_rate or column.missing_rate:
        then = np.append(then, column.distribution.missing_rate)
        now = np.append(now, column.missing_rate)
        names.append("missing")
    places = np.arange(len(names))
    with _svg((3.35, 2.2), (0.12, 0.36, 0.99, 0.97)) as (axes, image):
        axes.bar(places - 0.2, then, width=0.4, color=GREY)
        axes.bar(places + 0.2, now, width=0.4, color=RED if column.drifted else BLUE)
        axes.set_xticks(places, [_short(name) for name in names], rotation=40, ha="right", fontsize=7)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.tick_params(axis="y", labelsize=7)
        axes.grid(axis="x", visible=False)
    return image.getvalue()


def intervals(figures: Sequence[tuple[str, Interval, bool]], limits: Sequence[tuple[float, str]] = ()) -> str:
    """A figure a line with its interval, red where it is bad, and upright lines at named limits.

    It is as wide as a telephone shows at once: half of an interval says the opposite of the whole.
    """
    places = range(len(figures))
    size = (4.4, 0.75 + 0.26 * len(figures))
    with _svg(size, (0.26, 0.42 / size[1], 0.98, 1 - 0.3 / size[1])) as (axes, image):
        for place, (_, figure, is_bad) in zip(places, figures, strict=True):
            colour = RED if is_bad else BLUE
            axes.plot([figure.low, figure.high], [place, place], color=colour, linewidth=2)
            axes.plot([figure.value], [place], "o", color=colour, markersize=6)
        for value, name in limits:
            axes.axvline(value, color=INK, linewidth=1, linestyle="--")
            axes.text(value, -0.75, name, ha="center", va="bottom", fontsize=8)
        axes.set_yticks(list(places), [_short(name) for name, *_ in figures])
        axes.set_ylim(len(figures) - 0.5, -0.6)
        axes.grid(axis="y", visible=False)
    return image.getvalue()


def duration(microseconds: float) -> str:
    """A time in the unit that suits it."""
    if microseconds < 1000:
        return f"{microseconds:.3g} µs"
    return f"{microseconds / 1000:.3g} ms" if microseconds < 1e6 else f"{microseconds / 1e6:.3g} s"


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"


@contextmanager
def _svg(
    size: tuple[float, float], edges: tuple[float, float, float, float] | None = None
) -> Iterator[tuple[Axes, io.StringIO]]:
    image, output = io.StringIO(), io.StringIO()
    with mpl.rc_context(_STYLE):
        drawing = Figure(figsize=size)
        left, bottom, right, top = edges or (
            0.65 / size[0],
            0.45 / size[1],
            1 - 0.1 / size[0],
            1 - 0.3 / size[1],
        )
        drawing.subplots_adjust(left, bottom, right, top)
        axes = drawing.subplots()
        yield axes, image
        drawing.savefig(output, format="svg", metadata={"Date": None, "Creator": None})
    text = output.getvalue()
    text = text[text.index("<svg") :]  # a page needs no XML prologue
    for colour, name in _NAMED.items():  # as the page's reader has it, in the light or in the dark
        text = text.replace(colour, f"var({name})")
    image.write(text)


def _middles(figures: Figures) -> npt.NDArray[np.float64]:
    days = np.asarray(date2num(figures.periods.starts), dtype=np.float64)  # type: ignore[no-untyped-call]
    return days + figures.periods.seconds / 2 / 86_400


def _line(axes: Axes, figures: Figures, values: Series, colour: str, width: float, label: str) -> None:
    marker = "o" if np.isfinite(values).sum() < 3 else ""
    axes.plot(_middles(figures), values, color=colour, linewidth=width, label=label, marker=marker)


def _area(axes: Axes, figures: Figures, values: Series, colour: str) -> None:
    axes.fill_between(_middles(figures), values, step="mid", color=colour, linewidth=0, alpha=0.8)
    axes.set_ylim(bottom=0)


def _time_axis(axes: Axes) -> None:
    low, high = axes.get_xlim()
    if high - low < _SHORTEST_DAYS:  # a log of milliseconds: the locator would say years
        middle = (low + high) / 2
        axes.set_xlim(middle - _SHORTEST_DAYS / 2, middle + _SHORTEST_DAYS / 2)
    locator = AutoDateLocator(minticks=3, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.margins(x=0.01)


def _mark(axes: Axes, figures: Figures, odd: Sequence[Anomaly]) -> None:
    days = figures.periods.seconds / 86_400
    starts = date2num(figures.periods.starts)  # type: ignore[no-untyped-call]
    for anomaly in odd:
        first, end = starts[anomaly.first], starts[anomaly.last] + days
        axes.axvspan(first, end, color=RED, alpha=0.14, linewidth=0)
        axes.plot(
            [(first + end) / 2], [1.0], "v", color=RED, transform=axes.get_xaxis_transform(), clip_on=False
        )


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, fontsize=8, borderaxespad=0.1)
