"""`python -m monitoring.operator_rules`: our rules and alerts as the Prometheus operator's PrometheusRule."""

from pathlib import Path

RULES = (Path("monitoring/prometheus/rules.yml"), Path("monitoring/prometheus/alerts.yml"))
FILE = Path("deploy/kubernetes/overlays/monitored/prometheus-rule.yaml")
_HEAD = """\
# Written by `python -m monitoring.operator_rules` from monitoring/prometheus/rules.yml and alerts.yml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: hotrow
spec:
  groups:
"""


def build() -> str:
    """The manifest: the groups of both files as they are written there, comments and all."""
    return _HEAD + "".join(_groups(file) for file in RULES)


def _groups(file: Path) -> str:
    _, _, groups = file.read_text(encoding="utf-8").partition("\ngroups:\n")
    assert groups, f"{file} has no groups"
    return "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))


if __name__ == "__main__":
    FILE.write_text(build(), encoding="utf-8")
