"""Reasons as steps, and the change that turns a decision, against what the model itself says."""

import asyncio
import math
from collections.abc import Iterator
from itertools import islice, pairwise

import numpy as np
import pytest

from server.explain.importance import importance, ranked, reference_rows
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.schema import Feature, Schema
from tests.support.bundles import CREDIT, sample_rows
from ui.cases.flip import Flips
from ui.cases.grids import Grids
from ui.cases.steady import ERROR, Steadiness
from ui.drawing.waterfall import MAX_STEPS, Step, causes, steps
from ui.words.labels import Labels


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(Bundle.load(CREDIT))


def shown(schema: Schema, row: bytes, terms: list[float], base: float) -> list[Step]:
    return steps(causes(schema, Labels(), row, terms), base, lambda margin: 1 / (1 + math.exp(-margin)))


def cases(predictor: Predictor) -> Iterator[tuple[bytes, list[float]]]:
    """Rows and terms, some of them zero, that need not be a model's."""
    random = np.random.default_rng(4)
    schema = predictor.bundle.schema
    for row in sample_rows(schema, 200, seed=4):
        terms = np.where(random.random(len(schema)) < 0.2, 0.0, random.normal(size=len(schema)))
        yield schema.encode(row), terms.tolist()


def test_steps_lead_from_the_start_to_the_answer(predictor: Predictor) -> None:
    for row, terms in cases(predictor):
        found = shown(predictor.bundle.schema, row, terms, -2.0)
        assert found[0].before == pytest.approx(1 / (1 + math.exp(2.0)))
        assert found[-1].after == pytest.approx(1 / (1 + math.exp(2.0 - sum(terms))))
        assert all(a.after == b.before for a, b in pairwise(found))


def test_steps_tell_every_input_that_counts_once_and_no_other(predictor: Predictor) -> None:
    schema = predictor.bundle.schema
    for row, terms in cases(predictor):
        found = shown(schema, row, terms, -2.0)
        told = [name for step in found for name in step.features]
        assert sorted(told) == sorted(
            name for name, term in zip(schema.names, terms, strict=True) if term != 0.0
        )
        assert len(found) <= MAX_STEPS


def test_at_most_four_are_principal_and_all_of_them_raise_the_answer(predictor: Predictor) -> None:
    for row, terms in cases(predictor):
        principal = [step for step in shown(predictor.bundle.schema, row, terms, -2.0) if step.principal]
        assert len(principal) <= 4
        assert all(step.term > 0.0 for step in principal)


def test_nothing_is_told_where_nothing_counts() -> None:
    schema = Schema([Feature("a")])
    assert shown(schema, schema.encode({"a": 1}), [0.0], 0.5) == []


def test_unknown_inputs_without_a_group_stay_apart() -> None:
    schema = Schema([Feature("a"), Feature("b")])
    found = shown(schema, schema.encode({}), [1.0, 0.5], 0.0)
    assert [step.words.en for step in found] == ["A is unknown", "B is unknown"]


def test_smallest_change_is_what_trying_one_case_after_another_finds(predictor: Predictor) -> None:
    schema, threshold = predictor.bundle.schema, predictor.bundle.decision.threshold
    grids = Grids(predictor)
    flips = Flips(predictor, grids, list(ranked(predictor)))
    for golden in islice(predictor.bundle.golden_rows(), 15):
        row = schema.encode(golden.fields)
        before = predictor.predict(row)[1]
        changes, curves = asyncio.run(flips.find(row))
        found = {change.feature: change for change in changes}
        for i, feature in enumerate(schema.features):
            turning = []
            for value in grids.values[feature.name]:
                changed = np.frombuffer(row).copy()
                changed[i] = value
                probability, decision = predictor.predict(changed.tobytes())
                assert curves[feature.name].pop(0) == probability
                if decision < 2:  # of the score alone
                    assert (probability >= threshold) == bool(decision)
                if decision == (0 if before else 1):  # a policy's own decisions turn nothing
                    turning.append((value, probability))
            assert bool(turning) == (feature.name in found)
            if turning:
                change = found[feature.name]
                assert (change.value, change.probability) in turning
                if feature.kind == "number":
                    place = grids.place(feature.name, float(np.frombuffer(row)[i]))
                    nearest = min(abs(grids.place(feature.name, value) - place) for value, _ in turning)
                    assert abs(grids.place(feature.name, change.value) - place) == pytest.approx(nearest)


def test_errors_of_entry_that_turn_a_decision_are_those_that_turn_it_one_by_one(predictor: Predictor) -> None:
    schema, wavering = predictor.bundle.schema, 0
    steadiness = Steadiness(predictor, list(ranked(predictor)))
    for golden in islice(predictor.bundle.golden_rows(), 60):
        row = schema.encode(golden.fields)
        found = asyncio.run(steadiness.turning(row))
        wavering += bool(found)
        for i, feature in enumerate(schema.features):
            outcomes = set()
            for share in (1 - ERROR, 1 + ERROR) if feature.kind == "number" else ():
                changed = np.frombuffer(row).copy()
                changed[i] *= share
                if feature.range[0] <= changed[i] <= feature.range[1]:
                    outcomes.add(predictor.predict(changed.tobytes())[1])
            assert (feature.name in found) == bool(outcomes - {predictor.predict(row)[1]})
    assert wavering


def test_grids_are_ascending_values_the_server_takes(predictor: Predictor) -> None:
    for feature in predictor.bundle.schema.features:
        values = Grids(predictor).values[feature.name]
        assert 2 <= len(values) <= 120
        assert values == sorted(set(values))
        for value in values:
            feature.encode(feature.decode(value))


def test_importance_is_of_what_the_model_uses(predictor: Predictor) -> None:
    found = importance(predictor, reference_rows(predictor.bundle)[:100])
    assert set(found) == set(predictor.bundle.schema.names)
    assert next(iter(ranked(predictor))) == max(found, key=lambda name: found[name])
    assert found["EXT_SOURCE_3"] > found["FLAG_DOCUMENT_3"] >= 0.0
