"""What one worker needs to answer: models, metrics, log, settings."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import quote

from server.access.keys import Keys
from server.access.tls import Tls, tls_of
from server.access.watched import WatchedFiles
from server.compiled.backend import open_backend
from server.errors import NotFound
from server.log.prediction_log import PredictionLog, SharedLog
from server.metrics.collector import MetricsCollector
from server.metrics.exposition import Exposition
from server.metrics.layout import SlotLayout
from server.metrics.shared import SharedMetrics, WorkerMetrics
from server.model.bundle import Bundle
from server.model.reference import read_reference
from server.scoring.bundles import open_bundles
from server.scoring.in_flight import Limiter
from server.scoring.many_rows import OpenBackend, RowsScorer
from server.scoring.one_row import Scorer
from server.scoring.served_model import ServedModel
from server.settings import Settings


@dataclass
class Service:
    """Everything one worker answers with; found by the routes at `app.state.service`.

    A reload replaces `models` as a whole, between two requests: a request takes
    what it needs from there once. `watchers` are told after it, and when the keys are
    others. `reloads` says whether new models are taken at all.
    """

    settings: Settings
    models: tuple[ServedModel, ...]
    metrics: WorkerMetrics
    in_flight: Limiter
    page: MetricsCollector
    exposition: Exposition
    log: PredictionLog | None
    keys: Keys | None = None
    tls: Tls | None = None
    ready: bool = False
    reloads: bool = True
    watchers: list[Callable[[], None]] = field(default_factory=list)
    files: list[WatchedFiles] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.keys is not None:
            self.files.append(WatchedFiles([self.keys.path], self._read_keys))
        if self.tls is not None:
            self.files.append(WatchedFiles(self.tls.paths, self.tls.read))

    def _read_keys(self) -> None:
        assert self.keys is not None
        self.keys.read()
        self._tell()

    def start(self) -> None:
        """Begin, on the running event loop."""
        if self.log is not None:
            self.log.start()
        for files in self.files:
            files.start()
        self.ready = True

    def read_files(self) -> None:
        """Read keys and certificates again."""
        for files in self.files:
            files.read()

    @property
    def default(self) -> Scorer:
        """The scorer of the model that answers `/predict`."""
        return self.models[0].scorer

    @property
    def bundles(self) -> list[Bundle]:
        """What is served, in the order of the settings."""
        return [model.bundle for model in self.models]

    @property
    def rows(self) -> list[RowsScorer]:
        """The scorers of whole requests, in the order of the settings."""
        return [model.rows for model in self.models]

    def use(self, models: tuple[ServedModel, ...]) -> None:
        """Answer with these models from now on."""
        self.models = models
        self.page.models = [model.info for model in models]
        self._tell()

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher()

    def by_path(self) -> dict[str, ServedModel]:
        """The model of every path that takes one row to decide, as clients would spell it."""
        paths = {"/predict": self.models[0]}
        for model in reversed(self.models):  # of a name without a version, the first counts
            prefix = f"/models/{quote(model.bundle.name, safe='')}"
            paths[f"{prefix}/predict"] = model
            paths[f"{prefix}/versions/{quote(model.bundle.version, safe='')}/predict"] = model
        return paths

    def withdraw(self) -> None:
        """Say from now on that this worker is not ready: it is about to stop."""
        self.ready = False

    async def close(self) -> None:
        """End what the service started: the log, every line written."""
        if self.log is not None:
            self.log.stop()
            await asyncio.to_thread(self.log.close)

    def asked(self, names: Mapping[str, str]) -> ServedModel:
        """The model of the `name` (and `version`) in a path, or else the default; raises `NotFound`."""
        return self.find(names["name"], names.get("version")) if "name" in names else self.models[0]

    def count_rejected(self, names: Mapping[str, str], fields: Iterable[str]) -> None:
        """Count the fields that a row of the model in a path was rejected for; none where there is none."""
        with suppress(NotFound):
            self.metrics.count_rejected(self.asked(names).bundle.label, fields)

    def versions(self, name: str) -> Iterator[ServedModel]:
        """Every served version of a model, in the order of the settings."""
        return (model for model in self.models if model.bundle.name == name)

    def find(self, name: str, version: str | None) -> ServedModel:
        """A model by name, and version if one is asked for; raises `NotFound`."""
        for model in self.versions(name):
            if version in (None, model.bundle.version):
                return model
        raise NotFound("expected a model that is served, got another name or version: see /models")


def share_metrics(bundles: Sequence[Bundle], workers: int) -> SharedMetrics:
    """The counters of all workers; called once, before the first fork."""
    models = [(b.label, b.outcomes) for b in bundles]
    references = {b.label: reference for b in bundles if (reference := read_reference(b)) is not None}
    layout = SlotLayout(models, references)
    for bundle in bundles:
        layout.register_fields(bundle.label, bundle.schema.names)
    return SharedMetrics(layout, workers)


def register_models(bundles: Sequence[Bundle], shared: SharedMetrics) -> None:
    """Give models that a reload brought their counters; raises `BundleError` if there is no room."""
    for bundle in bundles:
        shared.layout.register(bundle.label, bundle.outcomes, read_reference(bundle))
        shared.layout.register_fields(bundle.label, bundle.schema.names)


def open_service(settings: Settings, bundles: Sequence[Bundle] | None = None) -> Service:
    """What a worker that is alone needs; raises as `open_bundles` and `open_worker` do."""
    if bundles is None:
        bundles = open_bundles(settings)
    return open_worker(settings, bundles, share_metrics(bundles, 1))


def compiling(settings: Settings) -> OpenBackend | None:
    """What opens the backend of many rows, unless it is ONNX Runtime."""
    return partial(open_backend, "compiled") if settings.batch_backend == "compiled" else None


def open_worker(
    settings: Settings,
    bundles: Sequence[Bundle],
    shared: SharedMetrics,
    worker: int = 0,
    shared_log: SharedLog | None = None,
) -> Service:
    """Load, warm up and self-test everything one worker needs.

    Raises `BundleError` when a golden row is off by a bit, and `SettingsError`
    when the prediction log cannot be opened.
    """
    metrics = WorkerMetrics(shared, worker)
    log = None
    if settings.log_mode != "off":
        log = PredictionLog(settings, worker, metrics, shared_log)
    models = tuple(ServedModel(bundle, metrics, log, compiling(settings)) for bundle in bundles)
    in_flight = Limiter(
        settings.max_inflight, settings.max_batch_bytes, metrics.add_in_flight, metrics.shed("inflight")
    )
    page = MetricsCollector(shared, [model.info for model in models])
    tls = tls_of(settings)
    keys = Keys(settings.keys_file) if settings.keys_file is not None else None
    return Service(settings, models, metrics, in_flight, page, Exposition(page.registry), log, keys, tls)
