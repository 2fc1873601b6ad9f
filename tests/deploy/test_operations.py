"""The handbook: every alert has its section, and what it names is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from loadtest.harness.worst_requests import WORKER_MB

HANDBOOK = Path("docs/operations.md").read_text(encoding="utf-8")
ALERTS = yaml.safe_load(Path("monitoring/prometheus/alerts.yml").read_text())["groups"]
SEVERITY = {rule["alert"]: rule["labels"]["severity"] for group in ALERTS for rule in group["rules"]}


def sections() -> dict[str, str]:
    """The text under each heading of the third level."""
    return dict(re.findall(r"^### (\S+)\n\n(.*?)(?=^##)", HANDBOOK, re.MULTILINE | re.DOTALL))


def test_every_alert_has_a_section_and_no_section_is_of_another() -> None:
    assert {name for name in sections() if name.startswith("Hotrow")} == set(SEVERITY)


@pytest.mark.parametrize("alert", SEVERITY)
def test_section_says_when_it_fires_and_what_to_do(alert: str) -> None:
    text = sections()[alert]
    assert text.startswith(f"*{SEVERITY[alert]}: ")
    assert len(text.split()) > 30, "a sentence is no help at night"


def test_files_and_commands_it_names_exist() -> None:
    for path in re.findall(r"(?:deploy|monitoring|requirements)/[\w./-]*\w", HANDBOOK):
        assert Path(path).exists(), path
    for module in set(re.findall(r"python -m ([\w.]+)", HANDBOOK)) - {"compileall"}:
        done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True)
        assert done.returncode == 0, module


def test_what_a_worker_is_given_follows_from_what_it_may_hold() -> None:
    _, _, text = Path("docs/scaling.md").read_text().partition("| of a worker, with the defaults")
    table, _, _ = text.partition("\n\n")
    rows = re.findall(r"^\| (.+) \| \**(\d+)\** \|$", table, re.MULTILINE)
    parts = {what: int(mib) for what, mib in rows}
    limit = next(mib for what, mib in parts.items() if "`limits.memory`" in what)
    together = parts.pop("**together**")
    held = [mib for what, mib in parts.items() if not what.startswith("**limit")]
    assert sum(held) == together < limit == WORKER_MB
    bases = ("deploy/kubernetes/base/deployment.yaml", "deploy/kubernetes/kserve/serving-runtime.yaml")
    for manifest in bases:
        assert f"limits: {{memory: {limit}Mi, " in Path(manifest).read_text()
    unit = Path("deploy/systemd/hotrow.service").read_text()
    (workers,) = re.findall(r"HOTROW_WORKERS=(\d+)", unit)
    assert f"MemoryMax={int(workers) * limit + 64}M" in unit
    alerts = Path("monitoring/prometheus/alerts.yml").read_text()
    (fires,) = re.findall(r"resident_memory_bytes > (\d+) \* 1024 \* 1024\n +for: 10m", alerts)
    assert together < int(fires) < limit
