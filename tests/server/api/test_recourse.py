"""What could be changed: every proposal is true, allowed and scored by what serves."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from export.assemble import write_conversion
from export.forest.conversion import Conversion
from loadtest.harness.subject import Subject
from server.explain.explainer import Explainer
from server.explain.recourse import Recourse
from server.explain.steps import values_above, values_below
from server.model.bundle import Bundle, Decision
from server.model.predictor import Predictor
from server.model.schema import Feature
from tests.support import patient
from tests.support.bundles import THREE_FEATURES, rewritten, sample_rows, tell_again
from tests.support.servers import serving

ROWS = sample_rows(THREE_FEATURES, 300, seed=5)
ACTIONABLE = {"income": "down", "contract": "yes", "owner": "up"}
FRENCH = {
    "wording": {"below": "Accordée"},
    "features": {
        "income": {"label": "Revenu mensuel", "unit": "euros"},
        "contract": {"label": "Contrat", "category_labels": ["sans terme", "à terme", "aucun"]},
    },
}


def marked(source: Path, folder: Path, actionable: dict[str, str] = ACTIONABLE, **members: Any) -> Path:
    """The bundle of three features with marks of what an applicant can change."""
    features = orjson.loads((source / "bundle.json").read_bytes())["features"]
    for feature in features:
        feature["actionable"] = actionable.get(feature["name"], "no")
    return rewritten(source, folder, features=features, **members)


def opened(folder: Path) -> tuple[Bundle, Predictor, Recourse]:
    bundle = Bundle.load(folder)
    predictor = Predictor(bundle)
    return bundle, predictor, Recourse(bundle, predictor, Explainer(bundle, predictor))


def is_allowed(feature: Feature, before: float, after: float) -> bool:
    low, high = feature.range
    way = {"up": after > before, "down": after < before, "yes": after != before}
    return way.get(feature.actionable, False) and low <= after <= high


def hold(folder: Path, rows: list[bytes]) -> tuple[int, int]:
    """Hold every proposal for these rows; how many are refused, and of how many something is proposed."""
    bundle, predictor, recourse = opened(folder)
    refused = helped = 0
    for row in rows:
        found = recourse.find(row)
        assert (found.probability, found.outcome) == predictor.predict(row)
        assert found.tried <= 2048
        refused += found.outcome != 0
        helped += bool(found.proposals)
        for proposal in found.proposals:
            changed = np.frombuffer(row).copy()
            assert 1 <= len(proposal.moves) <= 2
            for move in proposal.moves:
                assert is_allowed(bundle.schema.features[move.place], changed[move.place], move.value)
                changed[move.place] = move.value
            fields = bundle.schema.fields(changed.tolist())  # as a client would send it
            assert predictor.predict(bundle.schema.encode(fields)) == (proposal.probability, 0)
        assert found.outcome or not found.proposals
    return refused, helped


def test_every_proposal_is_true_and_allowed(three: Path, tmp_path: Path) -> None:
    rows = [THREE_FEATURES.encode(row) for row in ROWS]
    refused, helped = hold(marked(three, tmp_path / "marked"), rows)
    assert refused > 50
    assert helped == refused  # another contract or a lower income always helps here
    limits = {"income": [1000.0, 900_000.0]}
    policy = {"unusual": {"limits": limits}, "needed": {"always": ["owner"]}}
    refused, helped = hold(marked(three, tmp_path / "policy", policy=policy), rows)
    assert 0 < helped < refused


def test_nothing_is_proposed_only_where_nothing_helps(three: Path, tmp_path: Path) -> None:
    _, predictor, recourse = opened(marked(three, tmp_path / "one", {"income": "down"}))
    none = 0
    for row in (THREE_FEATURES.encode(row) for row in ROWS):
        found, values = recourse.find(row), np.frombuffer(row)
        tried = np.tile(values, (2000, 1))
        tried[:, 0] = np.linspace(0.0, values[0], 2000)
        margins = predictor.output_array(predictor.margins(tried)).tolist()
        helps = bool((predictor.outcomes(np.array(margins), tried) == 0).any())
        assert bool(found.proposals) == (helps and found.outcome != 0)
        none += not helps
    assert none > 10


def test_what_opposes_a_reason_is_never_proposed(three: Path, tmp_path: Path) -> None:
    """A number that may go both ways goes, where it is a reason, only towards the typical value."""
    bundle, _, recourse = opened(marked(three, tmp_path / "both", {"income": "yes"}))
    features = orjson.loads((three / "bundle.json").read_bytes())["features"]
    assert "default" not in features[0]
    raised = [row for row in ROWS if recourse.find(THREE_FEATURES.encode(row)).outcome]
    reasons = [recourse._reasons(*_scored(bundle, row)) for row in raised]
    for row, given in zip(raised, reasons, strict=True):
        found = recourse.find(THREE_FEATURES.encode(row))
        assert not (0 in given and found.proposals)  # nobody said what is typical
    features[0] |= {"default": 400_000.0, "actionable": "yes"}
    bundle, _, recourse = opened(rewritten(three, tmp_path / "typical", features=features))
    for row in raised:
        found = recourse.find(THREE_FEATURES.encode(row))
        for proposal in found.proposals:
            move = proposal.moves[0]
            assert (move.value < row["income"]) == (row["income"] >= 400_000.0)


def test_protected_feature_is_never_changed_whatever_else_is_said_of_it(three: Path, tmp_path: Path) -> None:
    features = orjson.loads((three / "bundle.json").read_bytes())["features"]
    features[0] |= {"actionable": "down"}
    features[1] |= {"actionable": "yes", "protected": True}
    _, _, recourse = opened(rewritten(three, tmp_path / "protected", features=features))
    assert recourse.actionable == [0]


def _scored(bundle: Bundle, row: dict[str, Any]) -> tuple[Any, Any]:
    rows = np.frombuffer(bundle.schema.encode(row)).reshape(1, -1)
    return rows, Predictor(bundle).margins(rows)


def _converted(family: str) -> Conversion:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    from export.sklearn.model import convert_sklearn
    from tests.support.export_models import rows, target, train_xgboost, xgboost_conversion

    if family == "xgboost":
        return xgboost_conversion(train_xgboost({"objective": "binary:logistic"}, "binary", 10))
    matrix = rows(missing=0.0)
    estimator = (
        RandomForestClassifier(10, max_depth=4, random_state=0)
        if family == "forest"
        else LogisticRegression(max_iter=300)
    )
    return convert_sklearn(estimator.fit(matrix, target(matrix)), "model.pkl", b"")


@pytest.mark.whole
@pytest.mark.parametrize("family", ["xgboost", "forest", "linear"])
def test_models_of_every_family_are_asked(family: str, tmp_path: Path) -> None:
    from server.model.schema import Schema

    conversion = _converted(family)
    ends = {"minimum": -4.0, "maximum": 4.0}
    features = [
        Feature(
            **{
                **f.to_dict(),
                **ends,
                "inferred": f.inferred,
                "actionable": "yes" if i < 2 else "",
                "default": 0.0,
            }
        )
        for i, f in enumerate(conversion.features)
    ]
    bundle = write_conversion(
        tmp_path / "b", conversion, schema=Schema(features), name=family, version="1",
        decision=Decision(0.5, "grant", "decline"), ordinary_rows=100,
    )  # fmt: skip
    random = np.random.default_rng(3)
    width = len(bundle.schema)
    rows = [random.uniform(-3, 3, width).tobytes() for _ in range(60)]
    refused, helped = hold(tmp_path / "b", rows)
    assert refused > 10
    assert helped > 5


def test_values_are_near_their_threshold_and_round() -> None:
    feature = Feature("x", minimum=0.0, maximum=1e6)
    limits = np.array([10.5, 1234.5678, 1240.0, 90_000.0])
    assert values_below(100_000.0, limits, feature) == [90_000.0, 1240.0, 1230.0, 10.5]
    assert values_above(1236.0, limits, feature) == [1250.0, 91_000.0]
    whole = Feature("n", "integer", minimum=0, maximum=10)
    assert values_below(7.0, np.array([2.5, 2.7, 5.0]), whole) == [5.0, 2.0]
    assert values_above(2.0, np.array([2.5, 2.7, 5.0]), whole) == [3.0, 6.0]
    small = values_above(0.0, np.array([0.0, 1e-9]), Feature("y"))
    assert small[0] > 0.0
    assert all(math.isfinite(x) for x in small)


@pytest.fixture(scope="module")
def subject(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server of the marked model, and behind it of one without marks."""
    folder = tmp_path_factory.mktemp("recourse")
    policy = {"needed": {"always": ["owner"]}}
    bundle = marked(three, folder / "marked", policy=policy, name="marked", translations={"fr": FRENCH})
    tell_again(bundle)
    with serving(bundle, folder, "--model", str(three)) as subject:
        yield subject


