"""The rows of a parity report: their number is bounded whatever the model's size."""

import numpy as np
import pytest

from export.forest.rows import MAX_ALONE, MAX_SPLITS, MAX_VALUES, RowMaker
from export.forest.trees import Forest, Split, Tree
from server.model.schema import Feature, Inferred, Kind, Schema


def numbers(width: int) -> Schema:
    return Schema(Feature(f"f{i}", inferred=Inferred(minimum=0.0, maximum=1.0)) for i in range(width))


def stumps(count: int, width: int) -> Forest:
    """Trees of one split each, on the first columns in turn."""
    return Forest(
        tuple(Tree((Split(i % width, 0.5, True, "nan", ~0, ~1),), (0.0, 1.0)) for i in range(count)), width
    )


def test_a_column_alone_changes_one_column_of_a_row() -> None:
    maker = RowMaker(stumps(3, 3), numbers(3))
    _, *alone = maker.extreme()
    assert len(alone) == 3
    for i, block in enumerate(alone):
        others = [c for c in range(3) if c != i]
        assert len(np.unique(block[:, i])) > 10
        assert all(len(np.unique(block[:, c])) == 1 for c in others)


def test_wide_models_draw_no_more_values_than_narrow_ones() -> None:
    maker = RowMaker(None, numbers(6000), knots=[(0.25, 0.5)] * 6000)
    assert maker.ordinary_rows(100_000) * 6000 <= MAX_VALUES
    assert maker.coverage["columns_tried_alone"] < MAX_ALONE
    blocks = list(maker.missing())
    assert sum(map(len, blocks)) == 2 + 2 * maker.coverage["columns_tried_alone"]
    assert max(block.size for block in blocks) <= 4_000_000


def test_columns_without_a_split_stay_at_zero_and_are_left_out_of_wide_objects() -> None:
    maker = RowMaker(stumps(10, 10), numbers(10))
    assert maker.ordinary(50).any(axis=0).all()
    wide = RowMaker(Forest(stumps(10, 10).trees, 2000), numbers(2000))
    assert not wide.ordinary(5)[:, 10:].any()
    assert len(wide.sent(3)[0]) <= 10


@pytest.mark.parametrize(("splits", "tried"), [(50, 50), (MAX_SPLITS + 500, MAX_SPLITS)])
def test_of_very_many_splits_some_are_drawn_by_lot(splits: int, tried: int) -> None:
    maker = RowMaker(stumps(splits, 5), numbers(5))
    assert maker.coverage["splits_tried"] == tried
    assert sum(map(len, maker.boundary())) == 3 * tried


def test_splits_at_the_ends_of_what_a_double_holds_are_drawn_without_a_warning() -> None:
    """As after `nan_to_num`, which makes infinities of the largest numbers."""
    largest = float(np.finfo(np.float64).max)
    maker = RowMaker(None, Schema([Feature("a")]), knots=[(-largest, largest)])
    assert not np.isinf(maker.ordinary(50)).any()
    assert np.isfinite(np.concatenate(list(maker.extreme()))).sum() > 10


def test_rows_as_clients_send_them_stay_within_what_training_saw() -> None:
    """They become golden rows, an example and a template: no months of -0.2, no flag of 1.04."""
    kinds: list[Kind] = ["flag", "integer", "number", "number"]
    ends = [(0.0, 1.0), (0.0, 60.0), (0.0, 5.5), (None, None)]
    schema = Schema(
        Feature(f"f{i}", inferred=Inferred(kind, *end))
        for i, (kind, end) in enumerate(zip(kinds, ends, strict=True))
    )
    knots = [(0.5,), (10.5, 59.5), (1e-9, 5.4), (0.5,)]
    rows = RowMaker(None, schema, knots=knots).sent(300)
    for i, (kind, (low, high)) in enumerate(zip(kinds, ends, strict=True)):
        values = [float(row[f"f{i}"]) for row in rows if row.get(f"f{i}") is not None]
        assert len(set(values)) > 1
        assert kind == "number" or all(value.is_integer() for value in values)
        assert low is None or high is None or (low <= min(values) and max(values) <= high)
        assert "-0.0" not in map(str, values)
