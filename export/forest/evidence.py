"""What is known of a model's columns beside its file: a schema somebody wrote, and training data."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from server.tables.unique_names import unique_names

#: LightGBM writes `_` for a blank, parts lines by breaks, and refuses the others, as JSON has them.
_UNNAMEABLE = re.compile(r'[\s,:\[\]{}"]')


def underscored(name: str) -> str:
    """A name as LightGBM's text has it: a blank, or what it takes in no name, is `_`."""
    return _UNNAMEABLE.sub("_", name)


def lightgbm_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names that LightGBM takes, each once: `_` for what it does not, then a number where two are alike."""
    return unique_names([underscored(name) for name in names])


def _no_data(_: str) -> frozenset[str] | None:
    return None


@dataclass(frozen=True)
class Evidence:
    """Columns by name: the kind and the categories a schema says, the distinct values data shows.

    `values` gives the values of a column as texts, missing ones left out, and None of a
    column it has no data of.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    values: Callable[[str], frozenset[str] | None] = _no_data
