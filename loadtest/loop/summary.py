"""The figures of a run: of each second, and of all measured seconds together."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from loadtest.harness.sampler import Sample
from loadtest.loop.blocks import Second, Seconds, percentile_us, together

PERCENTS = {"p50_us": 50.0, "p90_us": 90.0, "p99_us": 99.0, "p999_us": 99.9}
#: Fewer seconds say nothing about memory's trend.
MIN_SLOPE_SECONDS = 30


def second_rows(
    seconds: Seconds, samples: Sequence[Sample], measured: range, cores: int
) -> list[dict[str, Any]]:
    """The figures of each second between two samples; `measured` are those without py-spy."""
    rows = []
    for before, after in pairwise(samples):
        block = seconds.get(before.second, Second())
        if after.second != before.second + 1 or not block.responses:
            continue
        rows.append(
            {
                "second": before.second,
                "measured": before.second in measured,
                **_figures(block, 1.0),
                "rss_mb": after.server_rss_bytes / 2**20,
                **_cpu(before, after, block.responses, cores),
            }
        )
    return rows


def totals(seconds: Seconds, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of all measured seconds together, and the slope of memory over them."""
    measured = [row for row in rows if row["measured"]]
    block = together(seconds[row["second"]] for row in measured)
    used = sum(row["cpu_us_per_request"] * row["requests"] for row in measured)
    return {
        "seconds": len(measured),
        **_figures(block, max(1.0, len(measured))),
        "cpu_us_per_request": used / block.responses if block.responses else math.nan,
        "rss_mb": measured[-1]["rss_mb"] if measured else math.nan,
        "rss_mb_per_hour": slope_per_hour([(r["second"], r["rss_mb"]) for r in measured]),
        "server_cpu_share": _mean(measured, "server_cpu_share"),
        "load_cpu_share": _mean(measured, "load_cpu_share"),
        "others_cpu_share": _mean(measured, "others_cpu_share"),
    }


def slope_per_hour(points: Sequence[tuple[float, float]]) -> float | None:
    """The slope of values over seconds (least squares), for an hour; None for too few seconds."""
    if len(points) < MIN_SLOPE_SECONDS:
        return None
    second, value = np.array(points).T
    return float(np.polyfit(second - second[0], value, 1)[0] * 3600)


def _figures(block: Second, seconds: float) -> dict[str, Any]:
    return {
        "requests": block.responses,
        "requests_per_second": block.responses / seconds,
        "error_rate": block.failures / block.responses if block.responses else math.nan,
        **{name: percentile_us(block, percent) for name, percent in PERCENTS.items()},
    }


def _cpu(before: Sample, after: Sample, requests: int, cores: int) -> dict[str, float]:
    """CPU for each request, and the shares of one processor; that of others is of the machine."""
    server = after.server_cpu_seconds - before.server_cpu_seconds
    load = after.load_cpu_seconds - before.load_cpu_seconds
    machine = after.machine_cpu_seconds - before.machine_cpu_seconds
    return {
        "cpu_us_per_request": server / requests * 1e6,
        "server_cpu_share": server,
        "load_cpu_share": load,
        "others_cpu_share": max(0.0, machine - np.nan_to_num(server) - load) / cores,
    }


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([row[key] for row in rows])) if rows else math.nan
