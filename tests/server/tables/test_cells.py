"""What a cell of a table means, beside what test_batch.py and test_calls.py show of whole files."""

import polars as pl
import pytest

from server.batch.columns import encode_table
from server.model.bounds import Bounds
from server.model.schema import Feature, Schema
from server.tables.cells import ONES_AND_TWOS

SCHEMA = Schema([Feature("owns", "flag"), Feature("age")])


@pytest.mark.parametrize("kind", [str, int, float])
@pytest.mark.parametrize(
    ("column", "bad"),
    [
        ([1, 2, 1, None], [True, True, True, False]),  # either could be true: none is guessed
        ([1, 2, 0, None], [False, True, False, False]),  # beside 0 a one is true, and 2 is nothing
        ([1, 1, None, 1], [False] * 4),
        ([2, 2, None, 2], [True, True, False, True]),
    ],
)
def test_flags_in_ones_and_twos_are_refused_both(
    kind: type, column: list[int | None], bad: list[bool]
) -> None:
    values = [None if value is None else kind(value) for value in column]
    table = pl.DataFrame({"owns": values, "age": [30.0] * 4})
    encoded = encode_table(table, SCHEMA, Bounds(SCHEMA), {"owns": 0, "age": 1})
    assert encoded.bad.tolist() == bad
    if bad[0] and column[0] == 1:
        assert encoded.details[0].detail == ONES_AND_TWOS
