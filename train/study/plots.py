"""The plots of a training report, each a PNG; the only module of training that knows matplotlib."""

import base64
import io
import warnings
from collections.abc import Mapping
from typing import Any

BLUE, ORANGE, GREY = "#2563a8", "#d9702b", "#9aa3ad"
_DOTS_PER_INCH = 130
_MOST_FEATURES = 20
Figures = Mapping[str, Any]


def roc(held: Figures, unseen: Figures) -> str:
    """True against false positive rate."""
    plot, axis = _figure()
    for figures, name, colour in ((unseen, "out of fold", GREY), (held, "held out", BLUE)):
        points = figures["curves"]["roc"]
        axis.plot(
            [point["false_positive_rate"] for point in points],
            [point["true_positive_rate"] for point in points],
            color=colour,
            label=f"{name}, AUC {figures['auc']:.3f}",
        )
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    return _picture(plot, axis, "false positive rate", "true positive rate")


def calibration(held: Figures, unseen: Figures) -> str:
    """What became of tenths of the rows, by the probability they were given."""
    plot, axis = _figure()
    most = 0.0
    for figures, name, colour in ((unseen, "out of fold", GREY), (held, "held out", BLUE)):
        bins = figures["calibration"]["bins"]
        x, y = [b["probability"] for b in bins], [b["default_rate"] for b in bins]
        most = max(most, *x, *y)
        slope = figures["calibration"]["slope"]
        axis.plot(x, y, marker="o", markersize=4, color=colour, label=f"{name}, slope {slope:.2f}")
    axis.plot([0, most], [0, most], color=GREY, linewidth=0.8, linestyle=":")
    return _picture(plot, axis, "mean probability", "observed rate")


def cost(held: Figures, unseen: Figures, threshold: float) -> str:
    """Cost a row by threshold, with the one that was chosen."""
    plot, axis = _figure()
    for figures, name, colour in ((unseen, "out of fold", GREY), (held, "held out", BLUE)):
        points = figures["curves"]["cost"]
        axis.plot([p["threshold"] for p in points], [p["cost"] for p in points], color=colour, label=name)
    axis.axvline(threshold, color=ORANGE, linewidth=1.2, label=f"chosen, {threshold:.3f}")
    return _picture(plot, axis, "threshold", "cost a row")


def learning_curve(points: list[dict[str, float]]) -> str:
    """Out-of-fold AUC by the rows that a booster learned from."""
    plot, axis = _figure()
    axis.plot(
        [p["rows"] for p in points], [p["auc"] for p in points], marker="o", color=BLUE, label="out of fold"
    )
    return _picture(plot, axis, "rows learned from", "ROC AUC")


def importance(shares: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """Each feature's share of the gain of all splits."""
    largest = list(shares.items())[:_MOST_FEATURES][::-1]
    plot, axis = _figure(height=max(2.4, 0.28 * len(largest) + 0.8))
    axis.barh([_short(labels.get(name) or name) for name, _ in largest], [v for _, v in largest], color=BLUE)
    axis.grid(axis="x", color="#e6e8eb")
    return _picture(plot, axis, "share of the gain", "")


def groups(parts: Mapping[str, Figures], rate: str, words: str) -> str:
    """A rate in each part of a group; parts without it are left out."""
    shown = [(name, part[rate]) for name, part in parts.items() if part[rate] is not None][::-1]
    plot, axis = _figure(height=max(1.6, 0.28 * len(shown) + 0.8))
    axis.barh([_short(name) for name, _ in shown], [value for _, value in shown], color=BLUE)
    return _picture(plot, axis, words, "")


def _short(name: str) -> str:
    return _plain(name if len(name) <= 34 else f"{name[:33]}…")


def _plain(text: str) -> str:
    """A text whose dollars are no formula to matplotlib."""
    return text.replace("$", r"\$")


def _figure(height: float = 3.4) -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        plot = Figure(figsize=(5.2, height), layout="constrained")
        axis = plot.subplots()
    axis.grid(color="#e6e8eb", linewidth=0.8)
    axis.set_axisbelow(True)
    return plot, axis


def _picture(plot: Any, axis: Any, x: str, y: str) -> str:
    """The figure as the address of an image that is part of the page."""
    axis.set_xlabel(_plain(x))
    axis.set_ylabel(y)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # shown as boxes
        plot.savefig(content, dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()
