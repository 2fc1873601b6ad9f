"""The document, the page and a client that believes every word of the document."""

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.api.openapi import document
from server.metrics.names import OTHER, ROUTES
from server.model.bundle import Bundle
from server.version import VERSION
from tests.support import patient
from tests.support.browser import chromium
from tests.support.bundles import CREDIT
from tests.support.servers import serving

pytestmark = pytest.mark.whole

#: `make conformance` sets 500, in which each operation is tried for some minutes.
EXAMPLES = os.environ.get("CONFORMANCE_EXAMPLES", "5")


@pytest.fixture(scope="module")
def printed(server: str) -> dict[str, str]:
    """The examples of the page, by language."""
    page = patient.get(server + "/docs").text
    blocks = re.findall(r'<pre data-language="(\w+)">(.*?)</pre>', page, re.S)
    return {language: html.unescape(code) for language, code in blocks}


def test_document_is_valid_for_every_bundle(bundle: Path) -> None:
    from openapi_spec_validator import (
        validate,  # here: the formats it loads build 39 grammars, for 4 s of CPU
    )

    content = json.loads(document(Bundle.load(bundle)))
    validate(content)
    assert content["openapi"].startswith("3.1")


def test_committed_document_is_that_of_the_shipped_model() -> None:
    assert Path("docs/generated/openapi.json").read_bytes() == document(Bundle.load(CREDIT)), (
        "run `python -m server.api.openapi > docs/generated/openapi.json`"
    )


def test_numbers_have_the_format_that_holds_all_their_bits(bundle: Path) -> None:
    """A generator takes float32 and int32 in Go where none is given, and rows would be other rows."""
    schemas = json.loads(document(Bundle.load(bundle)))["components"]["schemas"]
    found = {repr(s) for name in RESPONSES_AND_ROW for s in numbers(schemas[name])}
    assert found
    assert not [words for words in found if "'format': 'double'" not in words]


RESPONSES_AND_ROW = ("Row", "Answer", "BatchAnswer", "Explanation", "Recourse")


def numbers(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema of a number with decimals within a schema, but for context, which may be text."""
    if isinstance(schema, list):
        for part in schema:
            yield from numbers(part)
    elif isinstance(schema, dict):
        types = schema.get("type")
        if types == "number" or (isinstance(types, list) and "number" in types and "string" not in types):
            yield schema
        for part in schema.values():
            yield from numbers(part)


def test_server_answers_with_the_document_of_its_bundle(server: str, three: Path) -> None:
    assert patient.get(server + "/openapi.json").content == document(Bundle.load(three))


def test_every_feature_is_described(server: str) -> None:
    row = patient.get(server + "/openapi.json").json()["components"]["schemas"]["Row"]
    assert row["required"] == ["income"]
    assert row["additionalProperties"] is False
    income = row["properties"]["income"]
    assert (income["title"], income["type"], income["minimum"], income["maximum"]) == (
        "Monthly income",
        "number",
        0.0,
        1e6,
    )
    assert "EUR" in income["description"]
    assert row["properties"]["contract"]["enum"] == ["permanent", "fixed-term", "none", None]
    flag = [{"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": 1}, {"type": "null"}]
    assert row["properties"]["owner"]["anyOf"] == flag


def test_every_route_is_in_the_document(server: str) -> None:
    paths = set(patient.get(server + "/openapi.json").json()["paths"])
    counted_only = {route for route in ROUTES if route.startswith("/models/")}
    counted_only |= {"/recourse"}  # of a model that marks what can be changed: `test_recourse.py`
    assert {*ROUTES} - {"/v2/infer", OTHER} - counted_only <= paths
    assert {"/models/{name}/predict", "/models/{name}/versions/{version}/explain"} <= paths
    assert "/v2/models/{name}/versions/{version}/infer" in paths


def test_version_is_that_of_the_project() -> None:
    assert f'version = "{VERSION}"' in Path("pyproject.toml").read_text()


def test_shell_and_python_examples_run_as_printed(printed: dict[str, str]) -> None:
    for command in (["sh", "-euc", printed["Shell"]], [sys.executable, "-c", printed["Python"]]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "probability" in done.stdout


#: Runs a program as a module of the page would, and gives what it prints.
_RUN_JAVASCRIPT = """async code => {
    const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
    let printed;
    await new AsyncFunction("console", code)({ log: value => { printed = value; } });
    return printed;
}"""


def test_page_shows_every_operation_asks_no_other_host_and_its_javascript_runs(
    server: str, printed: dict[str, str]
) -> None:
    operations = sum(map(len, patient.get(server + "/openapi.json").json()["paths"].values()))
    asked: list[str] = []
    said: list[str] = []
    with chromium() as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(server + "/docs")
        page.wait_for_selector("#operations-Scoring-predict")
        assert page.locator(".opblock").count() == operations
        assert "probability" in page.evaluate(_RUN_JAVASCRIPT, printed["JavaScript"])
    assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {server.split("/")[2]}
    assert not said


def test_files_of_the_page_are_a_closed_set(server: str) -> None:
    assert patient.get(server + "/docs/swagger-ui.css").headers["Content-Type"].startswith("text/css")
    for name in ("LICENSE", "..%2fapp.py", "index.html"):
        assert patient.get(f"{server}/docs/{name}").status_code == 404


#: How it writes a media type that it does not know: text as it is.
_NDJSON = """
import orjson
import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_, value):
    data = getattr(value, "data", value)
    text = data.encode() if isinstance(data, str) else data
    return text if isinstance(text, bytes) else orjson.dumps(text, default=str)
"""


def test_schemathesis_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    # A deadline of a millisecond is honoured by a 504, which is no failure.
    # That `shape` fits `data`, and what CSV is, no schema can say: there valid data may be refused.
    (tmp_path / "schemathesis.toml").write_text(
        'hooks = "hooks.py"\n[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 504]\n'
        '[[operations]]\ninclude-path-regex = "(infer|batch)$"\n'
        'checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 422, 503, 504]\n'
        '[[operations]]\ninclude-path-regex = "override$"\n'  # no schema knows the log's ids
        'checks.positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 422]\n'
        '[[operations]]\ninclude-path-regex = "outcomes$"\n'  # off: 501
        'checks.positive_data_acceptance.expected-statuses = ["2xx", 501]\n'
        'checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 501, 504]\n'
    )
    (tmp_path / "hooks.py").write_text(_NDJSON)
    with serving(CREDIT, tmp_path, log_mode="off") as subject:
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", subject.url + "/openapi.json", "--checks", "all"),
            *("--max-examples", EXAMPLES, "--generation-deterministic", "--no-color"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=3000)
    assert done.returncode == 0, done.stdout[-6000:]
