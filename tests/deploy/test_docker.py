"""The images: the Dockerfile is linted, and its steps are executed without Docker until it is healthy."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.licences import locked
from tests.support.docker_steps import EXTRAS, parse
from tests.support.root import apart

pytestmark = pytest.mark.whole

TARGETS = ("api", "ui")
DOCKERFILE = Path("Dockerfile").read_text()
API_LIMIT_BYTES = 200_000_000


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of building and starting both targets."""
    return built(tmp_path_factory.mktemp("layers"), *TARGETS)


def built(folder: Path, *words: str) -> dict[str, Any]:
    """What came of building and starting targets, with build arguments."""
    done = apart("-m", "tests.support.docker_steps", str(folder), *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_health_check_passes_as_an_ordinary_user_on_a_read_only_root_without_a_network(
    reports: dict[str, Any], target: str
) -> None:
    report = reports[target]
    assert report["healthy"]
    assert report["uid"] == "1000"
    assert report["capabilities"] == 0
    assert report["can_write"] == []


@pytest.mark.parametrize("target", TARGETS)
def test_container_scores_logs_and_ends_with_its_stop_signal(reports: dict[str, Any], target: str) -> None:
    report = reports[target]
    status, body = report["answers"]["/predict"]
    assert status == 200
    assert json.loads(body)["model"] == "credit@3"
    assert report["exit_code"] == 0
    assert report["log_lines"] >= 1


def test_page_is_in_one_image_and_reasons_in_both(reports: dict[str, Any]) -> None:
    assert [reports[t]["answers"]["/"][0] for t in TARGETS] == [404, 200]
    assert [reports[t]["answers"]["/explain"][0] for t in TARGETS] == [200, 200]


def test_api_image_holds_at_most_200_mb_of_packages(reports: dict[str, Any]) -> None:
    report = reports["api"]
    assert sum(report["packages"].values()) <= report["environment_bytes"] <= API_LIMIT_BYTES
    assert not set(report["packages"]) & {"pip", "setuptools", "lightgbm", "gradio", "pandas", "scipy"}
    assert set(report["packages"]) <= set(locked("requirements/server.txt"))


def test_extras_are_in_an_image_that_is_asked_for_them(reports: dict[str, Any], tmp_path: Path) -> None:
    assert [reports[target]["imports"] for target in TARGETS] == [[], []]
    report = built(tmp_path, "api", "EXTRAS=arrow compiled grpc otel")["api"]
    assert report["imports"] == list(EXTRAS)
    assert report["healthy"]
    assert report["answers"]["/predict"][0] == 200
    extras = ("server", "arrow", "compiled", "grpc", "otel")
    pinned = {name for extra in extras for name in locked(f"requirements/{extra}.txt")}
    assert set(report["packages"]) <= pinned


@pytest.mark.parametrize("target", TARGETS)
def test_image_holds_no_pickle_no_tests_and_no_tools(reports: dict[str, Any], target: str) -> None:
    files = [Path(file) for file in reports[target]["files"]]
    assert {file.parts[0] for file in files} <= {"server", "ui", "models"}
    assert not [file for file in files if file.suffix in (".pkl", ".pickle", ".joblib")]


@pytest.mark.parametrize("target", TARGETS)
def test_profiler_reads_a_server_with_its_one_capability_and_not_without(
    reports: dict[str, Any], target: str
) -> None:
    assert reports[target]["recorded"] == [True, False]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_base_image_is_pinned_by_digest_once() -> None:
    plan = parse(DOCKERFILE)
    bases = [base for base, _ in plan.values() if base not in plan]
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", bases[0])


def test_commands_are_in_exec_form_and_the_stages_end_as_an_ordinary_user() -> None:
    plan = parse(DOCKERFILE)
    for target in TARGETS:
        steps = {step.instruction: step.value for step in plan[target][1]}
        assert json.loads(steps["ENTRYPOINT"])[:2] == ["python", "-m"]
        assert steps["USER"] == "1000"
    assert list(plan)[-1] == "ui", "Hugging Face Spaces builds the last stage"
