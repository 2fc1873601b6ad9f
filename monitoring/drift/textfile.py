"""Offline drift as gauges, for Prometheus."""

from prometheus_client import CollectorRegistry, Gauge

from monitoring.drift.comparison import DriftReport


def drift_gauges(drift: DriftReport) -> CollectorRegistry:
    """PSI and limit of every column, what those that drifted cost, and the number of findings."""
    registry = CollectorRegistry()
    psi, limit = (
        Gauge(f"hotrow_offline_feature_{name}", meaning, ["model", "feature"], registry=registry)
        for name, meaning in (
            ("psi", "PSI of a column of the log, or the score, against training."),
            ("psi_limit", "The PSI above which it is drift."),
        )
    )
    cost = Gauge(
        "hotrow_offline_feature_cost",
        "What a decision costs more, as is to be expected, than with the feature as in training.",
        ["model", "feature"],
        registry=registry,
    )
    found = Gauge("hotrow_offline_drift_findings", "What drifted in the log.", ["model"], registry=registry)
    for column in drift.columns:
        psi.labels(drift.model, column.name).set(column.values.psi)
        limit.labels(drift.model, column.name).set(column.values.limit)
        cost.labels(drift.model, column.name).set(column.cost)
    found.labels(drift.model).set(len(drift.found))
    return registry
