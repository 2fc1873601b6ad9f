"""The commands of the load test, each run for a few seconds against a real server."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from loadtest.bench.servers import DEFAULT
from loadtest.harness.bodies import golden_bodies, http_requests
from loadtest.latency.open_loop import closed_loop, open_loop
from loadtest.latency.stall import stalled
from server.model.bundle import Bundle
from tests.support import patient
from tests.support.servers import run, serving

pytestmark = pytest.mark.whole

RATE = 500
STALL_SECONDS = 0.05


@pytest.fixture(scope="module")
def results(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder after one run named `one`."""
    folder = tmp_path_factory.mktemp("results")
    done = run(
        "-m",
        "loadtest",
        "run",
        "--model",
        str(three),
        "--seconds",
        "7",
        "--name",
        "one",
        "--results",
        str(folder),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agree on" in done.stdout
    return folder


def _summary(results: Path) -> dict[str, Any]:
    summary: dict[str, Any] = orjson.loads((results / "one" / "summary.json").read_bytes())
    return summary


def test_a_run_leaves_its_figures_reports_and_recordings(results: Path) -> None:
    assert {
        "index.html", "summary.json", "locust.html", "locust.json", "locust_stats.csv",
        "flamegraph.svg", "speedscope.json", "stacks.folded", "timeline.png",
    } <= {path.name for path in (results / "one").iterdir()}  # fmt: skip
    summary = _summary(results)
    assert summary["totals"]["requests"] > 0
    assert summary["totals"]["error_rate"] == 0
    assert 0 < summary["totals"]["p50_us"] <= summary["totals"]["p99_us"]
    assert summary["environment"]["cpu"]


def test_locust_and_the_server_count_the_same_requests(results: Path) -> None:
    counts = _summary(results)["counts"]
    assert counts["equal"]
    assert counts["locust"]["bad"] > 0
    assert counts["locust"]["failed"] == 0


def test_the_flame_graph_names_the_hot_path(results: Path) -> None:
    graph = (results / "one" / "flamegraph.svg").read_text()
    stacks = (results / "one" / "stacks.folded").read_text()
    for function in ("HotrowProtocol.data_received", "Scorer._respond"):
        assert function in graph
        assert function in stacks


def test_a_model_is_loaded_by_its_name_and_a_broken_limit_exits_with_1(server: str, tmp_path: Path) -> None:
    label = orjson.loads(patient.get(f"{server}/model").content)["name"]
    done = run(
        "-m", "loadtest", "run", "--url", f"{server}/models/{label}", "--seconds", "5", "--no-profile",
        "--users", "2", "--min-rps", "1e9", "--name", "named", "--results", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Limit broken: expected at least 1e+09 requests a second" in done.stdout
    summary = orjson.loads((tmp_path / "named" / "summary.json").read_bytes())
    assert summary["counts"]["locust"]["failed"] == 0
    assert summary["counts"]["locust"]["good"] > 0


def test_locusts_csv_keeps_fractions_of_a_millisecond(results: Path) -> None:
    heading, first, *_ = (results / "one" / "locust_stats.csv").read_text().splitlines()
    medians = dict(zip(heading.split(","), first.split(","), strict=True))
    assert "." in medians["Min Response Time"]
    assert "." in medians["50%"]


def test_a_comparison_is_one_page_without_a_network(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run("-m", "loadtest", "compare", "one", "one", "--html", str(page), "--results", str(results))
    assert done.returncode == 0, done.stderr
    assert "No difference" in done.stdout
    html = page.read_text()
    assert "Differential flame graph" in html
    assert 'src="' not in html.replace('src="data:', "")


def test_a_run_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    done = run("-m", "loadtest", "compare", "no", "where", "--results", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "expected the name of a run, got 'no': there are none.\n"


def test_a_stall_of_the_server_shows_in_the_p99_of_a_fixed_rate(three: Path, tmp_path: Path) -> None:
    """5 requests in 100 come while the server stands still for 50 ms; the worst of them waits all of it."""
    requests = http_requests(golden_bodies(Bundle.load(three)), "127.0.0.1")
    with serving(three, tmp_path) as subject, stalled(subject.pid, STALL_SECONDS):
        result = open_loop(subject.url, requests, RATE, 3.0)
        closed = closed_loop(subject.url, requests, 1.0, 4)
    assert result.failures == 0
    assert result.requests + result.unanswered == pytest.approx(RATE * 3, abs=2)
    assert result.corrected["p99_us"] > STALL_SECONDS * 1e6 / 2
    assert result.corrected["p999_us"] >= result.uncorrected["p999_us"]
    assert closed["max_us"] > STALL_SECONDS * 1e6 / 2


def test_a_stall_is_planted_by_an_option_and_shown_beside_a_closed_loop(three: Path) -> None:
    done = run(
        "-m", "loadtest", "open", "--model", str(three), "--rate", "300", "--seconds", "1", "--closed", "4",
        "--stall-ms", "50",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "closed loop" in done.stdout
    assert "stood still for 50 ms once a second" in done.stdout


@pytest.mark.skipif(
    shutil.which("wrk") is None and os.environ.get("CI") != "true",
    reason="wrk is not installed: run `make system`",
)
def test_the_bench_writes_the_keys_of_the_specification(three: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = run(
        "-m", "loadtest", "bench", "--model", str(three), "--rounds", "1", "--seconds", "1",
        "--open-seconds", "1", "--json", str(file),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = orjson.loads(file.read_bytes())
    assert set(document["cpu_us_per_request"]) - {"nginx"} == set(DEFAULT)  # that one where it is installed
    assert set(document["open_loop"]) == {"rate", "p50_us", "p99_us", "p999_us"}
    assert document["environment"]["packages"]["uvicorn"]
    assert "target at most" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_without_permission_py_spy_is_answered_with_what_to_grant(tmp_path: Path) -> None:
    script = "\n".join(
        [
            "from pathlib import Path",
            "from loadtest.loop.py_spy import NotPermitted, record",
            "try: record(1, 1.0, Path('x.json'))",
            "except NotPermitted as refusal: print(refusal)",
        ]
    )
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    done = subprocess.run(
        [*nobody, sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert "ptrace_scope" in done.stdout, done.stderr
    assert "SYS_PTRACE" in done.stdout
