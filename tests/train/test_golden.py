import math

import pytest

from train.errors import TrainingRefused
from train.examples import find_examples
from train.golden import encode, golden_rows
from train.tables.features import SCHEMA

pytestmark = pytest.mark.whole


def test_golden_rows_are_enough_accepted_and_the_same_every_time() -> None:
    rows = golden_rows()
    assert len(rows) >= 200
    assert encode(rows).shape == (len(rows), len(SCHEMA))
    assert rows == golden_rows()


@pytest.mark.parametrize("name", SCHEMA.names)
def test_golden_rows_hold_every_way_to_write_a_feature(name: str) -> None:
    feature = SCHEMA[name]
    values = [row[name] for row in golden_rows() if name in row]
    if feature.kind == "category":
        assert set(feature.categories) <= set(values)
    elif feature.kind == "flag":
        assert {repr(value) for value in values} >= {"0", "1", "True", "False"}
    else:
        assert {feature.minimum, feature.maximum} <= set(values)
    assert (None in values) == feature.nullable
    assert any(name not in row for row in golden_rows()) == feature.nullable


def test_examples_are_decided_as_they_are_called() -> None:
    score = SCHEMA.names.index("EXT_SOURCE_2")
    examples = find_examples(lambda rows: 1 - rows[:, score], threshold=0.5)
    safe, borderline, risky = (example["row"]["EXT_SOURCE_2"] for example in examples)
    assert [example["name"] for example in examples] == ["safe", "borderline", "risky"]
    assert 1 - safe < 0.3 < 1 - borderline < 0.5 < 0.8 < 1 - risky
    assert 0.5 - (1 - borderline) < 0.01
    assert not any(math.isnan(value) for value in encode([e["row"] for e in examples])[:, :6].ravel())


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_a_threshold_that_decides_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(TrainingRefused, match="choose other costs with --fn-cost and --fp-cost"):
        find_examples(lambda rows: rows[:, 1], threshold)
