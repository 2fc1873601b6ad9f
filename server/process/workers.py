"""Several workers under gunicorn: each with its own socket, session, log file and counters.

The arbiter starts, watches and replaces the workers; a worker whose event loop
stands still misses its heartbeat and is replaced too. Each slot has a listening
socket, over which the kernel spreads connections evenly (`SO_REUSEPORT`).
"""

import ctypes
import gc
import logging
import math
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar, NoReturn

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers import base
from gunicorn.workers.workertmp import WorkerTmp
from starlette.types import ASGIApp
from uvicorn_worker import UvicornWorker

from server.compiled.kept import shared_cache
from server.errors import HotrowError
from server.log.prediction_log import SharedLog
from server.model.bundle import Bundle
from server.process.arbiter import END_SECONDS, HotrowArbiter, check_gunicorn
from server.process.busy_poll import check_busy_poll
from server.process.descriptors import check_descriptors
from server.process.draining import DrainingServer
from server.process.listeners import BACKLOG, address_of, bind
from server.process.memory import UnusedMemory, keep_no_large_blocks
from server.process.protocol import log_to_stderr, protocol_of, use_tls
from server.process.verdict import CHECK_SECONDS
from server.scoring.bundles import names, open_bundles
from server.scoring.row_backend import missing_libraries
from server.scoring.service import Service, open_worker, register_models, share_metrics
from server.settings import Settings

logger = logging.getLogger(__name__)

#: A worker that has not turned its event loop for this long is replaced.
HUNG_AFTER_SECONDS = 8
#: What a worker may take to load its models before that: as long as their check may.
START_SECONDS = CHECK_SECONDS
#: During a rolling restart old and new workers run side by side.
SLOTS_PER_WORKER = 2
_PR_SET_PDEATHSIG = 1  # prctl(2)
_STOPPING, _SERVED, _FIRST_SLOT = range(3)


class Heartbeat(WorkerTmp):  # type: ignore[misc]  # it has no type information
    """What a worker touches to show that it lives: in memory, so a full /dev/shm stops no worker."""

    def __init__(self, _: Any) -> None:
        self._tmp = os.fdopen(os.memfd_create("hotrow-heartbeat", os.MFD_CLOEXEC), "w+b", 0)


# gunicorn has a setting for the folder of that file, none for having no file.
base.WorkerTmp = Heartbeat


class HotrowWorker(UvicornWorker):  # type: ignore[misc]  # it has no type information
    """A worker that opens its own service after the fork."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "lifespan": "on",
        "access_log": False,
        "server_header": False,
        "log_level": "error",
    }
    slot: int
    generation: int
    retired_at: float | None = None  # monotonic seconds, once it is to end
    sockets: list[socket.socket]

    def init_process(self) -> None:
        """Start; what the system has not got, descriptors say, ends this worker and not the server."""
        try:
            super().init_process()
        except OSError:
            logger.exception("A worker could not start.")
            self._fail_to_start()

    def init_signals(self) -> None:
        """As gunicorn's, but SIGHUP to the whole process group asks the parent alone for a reload."""
        super().init_signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def load_wsgi(self) -> None:
        """Open the models, the log and the fast path of this process."""
        application: WorkerApplication = self.app
        try:
            service = application.open_service(self.slot)
            self.config.http = protocol_of(service)
            use_tls(self.config, service)
        except HotrowError as error:
            print(f"{error}.", file=sys.stderr, flush=True)
            self._fail_to_start()
        except Exception:  # of a server that serves, gunicorn would end all workers for it
            logger.exception("A worker could not start.")
            self._fail_to_start()
        self.config.timeout_graceful_shutdown = round(application.settings.drain_seconds)
        self.wsgi = application.make_app(service)
        self.sockets = [self.sockets[self.slot % len(self.sockets)]]
        self._service = service

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        application: WorkerApplication = self.app
        server = DrainingServer(
            self.config,
            accepting=lambda: application.serves(self.slot),
            stopping=self._service.withdraw,
            memory=UnusedMemory(lambda: self._service.in_flight.large_bodies),
            # Without a parent there is no successor either.
            is_last=lambda: application.is_stopping() or os.getppid() != self.ppid,
            busy_poll=application.settings.busy_poll,
        )
        self._install_sigquit_handler()
        try:
            await server.serve(sockets=self.sockets)
        except SystemExit:  # uvicorn's own, with the code that ends all workers
            self._fail_to_start()
        if not server.started:
            self._fail_to_start()

    def _fail_to_start(self) -> NoReturn:
        """End; and with this worker the server, if none of its workers has ever served."""
        sys.exit(1 if self.app.has_served() else Arbiter.WORKER_BOOT_ERROR)


