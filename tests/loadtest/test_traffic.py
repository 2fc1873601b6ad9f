"""The requests of a load, against a real server."""

import urllib.request
from pathlib import Path

import orjson

from loadtest.harness.bodies import bodies_of_server
from loadtest.harness.traffic import Traffic
from server.model.bundle import Bundle
from tests.support.servers import exchange, post


def test_good_requests_are_scored_and_bad_ones_refused_as_expected(server: str) -> None:
    with urllib.request.urlopen(f"{server}/model", timeout=60) as answer:
        features = orjson.loads(answer.read())["features"]
    prepared = Traffic(features, bad_share=0.3, seed=1).draw(300)
    answers = exchange(server, *(post("/predict", body) for body, _ in prepared))
    assert [answer.status for answer in answers] == [status for _, status in prepared]
    assert {status for _, status in prepared} == {200, 400, 422}


def test_rows_vary_around_the_golden_ones_with_values_missing(three: Path) -> None:
    bundle = Bundle.load(three)
    golden = [row.fields for row in bundle.golden_rows()]
    traffic = Traffic([feature.to_dict() for feature in bundle.schema.features], golden)
    rows = [traffic.row() for _ in range(500)]
    for row in rows:
        bundle.schema.encode(row)
    assert len({orjson.dumps(row) for row in rows}) > 200
    assert any(len(row) < len(bundle.schema) for row in rows)


def test_equal_seeds_draw_equal_requests(three: Path) -> None:
    features = [feature.to_dict() for feature in Bundle.load(three).schema.features]
    assert Traffic(features, seed=3).draw(50) == Traffic(features, seed=3).draw(50)


def test_a_server_whose_bundle_is_elsewhere_is_asked_for_its_features(server: str) -> None:
    bodies = bodies_of_server(server + "/model")
    assert {answer.status for answer in exchange(server, *(post("/predict", body) for body in bodies))} == {
        200
    }
