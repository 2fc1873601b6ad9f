"""What the commands print: sentences of any length, tables, and whether a target was met."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest.report import machine

#: Sentences are left whole: a terminal breaks them, and what reads a pipe finds them in a line.
console = Console(soft_wrap=True)


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Names at the left, figures behind them."""
    table = Table(title=title or None, title_justify="left")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table, soft_wrap=False)


def print_target(what: str, value: float, at_most: float, *, digits: int = 3, unit: str = "") -> None:
    """A figure beside what is promised of it."""
    verdict = "met" if value <= at_most else "MISSED"
    console.print(f"{what}: {value:.{digits}f}{unit}, target at most {at_most:.{digits}f}{unit}: {verdict}.")


def print_machine(environment: Mapping[str, Any] | None = None) -> None:
    """Where it was measured: here and now, unless an environment is given."""
    console.print(machine.sentence(environment or machine.environment()), style="dim")
