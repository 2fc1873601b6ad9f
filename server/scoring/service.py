"""What one worker needs to answer: models, metrics, log, settings."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

from server.access.keys import Keys
from server.access.tls import Tls, tls_of
from server.access.watched import WatchedFiles
from server.compiled.backend import open_backend
from server.errors import NotFound, Reason, Unavailable
from server.log.prediction_log import PredictionLog, SharedLog
from server.metrics.collector import MetricsCollector
from server.metrics.exposition import Exposition
from server.metrics.layout import SlotLayout
from server.metrics.measured import MeasuredFile
from server.metrics.shared import SharedMetrics, WorkerMetrics
from server.model.arms import challenger_folder, challengers_of, split_of
from server.model.bundle import Bundle
from server.model.reference import read_reference
from server.model.schema import Feature
from server.scoring.bundles import open_bundles
from server.scoring.in_flight import Limiter
from server.scoring.many_rows import OpenBackend, RowsScorer
from server.scoring.one_row import Respond, Scorer
from server.scoring.row_backend import RowBackend
from server.scoring.served_model import ServedModel
from server.scoring.split import SplitRequests
from server.settings import Settings
from server.tracing.spans import Spans

#: More groups of a field are not counted: each is a series for every decision.
MAX_GROUPS = 16


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
    collector: MetricsCollector
    exposition: Exposition
    log: PredictionLog | None
    keys: Keys | None = None
    tls: Tls | None = None
    ready: bool = False
    reloads: bool = True
    watchers: list[Callable[[], None]] = field(default_factory=list)
    files: list[WatchedFiles] = field(default_factory=list)
    row_backends: list[RowBackend] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._read_arms()
        if self.keys is not None:
            self.files.append(WatchedFiles([self.keys.path], self._read_keys))
        if self.tls is not None:
            self.files.append(WatchedFiles(self.tls.paths, self.tls.read))

    def _read_arms(self) -> None:
        self.splits = splits_of(self.models)
        named = self.settings.challenger
        self.challengers = {bundle.label: challengers_of(bundle, named) for bundle in self.bundles}

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
        self._compile_rows()
        self.ready = True

    def _compile_rows(self) -> None:
        """Begin to have single rows scored by compiled trees, of these models alone."""
        for backend in self.row_backends:
            backend.cancel()
        if self.settings.row_backend == "auto":
            self.row_backends = [RowBackend(model.scorer) for model in self.models]

    def read_files(self) -> None:
        for files in self.files:
            files.read()

    @property
    def spans(self) -> Spans | None:
        """Which requests have a span; None if there are none, or there is no log to hand them on."""
        return self.log.spans if self.log is not None else None

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
        self._compile_rows()
        self._read_arms()
        self.collector.models = [model.info for model in models]
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
            paths[prefix + _version_path(model.bundle)] = model
        return paths

    def responders(self) -> Iterator[tuple[str, str, Respond]]:
        """What answers one row, with its path and query; of a path without a version either arm."""
        by_label = {model.bundle.label: model for model in self.models}
        for path, model in self.by_path().items():
            own, split = model.responders(), self.splits.get(model.bundle.label)
            if split is not None and not path.endswith(_version_path(model.bundle)):
                other = by_label[split.challenger.bundle.label].responders()
                own = {q: split.responder(own[q], other[q]) for q in own.keys() & other.keys()}
            yield from ((path, query, respond) for query, respond in own.items())

    def check_ready(self) -> None:
        """Raise `Unavailable` while the server is starting or draining."""
        if not self.ready:
            raise Unavailable("the server is starting or draining")

    def withdraw(self) -> None:
        """Say from now on that this worker is not ready: it is about to stop."""
        self.ready = False

    async def close(self) -> None:
        """End what the service started: the log, every line written."""
        for backend in self.row_backends:
            backend.cancel()
            await backend.made()
        if self.log is not None:
            self.log.stop()
            await asyncio.to_thread(self.log.close)

    def asked(self, names: Mapping[str, str]) -> ServedModel:
        """The model of the `name` (and `version`) in a path, or else the default; raises `NotFound`."""
        return self.find(names["name"], names.get("version")) if "name" in names else self.models[0]

    def challenger_of(self, names: Mapping[str, str], body: bytes, identity: bytes) -> ServedModel | None:
        """The challenger that answers a row sent to a path; None where the path's own model does.

        A path with a version in it is that version's.
        """
        if not self.splits or "version" in names:
            return None
        split = self.splits.get(self.asked(names).bundle.label)
        if split is None or not split.is_challengers(body, identity):
            return None
        return next(model for model in self.models if model.scorer is split.challenger)

    def arms(self) -> list[dict[str, Any]]:
        """Each champion with each challenger: what share is whose, and what became of the rows of both."""
        shared, found = self.metrics.shared, []
        totals = shared.totals()
        pairs = [(label, one) for label, several in self.challengers.items() for one in several]
        for label, challenger in pairs:
            slots = shared.layout.challengers.get((label, challenger.label))
            if slots is None:
                continue
            split = self.splits.get(label)
            if split is not None and split.challenger.bundle.label != challenger.label:
                split = None
            counts = {result: int(totals[slot]) for result, slot in slots.items()}
            found.append(
                {
                    "champion": label,
                    "challenger": challenger.label,
                    "digest": challenger.digest,
                    "share": split.share if split else 0.0,
                    "by": split.by if split else None,
                    "scored_beside": counts,
                }
            )
        return found

    def count_rejected(self, names: Mapping[str, str], fields: Iterable[tuple[str, Reason]]) -> None:
        """Count the fields, and why, that a row of the model in a path was rejected for, if there is one."""
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


def _version_path(bundle: Bundle) -> str:
    """What a path ends in that asks for this version of a model."""
    return f"/versions/{quote(bundle.version, safe='')}/predict"


def splits_of(models: Iterable[ServedModel]) -> dict[str, SplitRequests]:
    """The splits among served models, by the label of the champion."""
    by_folder = {model.bundle.directory.resolve(): model for model in models}
    return {
        model.bundle.label: SplitRequests(rule, by_folder[folder].scorer)
        for path, model in by_folder.items()
        if (folder := challenger_folder(path)) in by_folder and (rule := split_of(path)) is not None
    }


def share_metrics(settings: Settings, bundles: Sequence[Bundle], workers: int) -> SharedMetrics:
    """The counters of all workers; called once, before the first fork."""
    models = [(b.label, b.outcomes) for b in bundles]
    references = {b.label: reference for b in bundles if (reference := read_reference(b)) is not None}
    layout = SlotLayout(models, references)
    for bundle in bundles:
        _register_details(settings, bundle, layout)
    return SharedMetrics(layout, workers)


def register_models(settings: Settings, bundles: Sequence[Bundle], shared: SharedMetrics) -> None:
    """Give models that a reload brought their counters; raises `BundleError` if there is no room."""
    for bundle in bundles:
        shared.layout.register(bundle.label, bundle.outcomes, read_reference(bundle))
        _register_details(settings, bundle, shared.layout)


def _register_details(settings: Settings, bundle: Bundle, layout: SlotLayout) -> None:
    """Give a bundle's fields and groups their counters, and the challengers that can be read."""
    layout.register_fields(bundle.label, bundle.schema.names)
    layout.register_groups(bundle.label, watched_groups(bundle), bundle.outcomes)
    for challenger in challengers_of(bundle, settings.challenger):
        layout.register_challenger(bundle.label, challenger.label)


