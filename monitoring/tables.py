"""Tables of text that cut nothing: as wide as they are in a pipe or a file, in parts in a narrow terminal."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

#: Wider than any table, as nothing is padded to it.
_UNFOLDED = 100_000
#: Of a column of names: a date stays on one line. Words are read on lines of so many characters.
_LEAST, _LEAST_WORDS = 10, 24
_PADDING = 2


def standard_output() -> Console:
    """Where the commands print: as wide as the terminal, and without an end where there is none."""
    console = Console()
    if not console.is_terminal:
        console.width = _UNFOLDED
    return console


class FiguresTable(Table):
    """A name, figures and maybe words: a line folds in names and words, never within a figure.

    Where all figures do not fit beside each other, parts of them stand one below the other, each with
    the names.
    """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts = list(self._parts(options.max_width))
        if len(parts) == 1:
            yield from super().__rich_console__(console, options)
            return
        for place, columns in enumerate(parts):
            part = Table(box=None, title=None if place else self.title, title_justify="left")
            for column in columns:
                part.add_column(
                    column.header,
                    justify=column.justify,
                    overflow="fold",
                    no_wrap=column.no_wrap,
                    min_width=column.min_width,
                )
            for row in zip(*(column.cells for column in columns), strict=True):
                part.add_row(*row)
            yield part

    def _parts(self, width: int) -> Iterator[Sequence[Column]]:
        names, *others = self.columns
        name_width = max(_LEAST, min(_width(names), width // 2)) + _PADDING
        part, left = [names], width - name_width
        for column in others:
            needed = _width(column) if column.no_wrap else min(_width(column), _LEAST_WORDS)
            if needed + _PADDING > left and len(part) > 1:
                yield part
                part, left = [names], width - name_width
            part.append(column)
            left -= needed + _PADDING
        yield part


def _width(column: Column) -> int:
    return max(cell_len(Text.from_markup(str(cell)).plain) for cell in (column.header, *column.cells))


def table(first: str, *figures: str, words: str = "", title: str | None = None) -> Table:
    """A table of a name, figures, and a last column of words if there is one."""
    made = FiguresTable(box=None, title=title, title_justify="left")
    made.add_column(first, overflow="fold", min_width=_LEAST)
    for name in figures:
        made.add_column(name, justify="right", no_wrap=True)
    if words:
        made.add_column(words, overflow="fold")
    return made


def pairs() -> Table:
    """A table of names and values, without a head."""
    made = Table(box=None, show_header=False)
    for _ in range(2):
        made.add_column(overflow="fold")
    return made
