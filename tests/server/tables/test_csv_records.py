"""Where records of CSV lie: those that programs write are found in fewer steps, at the same places."""

import random

import numpy as np
import pytest

from server.tables.csv_records import find_records


def rectangle(source: random.Random, rows: int, width: int) -> bytes:
    cells = ["", "1", "-2.5", "é", "a b", "x" * 40]
    lines = [";".join(source.choice(cells) for _ in range(width)) or "1" for _ in range(rows)]
    return "".join(line + "\n" for line in lines).encode()


@pytest.mark.parametrize("width", [1, 2, 14])
def test_records_of_equal_width_lie_where_any_others_do(width: int) -> None:
    for seed in range(20):
        text = rectangle(random.Random(seed), 1 + seed, width)
        found, other = find_records(text, b";"), find_records(text[:-1], b";")  # no LF at the end: any other
        for name in ("starts", "ends", "lines", "cells"):
            assert np.array_equal(getattr(found, name), getattr(other, name)), name
        assert (found.quoted, found.plain) == (other.quoted, other.plain) == (False, True)


@pytest.mark.parametrize(
    ("text", "cells", "plain"),
    [
        (b"1;2\n3;4;5\n6\n", [2, 3, 1], True),  # as many marks as a rectangle's
        (b"1;2\n\n3;4\n", [2, 2], False),
        (b"\n", [], False),
        (b"1;2\r\n3;4\r\n", [2, 2], False),
        (b'1;"\n"\n3;4\n', [2, 2], False),
    ],
)
def test_other_records_are_told_apart(text: bytes, cells: list[int], plain: bool) -> None:
    found = find_records(text, b";")
    assert found.cells.tolist() == cells
    assert found.plain == plain
