"""Which column of a file holds which feature: by name, by label, or as the user says."""

import difflib
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from server.errors import TableRefused, listed, shown
from server.model.bundle import Bundle
from server.model.schema import Schema
from server.tables.cells import number

#: Columns of a request's table beside the model's: to find out what a name means takes some
#: microseconds, and a header of 1 MiB has 500,000 names. Files may have any number.
MAX_OTHER_COLUMNS = 1000


class Columns(NamedTuple):
    """The position of each feature's column by feature, the features without one, and what was renamed.

    `renamed` are pairs of a name of the file and the feature it was taken for.
    """

    positions: dict[str, int]
    absent: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]


class FeatureNames:
    """The feature that a name means: its own, its label, or one that differs by case and outer blanks alone.

    A label or case that two features share means none of them. `renames`, from the names of a
    file to features, go before all.
    """

    def __init__(self, schema: Schema, renames: Mapping[str, str] | None = None) -> None:
        self._schema, self._renames = schema, dict(renames or {})
        self._exact = {name: name for name in schema.names}
        self._labels = _unique((f.label, f.name) for f in schema.features if f.label)
        self._folded = _unique((_folded(name), name) for name in schema.names)

    @property
    def most(self) -> int:
        """The columns of a request's table: all that mean something, twice, and others beside them."""
        return 2 * (len(self._schema) + len(self._schema.ignored)) + MAX_OTHER_COLUMNS

    def __call__(self, name: str) -> str | None:
        """The feature of a name, None if it means none."""
        for names, key in ((self._renames, name), (self._exact, name), (self._labels, name)):
            if key in names:
                return names[key]
        return self._folded.get(_folded(name))

    def match(self, names: Sequence[str], where: str) -> Columns:
        """The columns of a table; raises `TableRefused` if it has none of the model, or one twice."""
        positions = self._positions(names, where)
        absent = tuple(name for name in self._schema.names if name not in positions)
        self._refuse_near_names(names, positions, absent, where)
        if not positions:
            raise _no_features(names, self._schema.names, where)
        renamed = tuple((names[i], name) for name, i in positions.items() if names[i] != name)
        return Columns(positions, absent, renamed)

    def _positions(self, names: Sequence[str], where: str) -> dict[str, int]:
        self._check_renames(names, where)
        positions: dict[str, int] = {}
        surely = {name for name in names if name in self._renames or name in self._exact}
        taken = {self(name) for name in surely}
        for i, name in enumerate(names):
            feature = self(name)
            if feature is None or (name not in surely and feature in taken):
                continue  # carried along, such as a label beside the feature of its own name
            if feature in positions:
                both = f"{shown(names[positions[feature]])} and {shown(name)}"
                raise TableRefused(
                    f"expected one column for {feature} in {where}, got {both}: remove or rename one of them"
                )
            positions[feature] = i
        return positions

    def _check_renames(self, names: Sequence[str], where: str) -> None:
        for theirs, feature in self._renames.items():
            if theirs not in names:
                raise TableRefused(f"expected a column {theirs!r} in {where}, got {listed(names)}")
            if feature not in self._exact:
                near = difflib.get_close_matches(feature, self._schema.names, 1, 0.6)
                said = f"; did you mean {near[0]}?" if near else f", which are {listed(self._schema.names)}"
                raise TableRefused(f"expected a feature of the model for {theirs!r}, got {feature!r}{said}")

    def _refuse_near_names(
        self, names: Sequence[str], positions: Mapping[str, int], absent: Collection[str], where: str
    ) -> None:
        """A column that is a feature's but for blanks and dashes: as it is, no row would have the value."""
        used = set(positions.values())
        others = {_letters(name): name for i, name in enumerate(names) if i not in used and _letters(name)}
        near = [(others[_letters(name)], name) for name in absent if _letters(name) in others]
        if near:
            option = ",".join(f"{theirs}={ours}" for theirs, ours in near)
            raise TableRefused(
                f"expected the column {near[0][1]} in {where}, got {shown(near[0][0])}: rename it",
                f", or say --columns {shlex.quote(option)}" if option.isprintable() else "",
            )


def refuse_absent(
    columns: Columns, names: Sequence[str], schema: Schema, gaps: Collection[str], where: str
) -> None:
    """Raise `TableRefused` if a feature has no column and may not be without.

    `gaps` are the features that may be missing in every row.
    """
    needed = [name for name in columns.absent if not schema[name].nullable]
    unsure = [name for name in columns.absent if name not in gaps and name not in needed]
    if not needed and not unsure:
        return
    absent = needed or unsure
    words = f"the column{'s' if len(absent) > 1 else ''} {listed(absent)} in {where}"
    used = set(columns.positions.values())
    close = difflib.get_close_matches(absent[0], [n for i, n in enumerate(names) if i not in used], 1, 0.6)
    if close:
        option = shlex.quote(f"{close[0]}={absent[0]}")
        got = f"{shown(close[0])}: rename it, or say --columns {option}"
    else:
        got = "a table without" + ("" if unsure and not needed else ": no row of it could be scored")
    also = "" if needed else "; if every row is without, say --allow-missing"
    raise TableRefused(f"expected {words}, got {got}{also}")


def _no_features(names: Sequence[str], features: Sequence[str], where: str) -> TableRefused:
    if any(name == "" or not isinstance(number(name), str) for name in names if name) and len(names) > 1:
        return TableRefused(
            f"expected {where} to begin with the names of its columns, got a line of values: "
            "add a line with their names",
            f", or say --columns {','.join(features[:3])},…",
        )
    only = _letters(names[0]) if len(names) == 1 else ""
    if sum(_letters(name) in only for name in features if only) > 1:
        return TableRefused(
            f"expected columns of the model ({listed(features)}) in {where}, got them all in one: "
            "separate them by , ; | or tab",
            ", or say by what they are with --separator",
        )
    return TableRefused(
        f"expected columns of the model ({listed(features)}) in {where}, got "
        f"{listed(names) or 'no column'}: none of them is one: rename them",
        ", or say which is which with --columns theirs=ours,…",
    )


def output_columns(bundle: Bundle, reasons: int = 0) -> list[str]:
    """The names of the columns that are added to the input's, with one of reasons if there are to be some."""
    more = ["reasons"] if reasons else []
    if bundle.task != "binary":
        return [*(f"probability_{name}" for name in bundle.classes), "prediction", *more]
    policy = ["because", "by_score"] if bundle.policy is not None else []
    return ["probability", "decision", *policy, *more]


def prefix_for(added: Iterable[str], names: Collection[str], prefix: str | None) -> str:
    """What stands before the names of added columns so that none is one of the file's.

    `hotrow_` is taken if it is needed, and more of it if that is needed; raises
    `TableRefused` if the user's own does not do.
    """
    added = list(added)
    if prefix is not None:
        clash = [prefix + name for name in added if prefix + name in names]
        if clash:
            raise TableRefused(
                f"expected no column {clash[0]} beside --prefix {prefix}, got one: say another"
            )
        return prefix
    found = ""
    while any(found + name in names for name in added):
        found += "hotrow_"
    return found


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    doubled: set[str] = set()
    for key, name in pairs:
        if key in found:
            doubled.add(key)
        found[key] = name
    return {key: name for key, name in found.items() if key not in doubled}


def _folded(name: str) -> str:
    return name.strip().casefold()


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
