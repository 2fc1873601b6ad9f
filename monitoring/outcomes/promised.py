"""What outcomes tell of a model beside what its training promised, as it is kept beside the log."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from monitoring.errors import LogError
from monitoring.outcomes.binary import promised_auc
from monitoring.outcomes.judged import MIN_OUTCOMES
from monitoring.outcomes.measures import Interval
from monitoring.outcomes.reported import OutcomeReport
from server.metrics.measured import Measured, MeasuredFigure, Verdict, keep_measured
from server.metrics.outcome_gauges import outcome_families
from server.model.bundle import Bundle


def measured_of(report: OutcomeReport, bundle: Bundle) -> Measured:
    """The figures of all decisions, what training promised of them, and the verdict, as of now."""
    whole = report.whole
    figures = dict(whole.figures) if whole else {}
    if promise := report.expected:
        figures |= {"expected_auc": promise.auc, "expected_rate": promise.rate, "expected_cost": promise.cost}
    return Measured(
        model=report.model,
        at=datetime.now(UTC),
        decisions=report.decisions,
        joined=whole.n if whole else 0,
        verdict=_verdict(report),
        figures=_told(figures),
        promised=_told(_promised(bundle, whole is not None and report.accepted == whole.n)),
    )


def keep(paths: list[Path], measured: Measured) -> None:
    """Keep figures in the one folder of a log; raises `LogError`."""
    if len(paths) != 1 or not paths[0].is_dir():
        got = ", ".join(map(str, paths))
        raise LogError(
            f"expected one folder for --keep, got {got}: "
            "name the server's HOTROW_LOG_DIR, where it looks for them"
        )
    try:
        keep_measured(paths[0], measured)
    except OSError as error:
        raise LogError(f"expected to write in {paths[0]}, got: {error.strerror}") from None


def outcome_gauges(measured: Measured) -> CollectorRegistry:
    """The figures as gauges."""
    registry = CollectorRegistry()
    registry.register(_Families(list(outcome_families([measured]))))
    return registry


class _Families(Collector):
    """Some families, for a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _verdict(report: OutcomeReport) -> Verdict:
    if report.worse:
        return "worse"
    if report.whole is None:
        return "no outcomes"
    return "too few" if report.whole.n < MIN_OUTCOMES else "as promised"


def _told(figures: Mapping[str, Interval]) -> dict[str, MeasuredFigure]:
    """The figures that can be told, with the ends that can be."""
    return {
        name: MeasuredFigure(one.value, _or_none(one.low), _or_none(one.high))
        for name, one in figures.items()
        if math.isfinite(one.value)
    }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _promised(bundle: Bundle, is_accepted_alone: bool) -> dict[str, Interval]:
    """The held-out figures that those of outcomes may be put beside.

    Where those who were refused have no outcomes that is the AUC alone, of those accepted.
    """
    evaluation = bundle.manifest.get("evaluation", {})
    held, values = evaluation.get("held_out", {}), evaluation.get("values", {})
    classes = evaluation.get("classes", {})
    found = {"auc": promised_auc(bundle, is_accepted_alone)} if held else {}
    single = {
        "mae": values.get("mean_absolute_error"),
        "rmse": values.get("root_mean_squared_error"),
        "bias": values.get("bias"),
        "accuracy": classes.get("accuracy"),
        "log_loss": classes.get("log_loss"),
    }
    if held and not is_accepted_alone:
        single |= {"brier": held.get("brier"), "cost": held.get("cost", {}).get("model")}
    return found | {name: Interval(float(value)) for name, value in single.items() if value is not None}
