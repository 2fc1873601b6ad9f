"""What one worker answers with: models opened and verified, their counters and their log."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from server.bundle import Bundle
from server.errors import NotFound
from server.explain import Explainer
from server.metrics import Layout, MetricsPage, SharedMetrics, WorkerMetrics
from server.prediction_log import PredictionLog
from server.reference import Reference
from server.rows import RowsScorer
from server.scorer import Scorer, make_scorer
from server.settings import Settings


@dataclass
class Service:
    """Everything one worker answers with; found by the routes at `app.state.service`."""

    settings: Settings
    scorers: list[Scorer]
    rows: list[RowsScorer]
    metrics: WorkerMetrics
    page: MetricsPage
    log: PredictionLog | None
    explainer: Explainer
    ready: bool = False

    @property
    def default(self) -> Scorer:
        """The model that answers `/predict`."""
        return self.scorers[0]

    async def close(self) -> None:
        """End what the service started: the explainer's process and the log, every line written."""
        await self.explainer.close()
        if self.log is not None:
            self.log.stop()
            await asyncio.to_thread(self.log.close)

    def versions(self, name: str) -> Iterator[RowsScorer]:
        """Every served version of a model, in the order of the settings."""
        return (rows for rows in self.rows if rows.bundle.name == name)

    def find(self, name: str, version: str | None) -> RowsScorer:
        """A model by name, and version if one is asked for; raises `NotFound`."""
        for rows in self.versions(name):
            if version in (None, rows.bundle.version):
                return rows
        raise NotFound(
            "expected a model that is served, got another name or version: see /v2/repository/index"
        )


def open_bundles(settings: Settings) -> list[Bundle]:
    """Load the bundles the settings name, hashes checked; raises `BundleError`."""
    return [Bundle.load(directory) for directory in settings.model]


def share_metrics(bundles: Sequence[Bundle], workers: int) -> SharedMetrics:
    """The counters of all workers; called once, before the first fork."""
    models = [(b.label, b.outcomes) for b in bundles]
    references = {b.label: reference for b in bundles if (reference := Reference.of(b)) is not None}
    return SharedMetrics(Layout(models, references), workers)


def open_service(
    settings: Settings, bundles: Sequence[Bundle], shared: SharedMetrics, worker: int = 0
) -> Service:
    """Load, warm up and self-test everything one worker needs.

    Raises `BundleError` when a golden row is off by a bit, and `SettingsError`
    when the prediction log cannot be opened.
    """
    metrics = WorkerMetrics(shared, worker)
    log = None
    if settings.log_mode != "off":
        log = PredictionLog.from_settings(settings, worker, metrics)
    scorers = [make_scorer(bundle, metrics, log) for bundle in bundles]
    for scorer in scorers:
        scorer.predictor.check_golden_rows()
    labels = [
        {"name": b.name, "version": b.version, "sha256": b.manifest["files"]["model.onnx"]} for b in bundles
    ]
    rows = [RowsScorer(scorer, metrics) for scorer in scorers]
    return Service(settings, scorers, rows, metrics, MetricsPage(shared, labels), log, Explainer(bundles[0]))