def watched_groups(bundle: Bundle) -> dict[str, tuple[str, ...]]:
    """The groups whose decisions are counted, by field: context, and features the description says to watch.

    Of a field with more than `MAX_GROUPS`, or of numbers, there are none.
    """
    asked = set(bundle.manifest.get("groups", ()))
    fields = [*bundle.context, *(f for f in bundle.schema.features if f.name in asked)]
    found = {field.name: _groups(field) for field in fields}
    return {name: groups for name, groups in found.items() if 0 < len(groups) <= MAX_GROUPS}


def _groups(field: Feature) -> tuple[str, ...]:
    if field.kind == "flag":
        return ("0", "1")
    return field.categories if field.kind == "category" else ()


def open_service(settings: Settings, bundles: Sequence[Bundle] | None = None) -> Service:
    """What a worker that is alone needs; raises as `open_bundles` and `open_worker` do."""
    if bundles is None:
        bundles = open_bundles(settings)
    return open_worker(settings, bundles, share_metrics(settings, bundles, 1))


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
    collector = MetricsCollector(shared, [model.info for model in models], MeasuredFile(settings.log_dir))
    tls = tls_of(settings)
    keys = Keys(settings.keys_file) if settings.keys_file is not None else None
    exposition = Exposition(collector.registry)
    return Service(settings, models, metrics, in_flight, collector, exposition, log, keys, tls)
