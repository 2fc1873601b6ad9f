"""Hypothesis searches for rows on which the served graph and the library disagree by a bit."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.forest.conversion import Conversion
from export.forest.extremes import ZERO_BAND
from export.forest.graph import build_graph
from export.forest.trees import Forest, Split, Tree
from export.lightgbm.model import convert_lightgbm
from export.sklearn.model import convert_sklearn
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.export_models import (
    WIDTH,
    export,
    rows,
    target,
    train_lightgbm,
    train_xgboost,
    xgboost_conversion,
)

pytestmark = pytest.mark.whole

CATEGORICAL = {"min_data_per_group": 1, "cat_smooth": 1, "max_cat_to_onehot": 2}


def _forest() -> Conversion:
    from sklearn.ensemble import RandomForestClassifier

    matrix = rows(800)
    estimator = RandomForestClassifier(30, max_depth=6, random_state=0).fit(matrix, target(matrix))
    return convert_sklearn(estimator, "source.skops", b"")


MAKERS: dict[str, Callable[[], Conversion]] = {
    "lightgbm": lambda: convert_lightgbm(train_lightgbm({"objective": "binary"}, "binary", 100)),
    "zero is missing": lambda: convert_lightgbm(
        train_lightgbm({"objective": "binary", "zero_as_missing": True}, "binary", 100)
    ),
    "categorical": lambda: convert_lightgbm(
        train_lightgbm({"objective": "binary"} | CATEGORICAL, "binary", 60, categorical_feature=[3, 4])
    ),
    "classes": lambda: convert_lightgbm(
        train_lightgbm({"objective": "multiclass", "num_class": 3}, "classes", 30)
    ),
    "xgboost": lambda: xgboost_conversion(train_xgboost({"objective": "binary:logistic"}, "binary", 100)),
    "scikit-learn": _forest,
}


@pytest.fixture(scope="module", params=MAKERS)
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Conversion, Bundle, Predictor]:
    conversion = MAKERS[request.param]()
    bundle = export(tmp_path_factory.mktemp("pair"), conversion)
    return conversion, bundle, Predictor(bundle)


@settings(max_examples=60)
@given(data=st.data())
def test_no_row_differs_by_a_bit(data: st.DataObject, pair: tuple[Conversion, Bundle, Predictor]) -> None:
    """NaN, infinities, denormals, and values on, below and above thresholds."""
    conversion, _, predictor = pair
    row = np.array([[data.draw(_value(conversion, i)) for i in range(WIDTH)]])
    expected = np.asarray(conversion.source.margins(row)).reshape(-1).tolist()
    assert predictor.row_margins(row.tobytes()) == expected
    assert predictor.margins(row).reshape(-1).tolist() == expected
    predictions = np.asarray(conversion.source.outputs(row)).reshape(-1)
    ours = np.array(predictor.outputs(predictor.margins(row))).reshape(-1)
    assert np.abs(ours - predictions).max() <= conversion.output_bound


def _value(conversion: Conversion, feature: int) -> st.SearchStrategy[float]:
    assert conversion.forest is not None
    if feature in conversion.codes:
        return st.one_of(st.just(math.nan), st.integers(-3, 120).map(float), st.just(2.0**31 - 1))
    forest = conversion.forest
    thresholds = [t for t in forest.thresholds()[feature] if math.isfinite(t)] or [0.0]
    on = st.sampled_from(thresholds)
    narrow = conversion.precision == "float32"
    anything = st.floats(width=32, allow_infinity=False) if narrow else st.floats()
    band = st.sampled_from([0.0, -0.0, ZERO_BAND, -ZERO_BAND, 1e-36, 5e-324])
    beside = st.builds(lambda t, up: forest.next(t, math.inf if up else -math.inf), on, st.booleans())
    return st.one_of(anything, on, beside, band)


codes = st.sets(st.integers(0, 140), min_size=1, max_size=20).map(lambda found: tuple(sorted(found)))


@settings(max_examples=60)
@given(sets=st.lists(codes, min_size=1, max_size=6), data=st.data())
def test_membership_of_the_operator_is_membership(sets: list[tuple[int, ...]], data: st.DataObject) -> None:
    """Pitfalls 6 and 9: `BRANCH_MEMBER` on the pinned ONNX Runtime, beside numeric splits.

    For integers: 2.7 is 2 for it in some sets and no member in others, so the
    schema demands integers there.
    """
    trees = tuple(
        Tree(
            (
                Split(0, 0.0, False, "nan", 1, -3, members),
                Split(1, 0.5, True, "nan", -1, -2),
            ),
            (1.0 * 3**i, 2.0 * 3**i, 0.0),
        )
        for i, members in enumerate(sets)
    )
    session = onnxruntime.InferenceSession(build_graph(Forest(trees, 2), {}))
    near = st.sampled_from([code for members in sets for code in members]).map(float)
    value = st.one_of(
        near, st.integers(-5, 200).map(float), st.sampled_from([math.nan, -1.0, 2.0**31, 1e300, -1e300])
    )
    code, other = data.draw(value), data.draw(st.sampled_from([0.0, 1.0, math.nan]))
    expected = sum((2.0 if other == 1.0 else 1.0) * 3**i for i, members in enumerate(sets) if code in members)
    (margin,) = session.run(None, {"features": np.array([[code, other]])})
    assert margin[0, 0] == expected


few_codes = st.sets(st.integers(0, 9), min_size=1, max_size=3).map(lambda found: tuple(sorted(found)))
links = st.tuples(few_codes, st.booleans(), st.integers(0, 1), st.sampled_from([0, 0, 0, 1]))


@settings(max_examples=200)
@given(chain=st.lists(links, min_size=1, max_size=6), last=st.integers(0, 1))
def test_sets_one_after_another_are_answered_one_by_one(
    chain: list[tuple[tuple[int, ...], bool, int, int]], last: int
) -> None:
    """ONNX Runtime makes one set of those that lead to equal leaves: missing values go their own ways."""
    splits = tuple(
        Split(feature, 0.0, missing_left, "nan", ~i, i + 1 if i + 1 < len(chain) else ~len(chain), members)
        for i, (members, missing_left, _, feature) in enumerate(chain)
    )
    leaves = (*(float(value) for *_, value, _ in chain), float(last))
    session = onnxruntime.InferenceSession(build_graph(Forest((Tree(splits, leaves),), 2), {}))
    for code in (math.nan, *map(float, range(11))):
        for other in (math.nan, 3.0):
            row = (code, other)
            expected = next(
                (
                    leaves[i]
                    for i, split in enumerate(splits)
                    if (split.default_left if math.isnan(x := row[split.feature]) else x in split.members)
                ),
                leaves[-1],
            )
            (margin,) = session.run(None, {"features": np.array([row])})
            assert margin[0, 0] == expected, row
