"""The shipped model: nonsense is not accepted, nobody gains by leaving something out, the README is right."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from export.omissions import drawn, omissions
from server.errors import UnacceptableRow
from server.explain.explainer import Explainer
from server.explain.reasons import ReasonTexts
from server.explain.recourse import Recourse, recourse_response
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.schema import Matrix
from tests.support.bundles import CREDIT
from train.errors import TrainingRefused
from train.golden import synthetic_rows
from train.study.study import parameters_of, searched
from train.tables.features import MISSING, MONOTONE

TYPICAL: dict[str, Any] = {
    "EXT_SOURCE_1": 0.7, "EXT_SOURCE_2": 0.7, "EXT_SOURCE_3": 0.7,
    "NAME_EDUCATION_TYPE": "Higher education", "NAME_INCOME_TYPE": "Working",
    "FLAG_DOCUMENT_3": 0, "BUREAU_AMT_CREDIT_SUM_OVERDUE_max": 0,
    "AMT_INCOME_TOTAL": 150_000, "AMT_CREDIT": 400_000, "AMT_ANNUITY": 20_000,
    "AGE_YEARS": 50, "YEARS_EMPLOYED": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(Bundle.load(CREDIT))


def decided(predictor: Predictor, row: dict[str, Any]) -> tuple[str, list[str]]:
    """The decision on a row, and what spoke beside the score."""
    assert predictor.judge is not None
    verdict = predictor.judged(predictor.bundle.schema.encode(row))[1]
    return predictor.judge.decisions[predictor.judge.outcome(verdict)], predictor.judge.because(verdict)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({}, []),
        ({"AMT_INCOME_TOTAL": 1, "AGE_YEARS": 119}, ["repayment_above_income", "unusual"]),
        ({"AMT_CREDIT": 99_000_000}, ["unusual"]),
        ({"AGE_YEARS": 20, "YEARS_EMPLOYED": 60}, ["employed_as_a_child", "unusual"]),
        ({"AMT_ANNUITY": 9_999_999}, ["repayment_above_credit", "repayment_above_income", "unusual"]),
    ],
)
def test_nonsense_is_for_a_person(predictor: Predictor, change: dict[str, Any], because: list[str]) -> None:
    assert decided(predictor, TYPICAL | change) == ("refer" if because else "accept", because)


def test_three_inputs_are_not_enough(predictor: Predictor) -> None:
    nonsense = {"AMT_INCOME_TOTAL": 1, "AMT_CREDIT": 99_000_000, "AGE_YEARS": 119}
    plain = {"AMT_INCOME_TOTAL": 144_000, "AMT_CREDIT": 100_000, "AGE_YEARS": 60}
    for row in (nonsense, plain, dict.fromkeys(TYPICAL) | plain):
        decision, because = decided(predictor, row)
        assert (decision, because[0]) == ("incomplete", "needed")


def test_nobody_of_the_golden_rows_gains_by_leaving_something_out(predictor: Predictor) -> None:
    found = omissions(predictor.bundle, drawn(predictor.bundle, None, 250, seed=0))
    assert found.adverse > 50
    assert found.share <= 0.01


def test_absent_and_null_are_one_and_an_empty_text_is_none_of_a_numbers(predictor: Predictor) -> None:
    schema = predictor.bundle.schema
    for feature in schema.features:
        if not feature.nullable:
            continue
        absent = {name: value for name, value in TYPICAL.items() if name != feature.name}
        assert schema.encode(absent) == schema.encode(absent | {feature.name: None})
        with pytest.raises(UnacceptableRow):
            schema.encode(absent | {feature.name: ""})


def test_readmes_call_is_answered_as_it_says(predictor: Predictor) -> None:
    readme = Path("README.md").read_text()
    (sent, answered) = re.search(r"-d '(\{.*?\})'\n(\{.*?\})\n", readme, re.DOTALL).groups()  # type: ignore[union-attr]  # it is there
    answer = orjson.loads(answered)
    row = predictor.bundle.schema.encode(orjson.loads(sent))
    probability, outcome = predictor.predict(row)
    assert probability == answer["probability"]
    assert predictor.bundle.outcomes[outcome] == answer["decision"] == "accept"
    assert answer["model"] == predictor.bundle.label


def test_something_can_be_changed_or_it_is_said_that_nothing_can(predictor: Predictor) -> None:
    """Of 250 applicants who are not accepted; and where it is said, no smaller credit would do either."""
    bundle = predictor.bundle
    recourse, texts = Recourse(bundle, predictor, Explainer(bundle, predictor)), ReasonTexts(bundle)
    assert [bundle.schema.names[i] for i in recourse.actionable] == [
        "BUREAU_AMT_CREDIT_SUM_OVERDUE_max", "AMT_CREDIT", "AMT_ANNUITY",
    ]  # fmt: skip
    applicants = map(bundle.schema.encode, synthetic_rows(2000, seed=1))
    turned_down = [row for row in applicants if predictor.predict(row)[1]][:250]
    assert len(turned_down) == 250
    helped = 0
    for encoded in turned_down:
        found, row = recourse.find(encoded), np.frombuffer(encoded)
        for proposal in found.proposals:
            changed = row.copy()
            for move in proposal.moves:
                assert move.value < changed[move.place]
                changed[move.place] = move.value
            assert predictor.predict(changed.tobytes()) == (proposal.probability, 0)
        helped += bool(found.proposals)
        if not found.proposals:
            said = recourse_response(found, encoded, bundle, texts, "en")
            missing = ", ".join(texts.label(bundle.schema.names.index(name)) for name in said["missing"])
            words = f"More has to be known first: {missing}." if missing else _NOTHING
            assert said["text"] == words
            asked_less = less(bundle, row)
            scored = predictor.output_array(predictor.margins(asked_less))
            assert (predictor.outcomes(scored, asked_less) != 0).all()
    assert helped > 0


_NOTHING = "Nothing that can be changed leads to the decision “accept”."


def less(bundle: Bundle, row: Matrix) -> Matrix:
    """The row with all that an applicant can lower lowered at once, from a little to almost nothing."""
    shares = np.geomspace(0.02, 1.0, 6)
    places = [bundle.schema.names.index(name) for name in ("AMT_CREDIT", "AMT_ANNUITY")]
    rows = np.tile(row, (len(shares) ** 2, 1))
    for place, factors in zip(places, np.meshgrid(shares, shares), strict=True):
        rows[:, place] *= factors.ravel()
    overdue = bundle.schema.names.index("BUREAU_AMT_CREDIT_SUM_OVERDUE_max")
    rows[:, overdue] = np.minimum(rows[:, overdue], 0.0)
    return rows


def test_parameters_of_a_bundle_are_taken_instead_of_a_search(tmp_path: Path) -> None:
    tuned = Bundle.load(CREDIT).manifest["provenance"]["tuned"]
    taken = parameters_of(CREDIT)
    assert taken.parameters == tuned
    assert [type(value) for value in taken.parameters.values()] == [type(value) for value in tuned.values()]
    made_from = {"trials": taken.trials, "parameters_of": taken.taken_from}
    assert searched(made_from).startswith("the parameters of credit@")
    (tmp_path / "bundle.json").write_text('{"name": "m", "version": "1", "provenance": {}}')
    for other in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TrainingRefused, match="that tells its parameters"):
            parameters_of(other)


def test_figures_of_the_shipped_model_are_what_a_lender_was_promised(predictor: Predictor) -> None:
    evaluation = predictor.bundle.manifest["evaluation"]
    assert evaluation["out_of_fold"]["auc"] >= 0.760
    assert evaluation["held_out"]["auc"] >= 0.7423 - 0.005  # of version 2
    shown = predictor.bundle.read_json("parity.json")
    assert set(shown["missing"]) == set(MISSING)
    assert set(shown["monotone"]) == set(MONOTONE)
    assert all(of["against"] == 0 for kind in ("missing", "monotone") for of in shown[kind].values())
