"""One look for every plot of a load test; the only module of theirs that knows matplotlib."""

from pathlib import Path
from typing import Any

BLUE, ORANGE, GREY, RED = "#2563a8", "#d9702b", "#9aa3ad", "#b3261e"
COLOURS = (BLUE, ORANGE, "#3a8f5c", "#7a5195", "#8a6d3b", RED)
DOTS_PER_INCH = 150


def figure(rows: int = 1, columns: int = 1, *, height: float = 4.5, sharex: bool = False) -> tuple[Any, Any]:
    """A figure of 9 inches width and its axes, without a display."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        plot = Figure(figsize=(9.0, height), layout="constrained")
        axes = plot.subplots(rows, columns, sharex=sharex)
    for axis in axes if rows * columns > 1 else (axes,):
        axis.grid(axis="y", color="#e6e8eb", linewidth=0.8)
        axis.set_axisbelow(True)
    return plot, axes


def save(plot: Any, file: Path) -> None:
    """Write a figure as PNG."""
    plot.savefig(file, dpi=DOTS_PER_INCH)
