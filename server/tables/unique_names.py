"""Names that a format with named columns can hold."""

from collections.abc import Sequence


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once: a format with named columns cannot hold one twice, or one without a name."""
    taken, found = set(names), []
    seen: set[str] = set()
    for i, name in enumerate(names, start=1):
        new = name if name and name not in seen else f"{name or 'column'}_{i}"
        while new in seen or (new != name and new in taken):
            new += "_"
        seen.add(new)
        found.append(new)
    return tuple(found)
