"""Tables of text that cut nothing: folded in a terminal, as wide as they are in a pipe or a file."""

from rich.console import Console
from rich.table import Table

#: Wider than any table, as nothing is padded to it.
_UNFOLDED = 100_000
#: Of a column of names: a date stays on one line.
_LEAST = 10


def standard_output() -> Console:
    """Where the commands print: as wide as the terminal, and without an end where there is none."""
    console = Console()
    if not console.is_terminal:
        console.width = _UNFOLDED
    return console


def table(first: str, *figures: str, words: str = "", title: str | None = None) -> Table:
    """A table of a name, figures, and a last column of words if there is one."""
    made = Table(box=None, title=title, title_justify="left")
    made.add_column(first, overflow="fold", min_width=_LEAST)
    for name in figures:
        made.add_column(name, justify="right", overflow="fold")
    if words:
        made.add_column(words, overflow="fold")
    return made


def pairs() -> Table:
    """A table of names and values, without a head."""
    made = Table(box=None, show_header=False)
    for _ in range(2):
        made.add_column(overflow="fold")
    return made
