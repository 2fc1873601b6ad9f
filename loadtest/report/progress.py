"""What a run says on the terminal: a bar while it lasts, a table at its end."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from loadtest.harness.meanwhile import meanwhile
from loadtest.harness.sampler import Sample
from loadtest.report.noise import QUIET_SHARE
from loadtest.report.result_folder import FLAME_GRAPH_FILE, INDEX_FILE
from loadtest.report.terminal import console, print_table

TICK_SECONDS = 0.2


class Progress:
    """Bars for the phases of a run."""

    def __init__(self, samples: Sequence[Sample], folder: Path) -> None:
        self._samples = samples
        self._history = folder / "locust_stats_history.csv"

    def wait(self, phase: str, seconds: float) -> None:
        """Wait so long."""
        with self.during(phase, seconds):
            time.sleep(max(0.0, seconds))

    @contextmanager
    def during(self, phase: str, seconds: float) -> Iterator[None]:
        """Show a bar of so many seconds while the block runs."""
        with meanwhile(partial(self._show, phase, seconds)):
            yield

    def _show(self, phase: str, seconds: float, done: Event) -> None:
        columns = (TextColumn("{task.description:<26}"), BarColumn(), TextColumn("{task.fields[now]}"))
        with Bar(*columns, console=console) as bar:
            task = bar.add_task(phase, total=seconds, now="")
            began = time.monotonic()
            while not done.wait(TICK_SECONDS):
                bar.update(task, completed=min(seconds, time.monotonic() - began), now=self._now())
            bar.update(task, completed=seconds)

    def _now(self) -> str:
        if len(self._samples) < 2:
            return ""
        before, after = self._samples[-2:]
        busy = after.server_cpu_seconds - before.server_cpu_seconds
        if math.isnan(busy):
            return f"server elsewhere{self._rate()}"
        memory_mb = after.server_rss_bytes / 2**20
        return f"server {busy:4.0%} of a core, {memory_mb:.0f} MB{self._rate()}"

    def _rate(self) -> str:
        """Locust's own rate, some seconds old."""
        try:
            *_, last = self._history.read_text().splitlines()
            return f", {float(last.split(',')[4]):,.0f} requests/s"
        except (OSError, ValueError, IndexError):
            return ""


def print_summary(summary: Mapping[str, Any], folder: Path) -> None:
    """The table at the end of a run."""
    totals, counts = summary["totals"], summary["counts"]
    title = f"{summary['name']}: {totals['seconds']} measured seconds"
    print_table(title, ("figure", "value"), rows(totals))
    if totals["others_cpu_share"] > QUIET_SHARE:
        console.print(f"Not to be trusted: other work took {totals['others_cpu_share']:.0%} of the machine.")
    if counts["equal"]:
        console.print(
            f"Locust and the server's /metrics agree on {sum(counts['server'].values()):,} requests."
        )
    else:
        console.print(f"Locust counted {counts['locust']}, the server {counts['server']}: not the same.")
    if "problem" in summary["profile"]:
        console.print(f"No recording: {summary['profile']['problem']}.")
    else:
        console.print(f"Flame graph: {folder / FLAME_GRAPH_FILE}")
    for sentence in summary["broken_limits"]:
        console.print(f"Limit broken: {sentence}.")
    console.print(f"Everything:  {folder / INDEX_FILE}")


def rows(totals: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and value of each figure, for people."""
    slope = totals["rss_mb_per_hour"]
    return [
        ("requests", f"{totals['requests']:,}"),
        ("requests/s", f"{totals['requests_per_second']:,.0f}"),
        ("failed", f"{totals['error_rate']:.3%}"),
        ("p50", f"{totals['p50_us'] / 1000:.3f} ms"),
        ("p90", f"{totals['p90_us'] / 1000:.3f} ms"),
        ("p99", f"{totals['p99_us'] / 1000:.3f} ms"),
        ("p99.9", f"{totals['p999_us'] / 1000:.3f} ms"),
        ("server CPU per request", _figure(totals["cpu_us_per_request"], "{:.1f} us")),
        ("server memory", _figure(totals["rss_mb"], "{:.1f} MB")),
        *([("memory trend", f"{slope:+.1f} MB/hour")] if slope is not None else []),
        ("server, of a core", _figure(totals["server_cpu_share"], "{:.0%}")),
        ("load, of a core", f"{totals['load_cpu_share']:.0%}"),
        ("other work, of the machine", f"{totals['others_cpu_share']:.0%}"),
    ]


def _figure(value: float, form: str) -> str:
    return "not seen" if math.isnan(value) else form.format(value)
