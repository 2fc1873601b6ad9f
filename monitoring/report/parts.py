"""Sections of pages that are a table and drawings."""

from collections.abc import Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """A section: its drawings, by name, and a table whose columns `numbers` are figures."""

    title: str
    note: str
    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int]
    plots: Sequence[tuple[str, str]] = ()
