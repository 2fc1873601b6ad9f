import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.evaluation.cost import Costs, cheapest, cost_curve, cost_per_client

TARGET = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
SCORES = np.array([0.1, 0.2, 0.6, 0.5, 0.9])


def test_a_missed_default_costs_ten_and_a_refused_good_client_one() -> None:
    thresholds = np.array([0.0, 0.3, 0.55, 1.0])
    costs = cost_per_client(TARGET, SCORES, thresholds, Costs())
    assert costs.tolist() == pytest.approx([3 / 5, 1 / 5, 11 / 5, 20 / 5])


def test_a_score_on_the_threshold_is_refused() -> None:
    assert cost_per_client(TARGET, SCORES, np.array([0.5]), Costs()).tolist() == [1 / 5]
    above = np.array([np.nextafter(0.5, 1)])
    assert cost_per_client(TARGET, SCORES, above, Costs()).tolist() == [11 / 5]


def test_the_analytic_threshold_follows_from_the_costs() -> None:
    assert Costs().analytic_threshold == pytest.approx(1 / 11)
    assert Costs(missed_default=1, refused_good=3).analytic_threshold == 0.75


def test_calibrated_scores_have_their_cheapest_threshold_at_the_analytic_one() -> None:
    random = np.random.default_rng(0)
    scores = random.beta(1, 8, 200_000)
    target = (random.random(200_000) < scores).astype(float)
    threshold, cost = cheapest(target, scores[np.newaxis], Costs())
    assert threshold == pytest.approx(1 / 11, abs=0.01)
    assert cost < cost_per_client(target, scores, np.array([0.05, 0.15]), Costs()).min()


def test_dearer_defaults_refuse_more() -> None:
    scores = np.array([SCORES])
    cautious, _ = cheapest(TARGET, scores, Costs(missed_default=100))
    bold, _ = cheapest(TARGET, scores, Costs(missed_default=0.1))
    assert cautious <= 0.5 < 0.6 < bold


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.01, 0.99)), min_size=1, max_size=30),
    st.floats(0, 1),
)
def test_the_sum_over_sorted_scores_is_the_sum_over_clients(rows: list[tuple[bool, float]], t: float) -> None:
    one_by_one = sum(10 * (bad and score < t) + (not bad and score >= t) for bad, score in rows)
    target, scores = np.array([[float(bad), score] for bad, score in rows]).T
    assert cost_per_client(target, scores, np.array([t]), Costs())[0] == pytest.approx(one_by_one / len(rows))


def test_the_cost_curve_runs_from_refusing_all_to_accepting_all() -> None:
    curve = cost_curve(TARGET, SCORES, Costs(), points=20)
    assert curve[0] == {"threshold": 0.0, "cost": 0.6}
    assert curve[-1] == {"threshold": 1.0, "cost": 4.0}
