"""Offline drift as gauges, in a file for Prometheus's textfile collector (node_exporter)."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from monitoring.drift.comparison import DriftReport


def write_drift(drift: DriftReport, file: Path) -> None:
    """PSI and limit of every column, and the number of findings; the file is whole, or as it was."""
    registry = CollectorRegistry()
    psi, limit = (
        Gauge(f"hotrow_offline_feature_{name}", meaning, ["model", "feature"], registry=registry)
        for name, meaning in (
            ("psi", "PSI of a column of the log, or the score, against training."),
            ("psi_limit", "The PSI above which it is drift."),
        )
    )
    found = Gauge("hotrow_offline_drift_findings", "What drifted in the log.", ["model"], registry=registry)
    for column in drift.columns:
        psi.labels(drift.model, column.name).set(column.values.psi)
        limit.labels(drift.model, column.name).set(column.values.limit)
    found.labels(drift.model).set(len(drift.found))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(file), registry)