@pytest.fixture(scope="module")
def client(subject: Subject) -> Iterator[httpx.Client]:
    with patient.client(base_url=subject.url) as client:
        yield client


@pytest.mark.whole
def test_route_answers_with_changes_or_says_why_not(client: httpx.Client) -> None:
    row = {"income": 900_000.0, "contract": "none", "owner": False}
    answer = client.post("/recourse", json=row).json()
    assert (answer["decision"], answer["missing"]) == ("decline", [])
    assert answer["text"] == "Each of these changes alone leads to the decision “grant”."
    first = answer["proposals"][0]
    changed = row | {change["feature"]: change["to"] for change in first["changes"]}
    again = client.post("/predict", json=changed).json()
    assert (again["decision"], again["probability"]) == ("grant", first["probability"])
    assert client.post("/recourse", json=changed).json()["text"] == "The decision is “grant” as it is."
    unknown = client.post("/recourse", json={"income": 900_000.0, "contract": "none"}).json()
    assert (unknown["decision"], unknown["missing"]) == ("incomplete", ["owner"])
    assert unknown["text"] == "More has to be known first: Owns a home."
    assert client.post("/models/three/recourse", json=row).status_code == 501
    assert "/recourse" in client.get("/openapi.json").json()["paths"]
    assert client.post("/recourse", json={"income": "x"}).status_code == 422
    assert client.post("/recourse?language=xx", json=row).status_code == 422


@pytest.mark.whole
def test_french_answer_has_the_words_of_the_bundle(client: httpx.Client) -> None:
    row = {"income": 900_000.0, "contract": "none", "owner": False}
    answer = client.post("/recourse?language=fr", json=row).json()
    assert answer["text"] == ("Chacun de ces changements à lui seul mène à la décision «\xa0Accordée\xa0».")
    texts = {change["text"] for proposal in answer["proposals"] for change in proposal["changes"]}
    assert "Contrat\xa0: aucun → sans terme" in texts
    assert any(text.startswith("Revenu mensuel\xa0: 900\u202f000 → ") for text in texts)
