import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from export.evaluation.by_limit import LEAST_LIMITS, LIMITS, counts_by_limit
from export.evaluation.cost import Costs
from export.evaluation.evaluate import auc_interval, calibration, decisions, evaluate, one_decision
from train.study.groups import by_group
from train.tables.features import INPUTS, SCHEMA
from train.tables.rows import Rows

RANDOM = np.random.default_rng(5)
SCORES = RANDOM.beta(1, 8, 4000)
TARGET = (RANDOM.random(4000) < SCORES).astype(float)


def test_figures_agree_with_each_other() -> None:
    figures = evaluate(TARGET, SCORES, 0.1, Costs())
    confusion = figures["confusion"]
    assert sum(confusion.values()) == figures["rows"] == 4000
    assert confusion["true_positive"] + confusion["false_negative"] == figures["defaults"]
    assert figures["gini"] == pytest.approx(2 * figures["auc"] - 1, abs=1e-5)
    roc = figures["curves"]["roc"]
    widest = max(point["true_positive_rate"] - point["false_positive_rate"] for point in roc)
    assert widest == pytest.approx(figures["ks"], abs=0.02)
    missed = confusion["false_negative"] * 10 + confusion["false_positive"]
    assert figures["cost"]["model"] == pytest.approx(missed / 4000, abs=1e-6)
    assert figures["cost"]["accept_all"] == pytest.approx(10 * TARGET.mean(), abs=1e-6)
    assert figures["cost"]["refuse_all"] == pytest.approx(1 - TARGET.mean(), abs=1e-6)


def test_true_probabilities_are_calibrated_and_halved_ones_are_not() -> None:
    good = calibration(TARGET, SCORES)
    assert good["slope"] == pytest.approx(1, abs=0.1)
    assert good["intercept"] == pytest.approx(0, abs=0.2)
    assert len(good["bins"]) == 10
    squeezed = 1 / (1 + np.sqrt((1 - SCORES) / SCORES))
    assert calibration(TARGET, squeezed)["slope"] == pytest.approx(2, abs=0.2)


def test_the_auc_interval_is_that_of_a_bootstrap() -> None:
    target, scores = TARGET[:600], SCORES[:600]
    draws = (RANDOM.integers(0, 600, 600) for _ in range(400))
    areas = [roc_auc_score(target[draw], scores[draw]) for draw in draws]
    low, high = auc_interval(target, scores)
    assert (low + high) / 2 == pytest.approx(roc_auc_score(target, scores))
    assert high - low == pytest.approx(np.quantile(areas, 0.975) - np.quantile(areas, 0.025), rel=0.15)


def test_a_rate_of_nobody_is_none() -> None:
    rates = decisions(np.zeros(3), np.array([0.1, 0.2, 0.3]), 0.25)
    assert rates["false_negative_rate"] is None
    assert rates["false_positive_rate"] == pytest.approx(1 / 3)


def test_a_threshold_that_decides_the_same_of_all_is_told() -> None:
    target, scores = np.array([0.0, 1.0] * 20), np.linspace(0.2, 0.6, 40)
    for threshold, word in ((0.1, "refuse"), (0.7, "accept"), (0.4, None)):
        figures = evaluate(target, scores, threshold, Costs())
        said = one_decision(figures, "accept", "refuse", "rows")
        assert said.startswith(f"Every one of the 40 rows is decided {word}: ") if word else said == ""


def test_groups_cover_every_client_once_and_leave_empty_groups_out() -> None:
    features = np.full((4000, len(SCHEMA)), np.nan)
    age = SCHEMA.names.index("AGE_YEARS")
    watched = {"CODE_GENDER": RANDOM.choice(["Male", "Female"], 4000)}
    features[:, age] = RANDOM.uniform(20, 69, 4000)
    features[0, age], features[1, age] = 40.0, np.nan
    groups = by_group(Rows(features, TARGET, np.ones(4000, dtype=bool), INPUTS, watched), SCORES, 0.1)
    assert list(groups["gender"]) == ["Male", "Female"]
    assert list(groups["age"]) == [
        "under 30",
        "30 to under 40",
        "40 to under 50",
        "50 to under 60",
        "60 and over",
        "missing",
    ]
    for kind in groups.values():
        assert sum(group["rows"] for group in kind.values()) == 4000
        assert sum(group["defaults"] for group in kind.values()) == TARGET.sum()


def test_counts_by_limit_are_those_of_the_decisions_at_each_limit() -> None:
    young = RANDOM.random(4000) < 0.3
    parts = {"young": young, "old": ~young, "missing": np.zeros(4000, dtype=bool)}
    told = counts_by_limit(TARGET, SCORES, {"age": parts}, 0.12345)
    assert list(told["groups"]["age"]) == ["young", "old"]
    assert told["limits"] == sorted(told["limits"])
    assert 0.12345 in told["limits"]
    for label, part in told["groups"]["age"].items():
        target, scores = TARGET[parts[label]], SCORES[parts[label]]
        assert (part["rows"], part["defaults"]) == (len(target), target.sum())
        for i, limit in enumerate(told["limits"]):
            confusion = decisions(target, scores, limit)["confusion"]
            for count in ("false_positive", "true_positive"):
                assert part[count][i] == confusion[count]


@pytest.mark.parametrize(("parts", "count"), [(2, LIMITS), (500, 10), (3000, LEAST_LIMITS)])
def test_counts_by_limit_stay_few_however_many_groups_there_are(parts: int, count: int) -> None:
    masks = {str(i): np.arange(4000) % parts == i for i in range(parts)}
    told = counts_by_limit(TARGET, SCORES, {"branch": masks}, 0.1)
    assert len(told["limits"]) <= count + 1  # the threshold is one of them or comes beside
    assert len(told["groups"]["branch"]) == parts
