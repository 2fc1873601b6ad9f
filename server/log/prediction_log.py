"""The prediction log as a worker sees it: what is answered goes into a ring, and that is all.

An observer process takes it from there (`server/log/observer.py`). Since the ring is
memory of its own, what was put into it outlives the worker. In the strict mode the
worker writes the line itself, before the response; the observer counts and syncs.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from server.errors import BundleError
from server.log.channel import Channel
from server.log.file import LogFile
from server.log.history import History
from server.log.input import LoggedInput
from server.log.instance_log import InstanceLog
from server.log.line import LineMaker
from server.log.mask import Masking
from server.log.masked import read_key
from server.log.observer_process import ObserverProcess
from server.log.ring import ADMITTED, CLOSED, FREE_BYTES, OPENED, SPAN, Event, LoggedResponse
from server.log.rotation import RetentionPolicy
from server.metrics.process_usage import ProcessUsage
from server.metrics.shared import SharedMetrics, WorkerMetrics
from server.model.arms import challengers_of
from server.model.bundle import Bundle
from server.settings import Settings
from server.tracing.settings import trace_settings
from server.tracing.spans import Spans

logger = logging.getLogger(__name__)

#: The observer of a server that was killed may hold the files until it has written their last lines.
PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 0.5


class SharedLog:
    """What all workers of a server have of the log: rings and an observer; made before the first fork.

    Raises `SettingsError` if a file cannot be written, or another server writes it.
    """

    def __init__(self, settings: Settings, metrics: SharedMetrics) -> None:
        self.settings = settings
        self.retention = RetentionPolicy(
            file_bytes=settings.log_file_bytes,
            file_seconds=settings.log_file_seconds,
            days=settings.log_keep_days,
            total_bytes=settings.log_total_bytes,
        )
        self.masking = Masking(dict(settings.log_mask), read_key(settings.log_key_file, settings.log_dir))
        for slot in range(settings.workers):
            LogFile(self.path(slot), self.retention, PATIENCE_SECONDS).close()
        layout = metrics.layout
        self.tracing = trace_settings(os.environ)
        self.channel = Channel.make(
            metrics.workers,
            settings.log_queue_bytes,
            {
                "directory": os.fspath(settings.log_dir.resolve()),
                "server": str(settings.port),
                "strict": settings.log_mode == "strict",
                "compiled_lines": settings.line_backend == "auto",
                "retention": asdict(self.retention),
                "key_file": settings.log_key_file and os.fspath(settings.log_key_file.resolve()),
                "region_slots": layout.slots,
                "drop": [layout.dropped[reason] for reason in ("queue_full", "disk", "failed")],
                "history": layout.history_plan(),
                "tracing": layout.tracing_plan() if self.tracing else None,
            },
        )
        metrics.rings = self.channel.rings
        self.observer = ObserverProcess(self.channel, metrics.descriptor, metrics.count_observer_restart)

    def path(self, slot: int) -> Path:
        return self.settings.log_dir / f"predictions-{self.settings.port}-{slot}.jsonl"


class PredictionLog:
    """The log of the worker in a slot; for the event loop's thread.

    Without `shared` it makes what is to be shared, for itself, and looks after the
    observer. Raises `SettingsError` as `SharedLog`.
    """

    def __init__(
        self, settings: Settings, worker: int, metrics: WorkerMetrics, shared: SharedLog | None = None
    ) -> None:
        self._owns = shared is None
        self._shared = shared or SharedLog(settings, metrics.shared)
        self.strict = settings.log_mode == "strict"
        self.path = self._shared.path(worker)
        self._metrics = metrics
        self._slot = worker
        self._drift_window_rows = settings.drift_window_rows
        self._challengers = settings.challenger
        self._put = self._shared.channel.rings[worker].writer()
        self._file = LogFile(self.path, self._shared.retention) if self.strict else None
        self._usage = ProcessUsage(os.getpid())
        self._drop = metrics.dropped("queue_full")
        self._lines = 0
        tracing = self._shared.tracing
        #: Which requests have a span, and where it is noted; None if there are none.
        self.spans = Spans(self._put, SPAN, metrics.span_dropped, tracing.share) if tracing else None
        self._unsaid: list[tuple[int, int, int]] = []
        self._started = False
        self._head = 0
        self._timer: asyncio.TimerHandle | None = None

    def register(self, bundle: Bundle, name: str) -> InstanceLog:
        """Expect answers of this bundle whose ids begin with `name`; what takes them.

        Raises `SettingsError` if the bundle cannot be masked.
        """
        masking, descriptions = self._shared.masking, self._shared.channel.descriptions
        mask = masking.mask(bundle)
        model = descriptions.add_model(
            {
                **self._metrics.history_plan(bundle.label, bundle.outcomes),
                "digest": bundle.digest,
                "masked": masking.masked(bundle),
                "mask": masking.rules(bundle),
                "folder": os.fspath(bundle.directory.resolve()),
                "groups": self._metrics.groups_plan(bundle.label, masking.hidden(bundle)),
                "challengers": self._challenger_plans(bundle),
                "drift": self._metrics.drift_plan(
                    bundle.label, bundle.schema.names, masking.hidden(bundle), self._drift_window_rows
                ),
            }
        )
        descriptions.add_instance(name, os.getpid(), self._slot, model)
        instance, logged_input = int(name, 16), LoggedInput(bundle.schema)
        if self._started:
            self._say(ADMITTED, instance)
        write = self._writer(LineMaker(self._usage, mask)) if self.strict else None
        return InstanceLog(
            instance,
            self._put,
            self._drop,
            logged_input.of,
            logged_input.max_bytes,
            write,
        )

    def _challenger_plans(self, bundle: Bundle) -> list[dict[str, Any]]:
        """How the observer hands rows of this bundle on to its challengers."""

        def say(error: BundleError) -> None:
            logger.error("%s; %s does without this challenger.", error, bundle.label)

        challengers = challengers_of(bundle, self._challengers, say)
        plans = (self._metrics.challenger_plan(bundle.label, challenger) for challenger in challengers)
        return [plan for plan in plans if plan is not None]

    @property
    def history(self) -> History:
        """What the server did in the last 24 hours, as the observer tells it."""
        return self._shared.channel.history

    def start(self) -> None:
        """Begin; on the running event loop, which looks after the observer."""
        self._started = True
        self._say(OPENED, 0)
        if self._owns:
            self._shared.observer.start()
        self._look(asyncio.get_running_loop())

    def stop(self) -> None:
        """Take no more answers."""
        if self._timer is not None:
            self._timer.cancel()
        self._say_again()
        self._event(CLOSED, 0, self._metrics.lines_dropped("queue_full"), self._lines)
        if self._file is not None:
            self._file.close()

    def close(self) -> None:
        """Wait for an observer of ours until every line is written, or lost to the disk; after `stop`."""
        if self._owns:
            self._shared.observer.finish()

    def _writer(self, maker: LineMaker) -> Callable[[Sequence[LoggedResponse]], None]:
        """What has the kernel take the lines of some responses now; raises `OSError`."""
        file = self._file
        assert file is not None

        def write(responses: Sequence[LoggedResponse]) -> None:
            file.append([maker.lines(responses)])
            self._lines += len(responses)

        return write

    def _say(self, kind: int, instance: int) -> None:
        self._unsaid.append((kind, instance, self._metrics.lines_dropped("queue_full")))
        self._say_again()

    def _say_again(self) -> None:
        while self._unsaid and self._event(*self._unsaid[0]):
            self._unsaid.pop(0)

    def _event(self, kind: int, instance: int, dropped: int, lines: int = 0) -> bool:
        return Event(kind, instance, os.getpid(), lines, dropped).put(self._put)

    def _give_back(self) -> None:
        """Let go of the ring's memory that a burst took, a part at a time, once few answers come."""
        ring = self._shared.channel.rings[self._slot]
        head, self._head = self._head, ring.head
        if self._head - head < FREE_BYTES:
            ring.give_back()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._say_again()
            self._give_back()
            if self._owns:
                self._shared.observer.look_after()
        except Exception:
            logger.exception("The prediction log cannot be looked after; it is tried again.")
        finally:
            self._timer = loop.call_later(LOOK_SECONDS, self._look, loop)
