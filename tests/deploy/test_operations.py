"""The handbook: every alert has its section, and what it names is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

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
