"""The page's app without a browser: one model, and no more of Gradio than the page needs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.browser import LOAN, SAFE, loan_bundle
from tests.support.bundles import sample_rows, three_feature_bundle
from tests.support.pages import config_of, decide, decisions, page_client, wait_for_lines
from tests.support.servers import run
from ui.words.values import texts_of
from ui.words.wording import percents


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def client(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    bundle = loan_bundle(tmp_path_factory.mktemp("bundles") / "loan")
    with page_client(bundle.directory, logs) as opened:
        yield opened


PROBLEM = "application/problem+json"


def test_history_and_analytics_are_off(client: TestClient) -> None:
    config = config_of(client)
    assert config["run_history"] is False
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    assert config["dependencies"] == []


def test_page_may_load_nothing_from_elsewhere(client: TestClient) -> None:
    policy = client.get("/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    call = client.post("/page/decide", json={})
    assert call.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/model", "/metrics"])
def test_api_has_its_routes_on_the_same_port(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


def test_wrong_method_on_an_api_route_is_405_not_the_page(client: TestClient) -> None:
    refusal = client.get("/predict")
    assert (refusal.status_code, refusal.headers["Content-Type"]) == (405, PROBLEM)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/config",
        "/login",
        "/monitoring",
        "/manifest.json",
        "/robots.txt",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/runs",
        "/gradio_api/file=pyproject.toml",
        "/gradio_api/proxy=https://example.org",
        "/gradio_api/queue/data?session_hash=x",
        "/gradio_api/heartbeat/x",
        "/gradio_api/startup-events",
    ],
)
def test_the_rest_of_gradio_is_not_there(client: TestClient, path: str) -> None:
    refusal = client.get(path)
    assert (refusal.status_code, refusal.headers["Content-Type"]) == (404, PROBLEM)


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/call/decide"])
def test_gradio_takes_no_posts_but_the_pages_own(client: TestClient, path: str) -> None:
    assert client.post(path, json={}).status_code == 404


def test_a_large_body_is_not_read(client: TestClient) -> None:
    assert client.post("/page/operations", json={"data": ["x" * 2**20]}).status_code == 413


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        {"turn": 10**30},
        {"turn": "1", "texts": []},
        {"turn": True, "texts": {"amount": 5}},
        {"turn": 7, "texts": {"amount": None}},
        {"turn": 7, "texts": {"unknown feature": "1"}},
        {"turn": 7, "texts": {"amount": "\ud800"}},
        {"turn": 7, "texts": {"amount": "<script>alert(1)</script>"}},
        {"turn": 7, "texts": {"amount": "9" * 10_000}},
        {"turn": 7, "texts": {"amount": "1", "school": "99"}},
        {"turn": 7, "texts": {"amount": "1", "guarantor": "2"}},
        {"turn": 7, "texts": {"amount": "x"}, "case": {"a": 1}, "trial": "yes"},
    ],
)
def test_a_hostile_value_is_only_refused(client: TestClient, value: Any) -> None:
    shown = decide(client, value)
    assert shown["errors"].keys() <= set(LOAN.names)
    assert "Not decided" in shown["html"]
    assert "<script" not in shown["html"]


def test_an_answer_names_the_turn_it_is_of(client: TestClient) -> None:
    assert decide(client, {"turn": 7, "texts": texts_of(LOAN, SAFE)})["turn"] == 7


def test_the_page_decides_as_the_api_does(client: TestClient) -> None:
    for row in sample_rows(LOAN, 100, seed=5):
        document = client.post("/predict", json=row).json()
        html = decide(client, {"turn": 1, "texts": texts_of(LOAN, row)})["html"]
        risk, limit = percents(document["probability"], 0.3)
        assert f"The risk of default is {risk.en}, " in html
        assert f" the limit of {limit.en}." in html
        assert ("Accepted</h2>" in html) == (document["decision"] == "accept")


def test_decisions_of_the_page_are_counted_and_logged_like_any_other(client: TestClient, logs: Path) -> None:
    before = decisions(client)
    shown = decide(client, {"turn": 1, "texts": texts_of(LOAN, SAFE)})
    assert decisions(client) == before + 1
    identity = shown["html"].split("answer ")[1].split("<")[0]
    (line,) = wait_for_lines(logs, identity)
    assert line["input"] == SAFE
    assert (line["decision"], line["source"]) == ("accept", "page")


def test_what_nobody_pressed_decide_for_is_no_decision(client: TestClient) -> None:
    before = decisions(client)
    shown = decide(client, {"turn": 1, "texts": texts_of(LOAN, SAFE), "trial": True})
    assert "Accepted</h2>" in shown["html"]
    assert "neither logged nor counted" in shown["html"]
    assert decisions(client) == before


def test_a_bundle_without_examples_or_words_has_a_page_too(tmp_path: Path) -> None:
    bundle = three_feature_bundle(tmp_path / "three")
    with page_client(bundle.directory, tmp_path / "logs") as client:
        text = client.get("/").text
        assert "Nearest to the limit" in text
        assert "Granted" in decide(client, {"texts": {"income": "1", "contract": "0"}})["html"]


def test_a_wrong_model_is_refused_in_a_sentence_before_gradio_is_loaded(tmp_path: Path) -> None:
    ended = run("-m", "ui", "--model", str(tmp_path), "--port", "0")
    assert ended.returncode == 3
    assert ended.stderr.startswith("expected a model folder")
    assert len(ended.stderr.splitlines()) == 1
