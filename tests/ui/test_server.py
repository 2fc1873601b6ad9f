"""The page's app without a browser: one model, and no more of Gradio than the page needs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from starlette.testclient import TestClient

from tests.support.browser import LOAN, SAFE, loan_bundle
from tests.support.bundles import rewritten, sample_rows
from tests.support.pages import JSON, config_of, decide, decisions, page_client, wait_for_lines
from tests.support.servers import run
from ui.words.values import texts_of
from ui.words.wording import percents


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


#: A model beside the first, and its page.
OTHER = "a model {x} é@2.0"
ADDRESS = f"/page/of/{quote(OTHER.partition('@')[0])}/2.0/"


@pytest.fixture(scope="module")
def client(three: Path, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("bundles")
    loan = loan_bundle(folder / "loan").directory
    other = rewritten(three, folder / "other", name=OTHER.partition("@")[0], version="2.0")
    with page_client(loan, logs, model=(loan, other)) as opened:
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


def test_a_wrong_model_is_refused_in_a_sentence_before_gradio_is_loaded(tmp_path: Path) -> None:
    ended = run("-m", "ui", "--model", str(tmp_path), "--port", "0")
    assert ended.returncode == 3
    assert ended.stderr.startswith("expected a model folder")
    assert len(ended.stderr.splitlines()) == 1


def test_every_model_has_its_page_and_links_lead_between_them(client: TestClient, logs: Path) -> None:
    led = client.get(ADDRESS[:-1], follow_redirects=False)
    assert (led.status_code, led.headers["Location"]) == (307, "2.0/")
    for address, current, links in (
        ("/", "loan@7", ["./", f".{ADDRESS}"]),
        (ADDRESS, OTHER, ["../../../../", f"../../../..{ADDRESS}"]),
    ):
        config = config_of(client, address)
        head = str(config["components"])
        assert config["root"].endswith(address[:-1])
        assert re.findall(r'<a href="([^"]*)"', head)[:2] == links
        assert re.findall(r'aria-current="page"[^>]*>[^(]*\(([^)]*)\)', head) == [current]
    for path in ("theme.css", "livez", "page/template.csv"):
        assert client.get(ADDRESS + path).status_code == 200, path
    for path in ("/page/of/loan/7/", "/page/of/", f"{ADDRESS}config", f"{ADDRESS}metrics"):
        assert client.get(path).status_code == 404, path


def test_page_of_a_further_model_without_examples_or_words_decides_with_it(
    client: TestClient, logs: Path
) -> None:
    assert "Nearest to the limit" in client.get(ADDRESS).text
    form = orjson.dumps({"texts": {"income": "1", "contract": "0"}})
    answer = client.post(f"{ADDRESS}page/decide", content=form, headers=JSON).json()["html"]
    assert "Granted" in answer
    assert f"/models/{quote(OTHER.partition('@')[0])}/versions/2.0/predict" in answer
    id_ = answer.split("answer ")[1].split("<")[0]
    (line,) = wait_for_lines(logs, id_)
    assert line["model"] == OTHER
    found = client.post("/page/look-up", content=orjson.dumps({"number": id_}), headers=JSON).json()
    assert "equal to the bit" in found["html"]
