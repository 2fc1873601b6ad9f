"""A run second by second, drawn: throughput, latency, CPU and memory under one another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.report.plotting import BLUE, GREY, ORANGE, figure, save


def draw_timeline(summary: Mapping[str, Any], file: Path) -> None:
    """Write the PNG; seconds that were recorded, not measured, are shaded."""
    rows = summary["seconds"]
    if not rows:
        return
    x = [row["second"] - rows[0]["second"] for row in rows]
    plot, axes = figure(4, 1, height=7.0, sharex=True)
    panels = (
        ("requests/s", [("requests_per_second", "", BLUE, 1.0)]),
        ("latency, ms", [("p50_us", "p50", BLUE, 1e-3), ("p99_us", "p99", ORANGE, 1e-3)]),
        ("server CPU, us\nper request", [("cpu_us_per_request", "", BLUE, 1.0)]),
        ("server memory, MB", [("rss_mb", "", BLUE, 1.0)]),
    )
    for axis, (label, lines) in zip(axes, panels, strict=True):
        for key, name, colour, scale in lines:
            axis.plot(x, [row[key] * scale for row in rows], color=colour, label=name or None)
        axis.set_ylabel(label)
        highest = np.nanmax([0.0, *(row[key] * scale for row in rows for key, _, _, scale in lines)])
        axis.set_ylim(0.0, highest * 1.15 or 1.0)
        if len(lines) > 1:
            axis.legend(loc="upper left", ncols=len(lines), frameon=False)
        for start, row in zip(x, rows, strict=True):
            if not row["measured"]:
                axis.axvspan(start - 0.5, start + 0.5, color=GREY, alpha=0.25, linewidth=0)
    axes[-1].set_xlabel("second of the run (grey: not measured, py-spy records)")
    save(plot, file)
