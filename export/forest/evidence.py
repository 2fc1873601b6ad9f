"""What is known of a model's columns beside its file: a schema somebody wrote, and training data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def underscored(name: str) -> str:
    """A name as LightGBM writes it: a blank is `_`."""
    return name.replace(" ", "_")


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