class WorkerApplication(BaseApplication):  # type: ignore[misc]  # it has no type information
    """gunicorn, told what to run by our settings instead of a configuration file."""

    def __init__(self, settings: Settings, make_app: Callable[[Service], ASGIApp]) -> None:
        self.settings = settings
        self.make_app = make_app
        self.bundles = open_bundles(settings)
        self.generation = 0
        self._last_generation = 0
        slots = settings.workers * SLOTS_PER_WORKER
        self.metrics = share_metrics(settings, self.bundles, slots)
        self.log = SharedLog(settings, self.metrics) if settings.log_mode != "off" else None
        #: Which generation's worker is in each slot, -1 for none.
        self._slots = [-1] * slots
        self.starting: HotrowWorker | None = None
        # Held open here: a worker that dies leaves its backlog to its successor.
        self._listeners = bind(settings, count=settings.workers)
        scheme = "http" if settings.tls_cert is None else "https"
        self._address = address_of(self._listeners[0], scheme)
        # Shared with the workers by the fork: whether all stop, whether any has served,
        # and since when the worker in each slot serves, in monotonic seconds.
        self._shared = memoryview(mmap.mmap(-1, 8 * (slots + _FIRST_SLOT))).cast("d")
        super().__init__()

    def run(self) -> None:
        """Run the arbiter until it is told to stop."""
        HotrowArbiter(self).run()

    def use(self, bundles: list[Bundle]) -> None:
        """Start workers of a new generation, with these models, from now on; raises `BundleError`."""
        register_models(self.settings, bundles, self.metrics)
        self.bundles = bundles
        # Never a number that was taken: a generation that failed may still be ending.
        self._last_generation += 1
        self.generation = self._last_generation

    def stop(self) -> None:
        """Tell the workers that none of them will be replaced."""
        self._shared[_STOPPING] = 1.0

    def is_stopping(self) -> bool:
        """Whether the whole server stops, asked by a worker that does."""
        return bool(self._shared[_STOPPING])

    def serves(self, slot: int) -> None:
        """The worker in this slot serves from now on; said by itself."""
        self._shared[_FIRST_SLOT + slot] = time.monotonic()
        self._shared[_SERVED] = 1.0

    def has_served(self) -> bool:
        """Whether any worker has ever served."""
        return bool(self._shared[_SERVED])

    def serving_since(self, slot: int) -> float:
        """Since when the worker in this slot serves, in monotonic seconds; 0 if it does not yet."""
        return self._shared[_FIRST_SLOT + slot]

    def serves_everywhere(self) -> bool:
        """Whether each socket has a worker that serves."""
        listeners = self.settings.workers if self.settings.uds is None else 1
        serving = (slot for slot, taken in enumerate(self._slots) if taken != -1 and self.serving_since(slot))
        return len({slot % listeners for slot in serving}) == listeners

    def load_config(self) -> None:
        """Set what gunicorn should do differently from its defaults."""
        settings = self.settings
        options: dict[str, Any] = {
            "bind": [f"fd://{listener.detach()}" for listener in self._listeners],
            "workers": settings.workers,
            "worker_class": HotrowWorker,
            "backlog": BACKLOG,
            "keepalive": round(settings.keep_alive_seconds),
            "forwarded_allow_ips": settings.trusted_proxies,
            "timeout": HUNG_AFTER_SECONDS,
            "graceful_timeout": math.ceil(settings.drain_seconds + END_SECONDS),
            "control_socket_disable": True,
            "loglevel": "warning",
            "pre_fork": self._take_slot,
            "post_fork": _end_with_the_parent,
            "child_exit": self._free_slot,
            "when_ready": self._say_ready,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Nothing: each worker makes its own app in `load_wsgi`."""

    def open_service(self, slot: int) -> Service:
        """The service of the worker in this slot."""
        return open_worker(self.settings, self.bundles, self.metrics, slot, self.log)

    def forget_starting(self) -> None:
        """The worker that is being started could not be forked; it may have had its slot."""
        if self.starting is not None:
            self._slots[self.starting.slot] = -1
            self.starting.tmp.close()  # else a descriptor for each try, until the collector comes

    def _take_slot(self, _: Arbiter, worker: HotrowWorker) -> None:
        self.starting = worker
        worker.slot = self._free_slot_at_the_emptiest_listener()
        self._slots[worker.slot] = worker.generation = self.generation
        self._shared[_FIRST_SLOT + worker.slot] = 0.0
        # gunicorn compares a monotonic clock with the file's time, which is the wall
        # clock's until the first heartbeat: a worker stuck before it would never be missed.
        deadline = time.monotonic() + START_SECONDS
        os.utime(worker.tmp.fileno(), (deadline, deadline))

    def _free_slot_at_the_emptiest_listener(self) -> int:
        # A listener without a worker would keep its share of the connections waiting for ever.
        listeners = self.settings.workers if self.settings.uds is None else 1
        taken = [s % listeners for s, generation in enumerate(self._slots) if generation == self.generation]
        free = [slot for slot, generation in enumerate(self._slots) if generation == -1]
        return min(free, key=lambda slot: taken.count(slot % listeners))

    def _free_slot(self, arbiter: HotrowArbiter, worker: HotrowWorker) -> None:
        arbiter.ended(worker)
        self._slots[worker.slot] = -1
        self.metrics.clear_gauges(worker.slot)

    def _say_ready(self, _: Arbiter) -> None:
        workers = self.settings.workers
        logger.info("Serving %s at %s with %d workers.", names(self.bundles), self._address, workers)


def serve_with_workers(settings: Settings, make_app: Callable[[Service], ASGIApp]) -> None:
    """Serve by apps of `make_app` from `settings.workers` processes until SIGINT or SIGTERM.

    Raises `SettingsError` or `BundleError` if the server cannot start.
    """
    log_to_stderr()
    keep_no_large_blocks()
    check_gunicorn()
    check_busy_poll(settings)
    check_descriptors(settings)
    with nullcontext() if missing_libraries() else shared_cache():
        application = WorkerApplication(settings, make_app)
        gc.freeze()  # the collector would touch, and so copy, the pages shared by the fork
        if application.log is not None:
            application.log.observer.start()
        application.run()


def _end_with_the_parent(_: Arbiter, worker: HotrowWorker) -> None:
    """Have the kernel wake this worker when the arbiter dies, even by SIGKILL, and end then.

    SIGCONT, since a worker that is stopped takes no other signal: it would keep the port.
    """

    def end_if_orphaned(*_: Any) -> None:
        if os.getppid() != worker.ppid:
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGCONT, end_if_orphaned)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
    if os.getppid() != worker.ppid:  # it died before the line above
        sys.exit(0)
