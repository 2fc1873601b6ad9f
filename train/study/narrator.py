"""What a training run tells the person who started it."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from server.cli import as_typed
from server.model.bundle import Bundle
from train.tables.data import TableSource
from train.tables.rows import Rows

#: The figures of an evaluation, for people.
FIGURES = {
    "auc": "ROC AUC",
    "gini": "Gini",
    "ks": "KS",
    "brier": "Brier score",
    "log_loss": "log loss",
}
_COSTS = {
    "model": "cost a row",
    "model_at_analytic_threshold": "cost at the analytic threshold",
    "accept_all": "cost of the first decision for all",
    "refuse_all": "cost of the second decision for all",
}


class Narrator:
    """Prints the steps of a run, a progress bar for the search, and the figures at its end."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def read(self, rows: Rows, sources: Sequence[TableSource]) -> None:
        """Say what was read."""
        for source in sources:
            empty = f", {source.empty_rows:,} empty rows left out" if source.empty_rows else ""
            others = f" and of {source.other_clients:,} others" if source.other_clients else ""
            self._console.print(
                f"read {source.file}: {source.rows:,} rows of {source.clients:,} clients{others}{empty}"
            )
        complete = int(rows.complete.sum())
        others = f", {len(rows) - complete:,} more without them" if complete < len(rows) else ""
        self._console.print(
            f"{complete:,} clients with secondary tables{others}; {rows.target.mean():.2%} had difficulties"
        )

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show that a step is under way, and that it is done."""
        with self._console.status(what):
            yield
        self._console.print(f"{what}: done")

    @contextmanager
    def boosters(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """The progress of a step that fits `total` boosters; the function it gives is called after each."""
        with self._bar(what, total, "boosters") as bar:
            fitted = itertools.count(1)
            yield lambda: bar.show(next(fitted))

    @contextmanager
    def trials(self, total: int) -> Iterator[Callable[[int, float], None]]:
        """The progress of a search; the function it gives takes the finished trials and the least cost."""
        with self._bar("searching parameters", total, "trials") as bar:
            yield lambda done, cost: bar.show(done, f"least cost a row {cost:.4f}")

    @contextmanager
    def _bar(self, what: str, total: int, unit: str) -> Iterator["_Bar"]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        terminal = self._console.is_terminal
        with Progress(*columns, console=self._console, disable=not terminal) as progress:
            task = progress.add_task(what, total=total, note="")
            yield _Bar(progress, task, None if terminal else self._console, f"{what}: {{}} of {total} {unit}")

    def evaluated(self, figures: Mapping[str, Any], rates: Mapping[str, str]) -> None:
        """Print the evaluation, held out beside out of fold; `rates` names the rates of decisions."""
        held, unseen, threshold = figures["held_out"], figures["out_of_fold"], figures["threshold"]
        table = Table("figure", f"held out ({held['rows']:,})", f"out of fold ({unseen['rows']:,})")
        for name, words in {**FIGURES, **rates}.items():
            table.add_row(words, *(figure_words(part[name]) for part in (held, unseen)))
        for name, words in _COSTS.items():
            table.add_row(words, f"{held['cost'][name]:.4f}", f"{unseen['cost'][name]:.4f}")
        self._console.print(table)
        self._console.print(
            "out of fold, the threshold was chosen on these scores: that cost is a little optimistic",
            soft_wrap=True,
        )
        low, high = held["auc_interval"]
        self._console.print(f"held-out AUC between {low:.3f} and {high:.3f} (95 %)")
        self._console.print(
            f"threshold {threshold['chosen']:.4f}, the analytic one is {threshold['analytic']:.4f}"
        )

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        self._console.print(sentence, soft_wrap=True)

    def written(self, bundle: Bundle, report: Path) -> None:
        """Say where the bundle and the report are, and how to serve it."""
        self._console.print(
            f"wrote {bundle.label} to {bundle.directory}, the report to {report}", soft_wrap=True
        )
        self._console.print(as_typed(f"serve it with: python -m ui --model {bundle.directory}"))


def figure_words(value: float | None) -> str:
    """A figure to four decimals; a rate of nobody is none."""
    return "none there" if value is None else f"{value:.4f}"


class _Bar:
    """A bar on a terminal; where there is none, a line for each tenth."""

    def __init__(self, progress: Progress, task: TaskID, console: Console | None, line: str) -> None:
        self._progress, self._task, self._console, self._line = progress, task, console, line
        self._total = int(progress.tasks[0].total or 1)
        self._tenths = 0

    def show(self, done: int, note: str = "") -> None:
        """So much is done."""
        self._progress.update(self._task, completed=done, note=note)
        tenths = done * 10 // self._total
        if self._console is not None and tenths > self._tenths:
            self._tenths = tenths
            self._console.print(self._line.format(done) + (f", {note}" if note else ""))
