"""What an outcome says of a model: that what the score is the probability of came, a value, or a class."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from server.model.bundle import Bundle
from server.model.schema import Feature
from server.tables.cells import PLAIN, CellRules, cell_reader

Value: TypeAlias = int | float | str | None
#: From what was written to what it says, None for "not known"; raises `ValueError` with what was expected.
ReadValue: TypeAlias = Callable[[Any], Value]


def value_reader(bundle: Bundle, rules: CellRules = PLAIN) -> ReadValue:
    """How outcomes of a bundle are read: 0 or 1, a number, or one of its classes."""
    if bundle.task == "multiclass":
        return _class_reader(bundle.classes)
    is_flag = bundle.task == "binary"
    feature = Feature("outcome", kind="flag" if is_flag else "number")
    read_cell = cell_reader(feature, PLAIN if is_flag else rules)
    expected = "0 or 1 (or yes, no)" if is_flag else "a number"

    def read(given: Any) -> Value:
        value = read_cell(given.replace(",", ".") if is_flag else given) if type(given) is str else given
        if value is None:
            return None
        if is_flag and type(value) in (bool, int, float) and value in (0, 1):
            return int(value)
        if not is_flag and type(value) in (int, float) and math.isfinite(value):
            return float(value)
        raise ValueError(expected)

    return read


def reader_of_any(bundles: Sequence[Bundle]) -> ReadValue:
    """How outcomes are read where they may be of any of these: as the first says that takes it."""
    readers = [value_reader(bundle) for bundle in bundles]

    def read(given: Any) -> Value:
        expected: list[str] = []
        for one in readers:
            try:
                return one(given)
            except ValueError as error:
                expected.append(str(error))
        raise ValueError(", or ".join(dict.fromkeys(expected)))

    return read


def _class_reader(classes: Sequence[str]) -> ReadValue:
    words = {name: name for name in classes}
    read_cell = cell_reader(Feature("outcome", kind="category", categories=tuple(classes)))

    def read(given: Any) -> Value:
        if given is None:
            return None
        text = read_cell(given) if type(given) is str else str(given) if type(given) is int else ""
        if text is None:
            return None
        if text not in words:
            raise ValueError("a class of the model")
        return words[text]

    return read
