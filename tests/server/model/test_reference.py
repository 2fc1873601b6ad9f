import math
from bisect import bisect_left

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.model.distribution import Distribution, Reference
from server.model.reference import reference_of_rows
from server.model.schema import Feature, Schema

SCHEMA = Schema(
    [
        Feature("amount"),
        Feature("overdue"),
        Feature("kind", kind="category", categories=("a", "b", "c")),
        Feature("flag", kind="flag"),
        Feature("never"),
    ]
)


@pytest.fixture
def reference() -> Reference:
    rows = np.full((1000, 5), np.nan)
    rows[:900, 0] = np.arange(900)
    rows[:, 1] = 0.0
    rows[:15, 1] = np.arange(1, 16)
    rows[:, 2] = np.repeat([0, 1], 500)
    rows[:, 3] = np.tile([0, 0, 0, 1], 250)
    return reference_of_rows(SCHEMA, rows, np.linspace(0.0, 0.5, 1000))


def test_a_number_falls_into_ten_bins_of_equal_share(reference: Reference) -> None:
    amount = reference.features["amount"]
    assert amount.n == 1000
    assert amount.missing_rate == 0.1
    assert len(amount.edges) == 9
    assert sum(amount.shares) == pytest.approx(1)
    assert amount.shares == pytest.approx([0.1] * 10, abs=0.002)


def test_a_heap_of_zeros_has_a_bin_of_its_own(reference: Reference) -> None:
    overdue = reference.features["overdue"]
    assert overdue.edges == (0.0,)
    assert overdue.shares == (0.985, 0.015)


def test_categories_and_flags_have_a_bin_for_each_code_seen_or_not(reference: Reference) -> None:
    assert reference.features["kind"].shares == (0.5, 0.5, 0.0)
    assert reference.features["flag"].shares == (0.75, 0.25)
    assert [bisect_left(reference.features["kind"].edges, code) for code in (0.0, 1.0, 2.0)] == [0, 1, 2]


def test_a_feature_that_is_never_there_is_one_empty_bin(reference: Reference) -> None:
    assert reference.features["never"] == Distribution(1000, 1.0, (), (0.0,))


def test_a_constant_feature_is_one_full_bin() -> None:
    reference = reference_of_rows(Schema([Feature("x")]), np.ones((5, 1)), np.full(5, 0.5))
    assert reference.features["x"] == Distribution(5, 0.0, (), (1.0,))


def test_the_reference_survives_json(reference: Reference) -> None:
    assert Reference.from_dict(orjson.loads(orjson.dumps(reference.to_dict()))) == reference


@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=50),
    st.lists(st.floats(-20, 20) | st.just(math.nan), max_size=50),
)
def test_one_value_at_a_time_counts_as_all_at_once(trained: list[float], came: list[float]) -> None:
    distribution = reference_of_rows(
        Schema([Feature("x")]), np.array(trained)[:, np.newaxis], np.full(len(trained), 0.5)
    ).features["x"]
    counts = [0] * len(distribution.shares)
    for value in came:
        if not math.isnan(value):
            counts[bisect_left(distribution.edges, value)] += 1
    assert distribution.counts(np.array(came, dtype=np.float64)).tolist() == counts
    assert sum(distribution.shares) == pytest.approx(1)
