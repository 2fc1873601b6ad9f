"""Several models at once, addressed by name and version."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from loadtest.harness.scrape import scrape, total
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support import patient
from tests.support.bundles import CREDIT, ROW, THREE_FEATURES, three_feature_bundle
from tests.support.servers import exchange, post, serving

BODY = orjson.dumps(ROW)


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_feature_bundle(tmp_path_factory.mktemp("second") / "three", "2", trees=30).directory


@pytest.fixture(scope="module")
def url(three: Path, second: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the shipped model, first, and of two versions of another."""
    folder = tmp_path_factory.mktemp("models")
    with serving(CREDIT, folder, "--model", str(three), "--model", str(second)) as subject:
        yield subject.url


@pytest.mark.parametrize(
    ("path", "version"),
    [("/models/three", "1"), ("/models/three/versions/1", "1"), ("/models/three/versions/2", "2")],
)
def test_each_version_answers_at_its_path_through_both_doors(
    url: str, three: Path, second: Path, path: str, version: str
) -> None:
    predictor = Predictor(Bundle.load(three if version == "1" else second))
    probability, _ = predictor.predict(THREE_FEATURES.encode(ROW))
    plain, ordinary = exchange(
        url, post(path + "/predict", BODY), post(path + "/predict", BODY, "Connection: keep-alive")
    )
    batch = patient.post(url + path + "/predict/batch", json={"rows": [ROW]}).json()
    explained = patient.post(url + path + "/explain", json=ROW).json()
    answers = [orjson.loads(plain.body), orjson.loads(ordinary.body), explained]
    assert [answer["probability"] for answer in answers] == [probability] * 3
    assert {answer["model"] for answer in answers} == {f"three@{version}"}
    assert (batch["model"], batch["probabilities"]) == (f"three@{version}", [probability])
    assert patient.get(url + path).json()["version"] == version


def test_the_first_model_answers_where_none_is_named(url: str) -> None:
    assert patient.get(url + "/model").json()["name"] == "credit"
    assert patient.post(url + "/predict", json=ROW).status_code == 422
    listed = patient.get(url + "/models").json()["models"]
    assert [(m["name"], m["version"]) for m in listed] == [("credit", "3"), ("three", "1"), ("three", "2")]


@pytest.mark.parametrize("path", ["/models/four", "/models/three/versions/3", "/models/%2e%2e%2fetc"])
@pytest.mark.parametrize("end", ["", "/predict", "/predict/batch", "/explain"])
def test_model_that_is_not_served_is_404(url: str, path: str, end: str) -> None:
    answer = patient.post(url + path + end, json=ROW) if end else patient.get(url + path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_rows_by_name_are_counted_under_one_route(url: str) -> None:
    before = scrape(url)
    exchange(url, *[post("/models/three/versions/2/predict", BODY)] * 3)
    patient.post(url + "/models/three/predict", json=ROW, headers={"Connection": "close"})
    after = scrape(url)
    name, labels = "hotrow_request_duration_seconds_count", {"route": "/models/predict", "code": "200"}
    assert total(after, name, **labels) - total(before, name, **labels) == 4


def test_one_model_twice_is_refused(three: Path, tmp_path: Path) -> None:
    from tests.support.servers import run

    result = run("-m", "server", "--model", str(three), "--model", str(three), "--port", "0")
    assert result.returncode == 3
    assert "three@1 twice" in result.stderr
