"""Several workers under gunicorn: each with its own socket, session, log file and counters.

The arbiter starts, watches and replaces the workers; a worker whose event loop
stands still misses its heartbeat and is replaced too. Each slot has a listening
socket, over which the kernel spreads connections evenly (`SO_REUSEPORT`).
"""

import ctypes
import gc
import mmap
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from server.app import create_app
from server.arbiter import HotrowArbiter
from server.bundle import Bundle
from server.draining import DrainingServer
from server.errors import HotrowError
from server.listeners import BACKLOG, address_of, bind
from server.reload import names
from server.serve import log_to_stderr, logger, protocol_of
from server.service import Service, admit_models, open_bundles, open_service, share_metrics
from server.settings import Settings

#: A worker that has not turned its event loop for this long is replaced.
HUNG_AFTER_SECONDS = 8
#: What a worker may take to load its models before that.
START_SECONDS = 30
#: During a rolling restart old and new workers run side by side.
SLOTS_PER_WORKER = 2
_PR_SET_PDEATHSIG = 1  # prctl(2)


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
    born: float  # monotonic seconds
    is_retired = False  # told to end
    sockets: list[socket.socket]

    def load_wsgi(self) -> None:
        """Open the models, the log and the fast door of this process."""
        application: WorkerApplication = self.app
        try:
            service = application.open_service(self.slot)
            self.config.http = protocol_of(service)
        except HotrowError as error:
            print(f"{error}.", file=sys.stderr, flush=True)
            # The first generation ends the server with it, a later one only itself.
            sys.exit(1 if self.generation else Arbiter.WORKER_BOOT_ERROR)
        self.wsgi = create_app(service)
        self.sockets = [self.sockets[self.slot % len(self.sockets)]]
        self._service = service

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = DrainingServer(self.config, self._service, is_last=self.app.is_stopping)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


class WorkerApplication(BaseApplication):  # type: ignore[misc]  # it has no type information
    """gunicorn, told what to run by our settings instead of a configuration file."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bundles = open_bundles(settings)
        self.generation = 0
        self._last_generation = 0
        slots = settings.workers * SLOTS_PER_WORKER
        self.metrics = share_metrics(self.bundles, slots)
        #: Which generation's worker is in each slot, -1 for none.
        self._slots = [-1] * slots
        # Held open here: a worker that dies leaves its backlog to its successor.
        self._listeners = bind(settings, count=settings.workers)
        self._address = address_of(self._listeners[0])
        self._stopping = mmap.mmap(-1, 1)  # shared with the workers by the fork
        super().__init__()

    def run(self) -> None:
        """Run the arbiter until it is told to stop."""
        HotrowArbiter(self).run()

    def use(self, bundles: list[Bundle]) -> None:
        """Start workers of a new generation, with these models, from now on; raises `BundleError`."""
        admit_models(bundles, self.metrics)
        self.bundles = bundles
        # Never a number that was taken: a generation that failed may still be ending.
        self._last_generation += 1
        self.generation = self._last_generation

    def stop(self) -> None:
        """Tell the workers that none of them will be replaced."""
        self._stopping[0] = 1

    def is_stopping(self) -> bool:
        """Whether the whole server stops, asked by a worker that does."""
        return bool(self._stopping[0])

    def load_config(self) -> None:
        """Set what gunicorn should do differently from its defaults."""
        settings = self.settings
        options: dict[str, Any] = {
            "bind": [f"fd://{listener.detach()}" for listener in self._listeners],
            "workers": settings.workers,
            "worker_class": HotrowWorker,
            "backlog": BACKLOG,
            "keepalive": round(settings.keep_alive_seconds),
            "timeout": HUNG_AFTER_SECONDS,
            "graceful_timeout": max(1, round(settings.drain_seconds)),
            "worker_tmp_dir": "/dev/shm" if Path("/dev/shm").is_dir() else None,
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
        return open_service(self.settings, self.bundles, self.metrics, slot)

    def _take_slot(self, _: Arbiter, worker: HotrowWorker) -> None:
        worker.slot = self._free_slot_at_the_emptiest_listener()
        self._slots[worker.slot] = self.generation
        worker.generation, worker.born = self.generation, time.monotonic()
        # gunicorn compares a monotonic clock with the file's time, which is the wall
        # clock's until the first heartbeat: a worker stuck before it would never be missed.
        deadline = time.monotonic() + START_SECONDS
        os.utime(worker.tmp.fileno(), (deadline, deadline))

    def _free_slot_at_the_emptiest_listener(self) -> int:
        # A listener without a worker would keep its share of the connections waiting for ever.
        listeners = self.settings.workers
        taken = [s % listeners for s, generation in enumerate(self._slots) if generation == self.generation]
        free = [slot for slot, generation in enumerate(self._slots) if generation == -1]
        return min(free, key=lambda slot: taken.count(slot % listeners))

    def _free_slot(self, arbiter: HotrowArbiter, worker: HotrowWorker) -> None:
        self._slots[worker.slot] = -1
        arbiter.ended(worker)

    def _say_ready(self, _: Arbiter) -> None:
        workers = self.settings.workers
        logger.info("Serving %s at %s with %d workers.", names(self.bundles), self._address, workers)


def serve_with_workers(settings: Settings) -> None:
    """Serve from `settings.workers` processes until SIGINT or SIGTERM.

    Raises `SettingsError` or `BundleError` if the server cannot start.
    """
    log_to_stderr()
    application = WorkerApplication(settings)
    gc.freeze()  # the collector would touch, and so copy, the pages shared by the fork
    application.run()


def _end_with_the_parent(_: Arbiter, worker: HotrowWorker) -> None:
    """Have the kernel end this worker when the arbiter dies, even by SIGKILL."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != worker.ppid:  # it died before the line above
        sys.exit(0)
