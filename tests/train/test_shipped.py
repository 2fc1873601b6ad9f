"""The shipped model: the README is right about it, and what it says can be changed can."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from export.omissions import drawn
from server.errors import UnacceptableRow
from server.explain.explainer import Explainer
from server.explain.recourse import Recourse
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.bundles import CREDIT
from train.errors import TrainingRefused
from train.study.study import parameters_of, searched

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


def test_something_can_be_changed_or_nothing_can(predictor: Predictor) -> None:
    bundle = predictor.bundle
    recourse = Recourse(bundle, predictor, Explainer(bundle, predictor))
    assert [bundle.schema.names[i] for i in recourse.actionable] == [
        "BUREAU_AMT_CREDIT_SUM_OVERDUE_max", "AMT_CREDIT", "AMT_ANNUITY",
    ]  # fmt: skip
    helped = 0
    for row in drawn(bundle, None, 250, seed=1):
        found = recourse.find(np.ascontiguousarray(row).tobytes())
        for proposal in found.proposals:
            changed = row.copy()
            for move in proposal.moves:
                assert move.value < changed[move.place]
                changed[move.place] = move.value
            assert predictor.predict(changed.tobytes()) == (proposal.probability, 0)
        helped += bool(found.proposals)
    assert helped > 0


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
