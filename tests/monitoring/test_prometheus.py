"""A real Prometheus scrapes the server; rules, alerts and dashboard are checked against what it finds."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own
from starlette.routing import Route

from loadtest.harness.recording_client import Load
from loadtest.harness.reference_rows import scored
from loadtest.harness.scrape import scrape
from loadtest.harness.subject import free_port
from monitoring import operator_rules
from monitoring.dashboard import FILE, build
from server.api.app import create_app, predict
from server.api.batch import predict_batch
from server.api.explain import explain
from server.api.open_inference import infer
from server.metrics.names import SCORING_ROUTES, route_label
from server.model.bundle import Bundle
from server.scoring.service import open_service
from server.settings import Settings
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.monitored import monitored_bundle
from tests.support.servers import serving, system_tool

pytestmark = pytest.mark.whole

FOLDER = Path("monitoring/prometheus")
ROWS = sample_rows(THREE_FEATURES, 300, seed=4)
WORDS = {"$__rate_interval": "10s", "$instance": ".*"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("prometheus") / "three")


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector of an expression, now."""
        url = f"{self.url}/api/v1/query?query={urllib.parse.quote(expression)}"
        with urllib.request.urlopen(url, timeout=60) as response:
            found = json.loads(response.read())
        assert found["status"] == "success", found
        data = found["data"]
        if data["resultType"] == "scalar":
            return [{"value": data["result"]}]
        result: list[dict[str, Any]] = data["result"]
        return result

    def number(self, expression: str) -> float:
        """The value of an expression with one sample; 0 without."""
        return sum(float(sample["value"][1]) for sample in self.query(expression))

    def wait_for(self, expression: str, value: float, seconds: float = 60.0) -> float:
        """The value of an expression, once it is this one or time is up."""
        end = time.monotonic() + seconds
        while (found := self.number(expression)) != value and time.monotonic() < end:
            time.sleep(0.2)
        return found


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Prometheus]:
    """Our configuration with this target, scraped and evaluated each second."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    del config["alerting"]
    config["rule_files"] = [str((FOLDER / file).resolve()) for file in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target.removeprefix("http://")]
    file, address = folder / "prometheus.yml", f"127.0.0.1:{free_port()}"
    file.write_text(yaml.safe_dump(config))
    command = [
        system_tool("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with open(folder / "prometheus.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_ready(f"http://{address}/-/ready")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_until_ready(url: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("Prometheus did not start")


def _expressions(kind: str) -> list[str]:
    """Every expression of the rules, the alerts (without what compares) and the dashboard."""
    if kind == "dashboard":
        board = json.loads(FILE.read_text())
        found = [t["expr"] for panel in board["panels"] for t in panel.get("targets", [])]
        for variable, value in WORDS.items():
            found = [expression.replace(variable, value) for expression in found]
        return found
    groups = yaml.safe_load((FOLDER / f"{kind}.yml").read_text())["groups"]
    found = [rule["expr"] for group in groups for rule in group["rules"]]
    # An alert that does not fire gives nothing; what it looks at must be there.
    return [re.sub(r"\s([<>]=?|==)\s", r" \1 bool ", expression) for expression in found]


@pytest.mark.parametrize("workers", [1, 4])
def test_prometheus_counts_what_the_clients_count_and_every_query_finds_data(
    bundle: Bundle, tmp_path: Path, workers: int
) -> None:
    with (
        serving(bundle.directory, tmp_path, "--workers", str(workers)) as subject,
        prometheus(subject.url, tmp_path) as judge,
    ):
        with Load(subject.url, scored([bundle], ROWS), pause=0.02) as clients:
            clients.wait_for(1000)
            assert not _without_data(judge)
        _totals_are_equal(judge, clients)
        workers_seen = judge.query("hotrow_worker_resident_memory_bytes")
        assert len(workers_seen) == workers


def _without_data(judge: Prometheus, seconds: float = 120.0) -> list[str]:
    """The expressions that found none until now: a rate does once there were two scrapes within 10 s."""
    left = [expression for kind in ("rules", "alerts", "dashboard") for expression in _expressions(kind)]
    of_commands = ("hotrow_outcome", "hotrow_offline")
    left = [expression for expression in left if not any(name in expression for name in of_commands)]
    end = time.monotonic() + seconds
    while (left := [expression for expression in left if not judge.query(expression)]) and (
        time.monotonic() < end
    ):
        time.sleep(0.2)
    return left


def _totals_are_equal(judge: Prometheus, clients: Load) -> None:
    sent = clients.records.ok
    assert clients.records.sent == sent
    for expression in (
        'sum(hotrow_request_duration_seconds_count{route="/predict",method="POST",code="200"})',
        'sum(hotrow_request_duration_seconds_bucket{route="/predict",le="+Inf"})',
        "sum(hotrow_predictions_total)",
        "sum(hotrow_probability_count)",
    ):
        assert judge.wait_for(expression, sent) == sent, expression


@pytest.mark.parametrize("kind", ["rules", "alerts", "dashboard"])
def test_every_expression_is_promql(kind: str) -> None:
    expressions = _expressions(kind)
    assert expressions
    for expression in expressions:
        promql_parser.parse(expression)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint=all", "rules.yml", "alerts.yml"),
        ("test", "rules", "alerts_test.yml", "alerts_hours_test.yml"),
    ],
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [system_tool("promtool"), *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_looked_at_are_all_routes_that_answer_rows(bundle: Bundle, tmp_path: Path) -> None:
    settings = Settings(model=(bundle.directory,), log_dir=tmp_path, log_mode="off")
    app = create_app(open_service(settings, [bundle]))
    endpoints = (predict, predict_batch, explain, infer)
    routes = [route for route in app.routes if isinstance(route, Route)]
    labels = {route_label(re.sub("{.*?}", "x", r.path)) for r in routes if r.endpoint in endpoints}
    others = {route_label(re.sub("{.*?}", "x", r.path)) for r in routes if r.endpoint not in endpoints}
    assert labels == set(SCORING_ROUTES)
    assert not others & labels


def test_rules_and_dashboard_look_at_all_scoring_routes_and_at_no_other() -> None:
    for kind in ("rules", "alerts", "dashboard"):
        for expression in _expressions(kind):
            for matcher in re.findall(r'route=~"([^"]*)"', expression):
                assert matcher == "|".join(SCORING_ROUTES), expression
    assert sum("route=~" in expression for expression in _expressions("rules")) >= 12


def test_what_alerts_count_is_there_before_the_first_request(bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle.directory, tmp_path) as subject:
        samples = scrape(subject.url)
    counts = "hotrow_request_duration_seconds_count"
    for route in SCORING_ROUTES:
        for code in ("200", "422", "500", "503"):
            labels = frozenset({"route": route, "method": "POST", "code": code}.items())
            assert samples[counts, labels] == 0.0


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    alerts = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    names = {rule["alert"] for group in alerts for rule in group["rules"]}
    files = ("alerts_test.yml", "alerts_hours_test.yml")
    tests = [test for file in files for test in yaml.safe_load((FOLDER / file).read_text())["tests"]]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names


def test_every_alert_says_where_and_what_to_do() -> None:
    alerts = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in (rule for group in alerts for rule in group["rules"]):
        assert set(rule["annotations"]) == {"summary", "action"}
        # Whoever is woken has the text before them, and not always the labels.
        assert re.search(r"\$labels\.(instance|model)", rule["annotations"]["summary"]), rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_operators_rules_are_those_of_prometheus_and_written_by_their_script() -> None:
    text = operator_rules.FILE.read_text(encoding="utf-8")
    assert text == operator_rules.build(), "run `python -m monitoring.operator_rules`"
    files = [yaml.safe_load((FOLDER / f"{kind}.yml").read_text())["groups"] for kind in ("rules", "alerts")]
    assert yaml.safe_load(text)["spec"]["groups"] == [group for groups in files for group in groups]


def test_the_committed_dashboard_is_what_its_script_writes() -> None:
    assert FILE.read_text(encoding="utf-8") == build(), "run `python -m monitoring.dashboard`"


def test_the_dashboard_has_what_grafana_asks_of_one() -> None:
    board = json.loads(FILE.read_text())
    panels = board["panels"]
    assert board["uid"] == "hotrow"
    assert board["schemaVersion"] >= 39
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels if "targets" in panel} == {"${source}"}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
