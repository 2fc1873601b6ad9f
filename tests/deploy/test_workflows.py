"""The workflows: what GitHub and Hugging Face read, and which rights and actions they use."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from tests.support.docker_steps import parse

WORKFLOWS = sorted(Path(".github/workflows").glob("*.yml"))
TOOLS = Path(sys.executable).parent


def load(path: Path) -> dict[str, Any]:
    """A workflow; YAML 1.1 reads its key `on` as true."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def test_zizmor_finds_nothing() -> None:
    command = [str(TOOLS / "zizmor"), "--offline", "--persona", "auditor", "--no-ignores", ".github"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.whole  # the judge alone takes seconds to start
@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.dependabot", [Path(".github/dependabot.yml")]),
    ],
)
def test_files_are_what_github_reads(schema: str, files: list[Path]) -> None:
    done = subprocess.run(
        [TOOLS / "check-jsonschema", "--builtin-schema", schema, *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=str)
def test_actions_are_pinned_by_commit_and_jobs_may_read_alone(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        for step in job.get("steps", []):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step.get("uses", "a@" + "0" * 40)), step
            assert "@" not in step.get("run", "").replace("$@", ""), "a token may be in a URL"


def test_every_python_that_is_promised_is_tested() -> None:
    jobs = load(Path(".github/workflows/test.yml"))["jobs"]
    assert [row["python"] for row in jobs["check"]["strategy"]["matrix"]["include"]] == [
        "3.11",
        "3.12",
        "3.13",
    ]
    assert jobs["images"]["strategy"]["matrix"]["target"] == ["api", "ui"]
    assert "make gate" in [step.get("run") for step in jobs["gate"]["steps"]]


def test_a_release_is_tested_before_the_space_gets_it() -> None:
    jobs = load(Path(".github/workflows/release.yml"))["jobs"]
    assert jobs["space"]["needs"] == "test"
    assert jobs["test"]["uses"] == "$/.github/workflows/test.yml"


def test_the_space_is_told_the_port_of_the_image_it_builds() -> None:
    _, front, _ = Path("README.md").read_text().split("---\n", 2)
    space = yaml.safe_load(front)
    assert space["sdk"] == "docker"
    assert space["license"] == "apache-2.0"
    (name, (_, steps)) = list(parse(Path("Dockerfile").read_text()).items())[-1]
    assert name == "ui"
    assert ("ENV", f"HOTROW_PORT={space['app_port']}") in steps
    assert len(space["short_description"]) <= 60, "Hugging Face takes no longer one"
