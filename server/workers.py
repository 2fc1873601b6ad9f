"""Several workers under gunicorn: each with its own socket, session, log file and counters.

gunicorn starts, watches and replaces the workers; a worker whose event loop
stands still misses its heartbeat and is replaced too. `SO_REUSEPORT` lets the
kernel spread connections evenly.
"""

import ctypes
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any, ClassVar

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from server.app import create_app, open_bundles, open_service, share_metrics
from server.errors import HotrowError
from server.serve import BACKLOG, KEEP_ALIVE_SECONDS, bind, log_to_stderr, logger, protocol_of
from server.settings import Settings

#: A worker that has not turned its event loop for this long is replaced.
HUNG_AFTER_SECONDS = 8
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
        "log_level": "warning",
    }
    slot: int

    def load_wsgi(self) -> None:
        """Open the models, the log and the fast door of this process."""
        application: WorkerApplication = self.app
        try:
            service = application.open_service(self.slot)
            self.config.http = protocol_of(service)
        except HotrowError as error:
            print(f"{error}.", file=sys.stderr, flush=True)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        self.wsgi = create_app(service)


class WorkerApplication(BaseApplication):  # type: ignore[misc]  # it has no type information
    """gunicorn, told what to run by our settings instead of a configuration file."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bundles = open_bundles(settings)
        slots = settings.workers * SLOTS_PER_WORKER
        self._metrics = share_metrics(self._bundles, slots)
        self._free_slots = set(range(slots))
        super().__init__()

    def load_config(self) -> None:
        """Set what gunicorn should do differently from its defaults."""
        settings = self._settings
        options: dict[str, Any] = {
            "bind": f"{settings.host}:{settings.port}",
            "workers": settings.workers,
            "worker_class": HotrowWorker,
            "reuse_port": True,
            "backlog": BACKLOG,
            "keepalive": KEEP_ALIVE_SECONDS,
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

    def open_service(self, slot: int) -> Any:
        """The service of the worker in this slot."""
        return open_service(self._settings, self._bundles, self._metrics, slot)

    def _take_slot(self, _: Arbiter, worker: HotrowWorker) -> None:
        worker.slot = min(self._free_slots)
        self._free_slots.remove(worker.slot)

    def _free_slot(self, arbiter: Arbiter, worker: HotrowWorker) -> None:
        # In a rolling restart the new workers are there before the old ones go.
        if len(arbiter.WORKERS) < arbiter.num_workers:
            self._metrics.count_death(worker.slot)
        self._free_slots.add(worker.slot)

    def _say_ready(self, _: Arbiter) -> None:
        models = ", ".join(bundle.label for bundle in self._bundles)
        settings = self._settings
        logger.info(
            "Serving %s at http://%s:%d with %d workers.",
            models,
            settings.host,
            settings.port,
            settings.workers,
        )


def serve_with_workers(settings: Settings) -> None:
    """Serve from `settings.workers` processes until SIGINT or SIGTERM.

    Raises `SettingsError` or `BundleError` if the server cannot start.
    """
    log_to_stderr()
    # SO_REUSEPORT would let a second server share the port unnoticed: it must be free.
    bind(settings).close()
    application = WorkerApplication(settings)
    gc.freeze()  # the collector would touch, and so copy, the pages shared by the fork
    application.run()


def _end_with_the_parent(_: Arbiter, worker: HotrowWorker) -> None:
    """Have the kernel end this worker when the arbiter dies, even by SIGKILL."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != worker.ppid:  # it died before the line above
        sys.exit(0)
