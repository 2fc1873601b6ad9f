"""What outcomes tell of models, as gauges: of a server, of a file for node_exporter and of a push."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from server.metrics.measured import FIGURES, Measured

_COUNTS = {
    "decisions": "Decisions in the log.",
    "joined": "Decisions with an outcome.",
    "worse": "1 if outcomes are worse than the model promised.",
    "measured_timestamp_seconds": "When outcomes were measured, since the epoch.",
}
_ENDS = {"": ".", "_low": ", lower end.", "_high": ", upper end."}


def outcome_families(models: Iterable[Measured]) -> Iterator[Metric]:
    """The gauges that there is a value of."""
    meanings = _COUNTS | {
        f"{name}{end}": meaning + words for name, meaning in FIGURES.items() for end, words in _ENDS.items()
    }
    families = {
        name: GaugeMetricFamily(f"hotrow_outcome_{name}", meaning, labels=("model",))
        for name, meaning in meanings.items()
    }
    for measured in models:
        for name, value in _values(measured):
            families[name].add_metric((measured.model,), value)
    yield from (family for family in families.values() if family.samples)


def _values(measured: Measured) -> Iterator[tuple[str, float]]:
    yield "decisions", measured.decisions
    yield "joined", measured.joined
    yield "worse", float(measured.verdict == "worse")
    yield "measured_timestamp_seconds", measured.at.timestamp()
    for name, figure in measured.figures.items():
        for end, value in zip(_ENDS, (figure.value, figure.low, figure.high), strict=True):
            if value is not None:
                yield f"{name}{end}", value
