"""Alerts of a real Prometheus come through a real Alertmanager to a webhook."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from loadtest.harness.subject import free_port
from tests.support.servers import system_tool

FOLDER = Path("monitoring/prometheus")
#: What a server and `monitoring outcomes` would say in bad times; the second target does not answer at all.
METRICS = """\
hotrow_drift_rows{model="credit@1"} 5000
hotrow_drift_independent_rows{model="credit@1"} 5000
hotrow_feature_psi{model="credit@1",feature="income"} 0.9
hotrow_feature_psi_limit{model="credit@1",feature="income"} 0.11
hotrow_feature_unseen_ratio{model="credit@1",feature="income"} 0.5
hotrow_score_psi{model="credit@1"} 0.9
hotrow_score_psi_limit{model="credit@1"} 0.11
hotrow_worker_resident_memory_bytes{worker="0"} 900000000
hotrow_observer_silent_seconds 120
hotrow_outcome_worse{model="credit@1"} 1
hotrow_offline_drift_findings{model="credit@1"} 2
hotrow_offline_feature_cost{model="credit@1",feature="age"} 0.03
hotrow_offline_feature_cost{model="credit@1",feature="income"} 0.12
hotrow_outcome_expected_cost{model="credit@1"} 0.5
"""
EXPECTED = {
    ("page", "HotrowDown"),
    ("page", "HotrowObserverDown"),
    ("page", "HotrowDriftCosts"),
    ("ticket", "HotrowFeatureDrifts"),
    ("ticket", "HotrowScoreDrifts"),
    ("ticket", "HotrowMemoryHigh"),
    ("ticket", "HotrowOutcomesWorse"),
    ("ticket", "HotrowLogDrifts"),
}


class Outside(ThreadingHTTPServer):
    """A page of metrics, and the webhooks that alerts come to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.came: set[tuple[str, str]] = set()
        self.summaries: dict[str, str] = {}
        self.address = f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Outside

    def do_GET(self) -> None:
        """The page."""
        self._answer(METRICS.encode())

    def do_POST(self) -> None:
        """A webhook, called by its severity."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        names = {(self.path.strip("/"), alert["labels"]["alertname"]) for alert in body["alerts"]}
        self.server.came |= names
        for alert in body["alerts"]:
            self.server.summaries[alert["labels"]["alertname"]] = alert["annotations"]["summary"]
        self._answer(b"")

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def outside() -> Iterator[Outside]:
    with Outside() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def running(*command: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.whole
def test_alerts_come_to_the_webhook_of_their_severity(outside: Outside, tmp_path: Path) -> None:
    """The committed files, but for addresses and waiting times."""
    manager, judge = (f"127.0.0.1:{free_port()}" for _ in range(2))
    routes = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())
    for route in (routes["route"], *routes["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    for receiver in routes["receivers"]:
        for hook in receiver["webhook_configs"]:
            hook["url"] = hook["url"].replace("alerts.example", outside.address)
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [manager]
    targets = [outside.address, f"127.0.0.1:{free_port()}"]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = targets
    alerts = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    for rule in (rule for group in alerts["groups"] for rule in group["rules"]):
        rule.pop("for", None)
    for name, content in {"alertmanager": routes, "prometheus": config, "alerts": alerts}.items():
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(content))
    (tmp_path / "rules.yml").write_text((FOLDER / "rules.yml").read_text())
    with (
        running(
            system_tool("prometheus-alertmanager"),
            f"--config.file={tmp_path / 'alertmanager.yml'}",
            f"--storage.path={tmp_path / 'alertmanager'}",
            f"--web.listen-address={manager}",
            "--cluster.listen-address=",
        ),
        running(
            system_tool("prometheus"),
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address={judge}",
        ),
    ):
        end = time.monotonic() + 180
        while not outside.came >= EXPECTED and time.monotonic() < end:
            time.sleep(0.1)
    assert outside.came >= EXPECTED
    assert {severity for severity, _ in outside.came} == {"page", "ticket"}
    assert outside.summaries["HotrowDriftCosts"].endswith("; income 0.12, age 0.03.")


def test_pages_and_tickets_have_a_receiver_each() -> None:
    routes = yaml.safe_load((FOLDER / "alertmanager.yml").read_text())
    named = {routes["route"]["receiver"], *(route["receiver"] for route in routes["route"]["routes"])}
    assert named == {receiver["name"] for receiver in routes["receivers"]}
    compose = yaml.safe_load(Path("deploy/compose.yaml").read_text())["services"]
    (target,) = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["alerting"]["alertmanagers"]
    host = target["static_configs"][0]["targets"][0].partition(":")[0]
    assert host in compose
