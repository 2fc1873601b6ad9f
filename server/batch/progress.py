"""What a batch says while it runs: how far, how fast, how long still."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeAlias

from server.batch.results import Totals
from server.errors import number_of
from server.model.bundle import Bundle

#: Told how much more is done, and what to say of the speed.
Show: TypeAlias = Callable[[int, str], None]


class Job(Protocol):
    """What is shown: `size` is what there is to do, in bytes of text or rows of a table, if that is known."""

    source: Path
    target: Path

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def size(self) -> int | None: ...

    def run(self, advance: Callable[[int, int], None]) -> Totals: ...


def shown(job: Job, bundle: Bundle) -> Totals:
    """Run the job with a progress bar on stderr (none if that is no terminal) and a last line of figures."""
    if job.notes:
        _say(f"{job.source}: {', '.join(job.notes)}.")
    started, rows = time.perf_counter(), 0
    with _bar(job) as show:

        def advance(size: int, more_rows: int) -> None:
            nonlocal rows
            rows += more_rows
            show(size, f"{rows / (time.perf_counter() - started):,.0f} rows/s")

        totals = job.run(advance)
    _say(summary(job, bundle, totals, time.perf_counter() - started))
    return totals


@contextmanager
def _bar(job: Job) -> Iterator[Show]:
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    # Imported here: it takes longer than to score a small file.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"scoring {job.source.name}", total=job.size, rate="")
        yield lambda size, rate: progress.update(task, advance=size, rate=rate)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def summary(job: Job, bundle: Bundle, totals: Totals, seconds: float) -> str:
    """The last line of figures."""
    fresh = totals.rows - totals.resumed_rows
    scored = f"{number_of(totals.rows, 'row')} scored"
    if totals.bad_rows:
        scored = f"{totals.rows - totals.bad_rows:,} of {scored}"
    words = [f"{scored} with {bundle.label} in {seconds:.1f} s"]
    words.append(f"({fresh / max(seconds, 1e-9):,.0f} rows/s)")
    if totals.resumed_rows:
        words.append(f"after {number_of(totals.resumed_rows, 'row')} of an interrupted run")
    if totals.bad_rows:
        words.append(f"with {number_of(totals.bad_rows, 'bad row')}, listed in {totals.report}")
    return " ".join(words) + f": {job.target}"
