"""One look at the metrics, and what two looks say of the time between them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from prometheus_client.core import Metric

K = TypeVar("K")

PREDICT = "/predict"
_VALUES, _ABSENCE, _SCORE = "hotrow_feature_psi", "hotrow_feature_missing_psi", "hotrow_score_psi"
_UNSEEN = "hotrow_feature_unseen_ratio"
_UNSEEN_PSI, _UNSEEN_LIMIT = "hotrow_feature_unseen_psi", "hotrow_feature_unseen_psi_limit"
_SHIFTS = {name: name + "_limit" for name in (_VALUES, _ABSENCE, _SCORE)}
_DRIFT = frozenset({*_SHIFTS, *_SHIFTS.values(), _UNSEEN, _UNSEEN_PSI, _UNSEEN_LIMIT})


class Shifted(NamedTuple):
    """One PSI and what it is judged against, infinite for too few rows.

    It is of a feature's values, of their being missing or not, or, with `feature`
    "", of the score; `unseen` is the share of the values that training never saw.
    """

    feature: str
    missing: bool
    psi: float
    limit: float
    unseen: float = 0.0

    @property
    def strength(self) -> float:
        """The PSI in limits: drift above 1, 0 if it is not judged."""
        return self.psi / self.limit


@dataclass
class MetricsSample:
    """The figures of `/metrics` at one moment, summed as they are there.

    `durations` are the cumulative counts of `/predict` by upper bound in seconds,
    `scores` those of the model's probabilities. `arms` are the rows that each version of the
    model answered, `challengers` by name what became of the rows that each scored beside it.
    `answered` are requests by route and code.
    """

    at: float
    requests: float = 0.0
    failed: float = 0.0
    durations: dict[float, float] = field(default_factory=dict)
    scores: dict[float, float] = field(default_factory=dict)
    decisions: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    drift_figures: dict[tuple[str, str], float] = field(default_factory=dict)
    arms: dict[str, float] = field(default_factory=dict)
    challengers: dict[str, dict[str, float]] = field(default_factory=dict)
    single: dict[str, float] = field(default_factory=dict)
    answered: dict[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, families: Iterable[Metric], at: float, model: str) -> "MetricsSample":
        """What the families of a metrics page say of one model, `name@version`."""
        look = cls(at)
        for family in families:
            for sample in family.samples:
                look._take(sample.name, sample.labels, sample.value, model)
        return look

    @property
    def drift(self) -> list[Shifted]:
        """What the drift figures say, each of them once."""
        figures = self.drift_figures
        return [
            Shifted(
                feature,
                name == _ABSENCE,
                psi,
                figures.get((_SHIFTS[name], feature), float("inf")),
                figures.get((_UNSEEN, feature), 0.0) if name == _VALUES else 0.0,
            )
            for (name, feature), psi in figures.items()
            if name in _SHIFTS
        ]

    @property
    def unseen(self) -> list[Shifted]:
        """How far the values go that training never saw, by feature."""
        figures = self.drift_figures
        return [
            Shifted(feature, False, psi, figures.get((_UNSEEN_LIMIT, feature), float("inf")))
            for (name, feature), psi in figures.items()
            if name == _UNSEEN_PSI
        ]

    def _take(self, name: str, labels: Mapping[str, str], value: float, model: str) -> None:
        match name:
            case "hotrow_request_duration_seconds_count":
                self._take_requests(labels, value)
            case "hotrow_request_duration_seconds_bucket":
                if labels["route"] == PREDICT and labels["code"] == "200":
                    _add(self.durations, float(labels["le"]), value)
            case "hotrow_predictions_total":
                self._take_predictions(labels, value, model)
            case "hotrow_worker_cpu_seconds_total":
                self.cpu[labels["worker"]] = value
            case "hotrow_worker_resident_memory_bytes":
                self.memory[labels["worker"]] = value
            case "hotrow_shed_total" | "hotrow_log_dropped_total":
                _add(self.single, name, value)
            case _ if not labels or labels.get("model") == model:
                self._take_of_model(name, labels, value)

    def _take_requests(self, labels: Mapping[str, str], value: float) -> None:
        self.requests += value
        self.failed += value if labels["code"] not in ("200", "other") else 0.0
        if value:
            _add(self.answered, (labels["route"], labels["code"]), value)

    def _take_predictions(self, labels: Mapping[str, str], value: float, model: str) -> None:
        label = labels["model"]
        if label == model:
            self.decisions[labels["decision"]] = value
        if label.rpartition("@")[0] == model.rpartition("@")[0]:
            _add(self.arms, label, value)

    def _take_of_model(self, name: str, labels: Mapping[str, str], value: float) -> None:
        if name == "hotrow_probability_bucket":
            self.scores[float(labels["le"])] = value
        elif name == "hotrow_challenger_rows_total":
            self.challengers.setdefault(labels["challenger"], {})[labels["result"]] = value
        elif name in _DRIFT:
            self.drift_figures[name, labels.get("feature", "")] = value
        else:
            self.single[name] = value


def _add(sums: dict[K, float], key: K, value: float) -> None:
    sums[key] = sums.get(key, 0.0) + value


def grown(before: Mapping[float, float], after: Mapping[float, float]) -> list[tuple[float, float]]:
    """What was counted between two looks, by upper bound: a histogram that is not cumulative."""
    bounds = sorted(after)
    sums = [after[bound] - before.get(bound, 0.0) for bound in bounds]
    steps = [high - low for low, high in zip([0.0, *sums], sums, strict=False)]
    return list(zip(bounds, steps, strict=True))


def quantile(histogram: Sequence[tuple[float, float]], share: float) -> float | None:
    """The value under which `share` of the observations lie, None if there are none.

    Between two bounds a straight line is taken, as PromQL's histogram_quantile does.
    """
    total = sum(count for _, count in histogram)
    if not total:
        return None
    wanted, low = share * total, 0.0
    for bound, count in histogram:
        if count and wanted <= count:
            return low if bound == float("inf") else low + (bound - low) * wanted / count
        wanted -= count
        low = bound if bound != float("inf") else low
    return low
