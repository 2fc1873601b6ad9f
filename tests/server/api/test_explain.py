"""`POST /explain`: why a row is scored as it is."""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import orjson
import pytest

from export.forest.paths import packed
from loadtest.harness.subject import Subject
from monitoring.logs.verification import LogVerdict, verify
from server.errors import BundleError
from server.explain.contributions import open_contributions
from server.explain.explainer import Explainer
from server.model.bundle import CONTRIBUTIONS_FILE, SOURCE_FILE, Bundle
from server.model.predictor import Predictor
from tests.support import patient
from tests.support.bundles import ROW, THREE_FEATURES, rewritten, sample_rows
from tests.support.servers import serving

if TYPE_CHECKING:
    import lightgbm

pytestmark = pytest.mark.whole

ROWS = sample_rows(THREE_FEATURES, 40)
#: Of a model of one feature and two outputs.
OTHER = packed(
    {
        "weights": np.ones((1, 2)), "base": np.zeros(2), "narrow": np.array(True),
        "absent": np.array(math.nan), "zero": np.array([], dtype=np.int32),
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def subject(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server of the three-feature model."""
    with serving(three, tmp_path_factory.mktemp("explain")) as subject:
        yield subject


@pytest.fixture(scope="module")
def client(subject: Subject) -> Iterator[httpx.Client]:
    """One connection for all rows."""
    with patient.client(base_url=subject.url) as client:
        yield client


@pytest.fixture(scope="module")
def booster(three: Path) -> "lightgbm.Booster":
    import lightgbm

    return lightgbm.Booster(model_file=str(three / SOURCE_FILE))


def test_contributions_are_lightgbms_and_sum_to_the_margin(
    client: httpx.Client, booster: "lightgbm.Booster"
) -> None:
    for row in ROWS[:15]:
        answer = client.post("/explain", json=row).json()
        encoded = np.frombuffer(THREE_FEATURES.encode(row)).reshape(1, -1)
        expected = booster.predict(encoded, pred_contrib=True)[0].tolist()
        found = {reason["feature"]: reason["contribution"] for reason in answer["reasons"]}
        terms = [*(found[name] for name in THREE_FEATURES.names), answer["base"]]
        assert terms == pytest.approx(expected, abs=1e-12)
        margin = booster.predict(encoded, raw_score=True)[0]
        assert math.fsum([*found.values(), answer["base"]]) == pytest.approx(margin, abs=1e-9)


def test_answer_is_that_of_predict_with_reasons_unfavourable_first(client: httpx.Client) -> None:
    for row in ROWS[:15]:
        answer = client.post("/explain", json=row).json()
        predicted = client.post("/predict", json=row).json()
        assert list(answer)[:4] == list(predicted)
        assert {k: answer[k] for k in ("probability", "decision", "model")} == {
            k: predicted[k] for k in ("probability", "decision", "model")
        }
        terms = [reason["contribution"] for reason in answer["reasons"]]
        assert terms == sorted(terms, reverse=True)
        principal = [reason["contribution"] for reason in answer["reasons"] if reason["principal"]]
        assert principal == [term for term in terms if term > 0][:4]


def test_reasons_are_worded_from_the_labels(client: httpx.Client) -> None:
    reasons = client.post("/explain", json={"income": 2500.5, "owner": True}).json()["reasons"]
    words = {reason["feature"]: (reason["label"], reason["value"], reason["words"]) for reason in reasons}
    assert words["income"][:2] == ("Monthly income", 2500.5)
    assert words["income"][2].startswith("Monthly income: 2,500 EUR ")
    assert words["contract"][1] is None
    assert words["contract"][2].startswith("Contract: not given ")
    assert words["owner"][2].startswith("Owns a home: yes ")


def test_bad_row_is_refused_as_predict_refuses_it(client: httpx.Client) -> None:
    bad = ROW | {"income": -1}
    answers = [client.post(path, json=bad) for path in ("/explain", "/predict")]
    assert [a.status_code for a in answers] == [422, 422]
    assert answers[0].json() == answers[1].json()


def test_reasons_of_predict_are_the_principal_ones_of_explain_and_of_a_batch(client: httpx.Client) -> None:
    """One list: `/predict`, the log's line, `/predict/batch` in each of its forms, `/explain`."""
    batch = client.post("/predict/batch?reasons=2", json={"rows": ROWS}).json()
    lines = client.post(
        "/predict/batch?reasons=2",
        json={"rows": ROWS},
        headers={"Accept": "application/x-ndjson"},
    )
    table = client.post("/predict/batch?reasons=2", json={"rows": ROWS}, headers={"Accept": "text/csv"})
    records = list(csv.DictReader(io.StringIO(table.text)))
    adverse = 0
    for i, row in enumerate(ROWS):
        answer = client.post("/predict?reasons=2", json=row).json()
        explained = client.post("/explain", json=row).json()
        principal = [(r["feature"], r["contribution"]) for r in explained["reasons"] if r["principal"]][:2]
        if answer["decision"] == "grant":
            assert "reasons" not in answer
            assert batch["reasons"][i] == []
            continue
        adverse += 1
        assert [(r["feature"], r["contribution"]) for r in answer["reasons"]] == principal
        assert batch["reasons"][i] == answer["reasons"]
        assert orjson.loads(lines.text.splitlines()[i])["reasons"] == answer["reasons"]
        assert records[i]["reasons"] == ";".join(r["code"] for r in answer["reasons"])
    assert 0 < adverse < len(ROWS)


def test_reasons_stand_in_the_line_of_the_log(three: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(three)
    row = next(row for row in ROWS if Predictor(bundle).predict(THREE_FEATURES.encode(row))[1])
    with serving(three, tmp_path) as subject:
        one = patient.post(subject.url + "/predict?reasons=3", json=row).json()
        many = patient.post(subject.url + "/predict/batch?reasons=3", json={"rows": [row]}).json()
    logged = {
        line["id"]: line
        for file in (tmp_path / "logs").glob("*.jsonl")
        for line in map(orjson.loads, file.read_bytes().splitlines())
    }
    assert logged[one["id"]]["reasons"] == one["reasons"]
    assert logged[many["id"]]["reasons"] == many["reasons"] == [one["reasons"]]


def test_reasons_of_every_answer_are_given_where_all_are_asked_for(client: httpx.Client) -> None:
    for row in ROWS[:10]:
        answer = client.post("/predict?reasons=all", json=row).json()
        terms = [reason["contribution"] for reason in answer["reasons"]]
        assert terms == sorted(terms, reverse=True)
        assert all(term > 0.0 for term in terms)


def test_reasons_are_the_same_however_they_are_asked_for(client: httpx.Client) -> None:
    """In the usual spelling the fast path answers, in another order the ASGI path."""
    for row in ROWS:
        for most in (1, 2, 3):
            usual = client.post(f"/predict?reasons={most}&language=en", json=row).json()
            for query in (f"reasons={most}", f"language=en&reasons={most}"):
                other = client.post(f"/predict?{query}", json=row).json()
                assert list(other) == list(usual)
                assert other | {"id": ""} == usual | {"id": ""}


@pytest.mark.parametrize("query", ["reasons=0", "reasons=", "reasons=4", "reasons=-1", "reasons=1e1",
    "reasons=\u0663", "reasons=9999999999999999999999", "reasons=0000019", "reasons=000001" + "9" * 4400,
    "reasons=1&language=xx", "language=5"])  # fmt: skip
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_reasons_that_cannot_be_given_are_422_and_say_what_can(
    client: httpx.Client, path: str, query: str
) -> None:
    body = ROW if path == "/predict" else {"rows": [ROW]}
    answer = client.post(f"{path}?{query}", json=body)
    assert answer.status_code == 422
    assert "language to be one of en" in answer.text or "a number from 1 to 3, or all" in answer.text


def test_reasons_have_the_codes_and_texts_of_the_description(three: Path, tmp_path: Path) -> None:
    said = {
        "income": {
            "up": {"code": "A1", "text": {"en": "Your income is low", "fr": "Votre revenu est faible"}},
            "missing": {"code": "A2", "text": {"en": "Your income is not known"}},
        },
        "contract": {"up": {"text": {"en": "Your contract"}}},
    }
    rewritten(three, tmp_path / "told", reasons=said)
    found: dict[str, set[tuple[str, str, bool]]] = {"en": set(), "fr": set()}
    with serving(tmp_path / "told", tmp_path) as subject:
        for language in found:
            url = f"{subject.url}/predict/batch?reasons=all&language={language}"
            answers = patient.post(url, json={"rows": ROWS}).json()["reasons"]
            for row, reasons in zip(ROWS, answers, strict=True):
                for r in reasons:
                    found[language].add((r["code"], r["text"], row.get(r["feature"]) is None))
    assert {("A1", "Your income is low", False), ("contract", "Your contract", False)} <= found["en"]
    assert ("A1", "Votre revenu est faible", False) in found["fr"]
    for language in found:
        assert not {text for code, text, missing in found[language] if code == "A1" and missing}


@pytest.mark.parametrize(
    "said", [[], {"income": []}, {"income": {"up": {}}}, {"income": {"up": {"text": 3}}}]
)
def test_reasons_of_another_form_stop_the_bundle(three: Path, tmp_path: Path, said: Any) -> None:
    with pytest.raises(BundleError, match="reasons"):
        rewritten(three, tmp_path / "told", reasons=said)


@pytest.mark.parametrize("content", [b"", b"PK", packed({"base": np.zeros(1)}), OTHER])
def test_damaged_contributions_stop_the_bundle(three: Path, tmp_path: Path, content: bytes) -> None:
    damaged = Bundle.load(rewritten(three, tmp_path / "damaged", {CONTRIBUTIONS_FILE: content}))
    with pytest.raises(BundleError, match=r"to explain the model.*export the bundle again"):
        open_contributions(damaged)


@pytest.mark.parametrize("mode", ["async", "strict"])
def test_bundle_without_contributions_is_501_and_leaves_no_gap(
    three: Path, tmp_path: Path, mode: str
) -> None:
    rewritten(three, tmp_path / "plain", {CONTRIBUTIONS_FILE: None})
    with serving(tmp_path / "plain", tmp_path, log_mode=mode) as subject:
        answers = [
            patient.post(subject.url + "/explain", json=ROW),
            patient.post(subject.url + "/predict?reasons=1&always=true", json=ROW),
            patient.post(subject.url + "/predict/batch?reasons=1", json={"rows": [ROW]}),
        ]
        assert patient.post(subject.url + "/predict", json=ROW).json()["id"].endswith("-1")
        document = patient.get(subject.url + "/openapi.json").json()
    assert [answer.status_code for answer in answers] == [501] * 3
    assert all("export the model again" in answer.json()["detail"] for answer in answers)
    assert "/explain" not in document["paths"]
    assert verify([tmp_path / "logs"]).verdict is LogVerdict.WHOLE


def test_wide_model_is_explained(wide: Path) -> None:
    bundle = Bundle.load(wide)
    predictor = Predictor(bundle)
    explainer = Explainer(bundle, predictor)
    for fields in bundle.golden_fields()[:5]:
        row = bundle.schema.encode(fields)
        assert math.fsum(explainer.terms(row)) == pytest.approx(predictor.margin(row), abs=1e-9)
