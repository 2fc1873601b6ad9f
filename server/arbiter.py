"""gunicorn's parent process: replaces workers that end, without haste if they end young, and models.

All workers of one generation serve the same models. A reload starts a generation
of successors; the old one ends when every successor serves. Should a successor
end before, its generation ends with it, and the old one goes on.
"""

import os
import signal
import subprocess
import time
from collections import deque
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from server.bundle import Bundle
from server.cli import COULD_NOT_START
from server.errors import HotrowError
from server.model_check import CHECK_SECONDS, check_command, read_verdict
from server.reload import checked_bundles, logger, names, stays

#: A worker that ends before it has served for this long would end so again.
YOUNG_SECONDS = 2.0
#: So many young deaths within so long a time end the server; what watches it is to
#: know. Between them the next start waits: twice as long after each.
MAX_YOUNG_DEATHS = 5
YOUNG_DEATHS_SECONDS = 60.0
FIRST_WAIT_SECONDS = 0.25


class ModelCheck:
    """A running check of the settings' models, looked at from time to time."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self._output = b""
        self._deadline = time.monotonic() + CHECK_SECONDS

    def is_done(self) -> bool:
        """Whether it has said all it will say; one that takes too long is ended."""
        # Its exit status is not asked for: the arbiter reaps every child of its own accord.
        while (chunk := self._pipe.read(65_536)) is not None:
            if not chunk:
                return True
            self._output += chunk
        if time.monotonic() < self._deadline:
            return False
        self.end()
        return True

    def end(self) -> None:
        """End it, whatever it has found."""
        self._process.kill()

    def digests(self) -> list[str]:
        """What it found good; raises `BundleError`."""
        return read_verdict(self._output)


class HotrowArbiter(Arbiter):  # type: ignore[misc]  # it has no type information
    """gunicorn's arbiter with generations of workers, and a stop the workers know of."""

    def __init__(self, app: Any) -> None:
        self._wanted = False  # a reload
        self._check: ModelCheck | None = None
        self._before: tuple[int, list[Bundle]] | None = None  # while a reload may still fail
        self._young_deaths: deque[float] = deque(maxlen=MAX_YOUNG_DEATHS)
        self._next_start = 0.0
        super().__init__(app)

    # Signals

    def reload(self) -> None:
        """SIGHUP: read the model folders again, and start a successor of every worker."""
        self._wanted = True

    def handle_int(self) -> None:
        """SIGINT ends the workers as SIGTERM does; gunicorn's SIGQUIT does not reach uvicorn."""
        raise StopIteration

    def handle_ttin(self) -> None:
        """SIGTTIN, SIGTTOU, SIGUSR2: nothing; every worker has a socket and counters from the start."""
        logger.warning("The number of workers is set by --workers, at the start; this signal is ignored.")

    handle_ttou = handle_usr2 = handle_ttin

    def stop(self, graceful: bool = True) -> None:
        """End all workers."""
        if self._check is not None:
            self._check.end()
        self.app.stop()
        super().stop(graceful)

    def wait_for_signals(self, timeout: float = 1.0) -> Any:
        """The signals that have come; during a reload its next step is looked for sooner."""
        is_reloading = self._wanted or self._check is not None or self._before is not None
        return super().wait_for_signals(0.1 if is_reloading else timeout)

    # Workers

    def manage_workers(self) -> None:
        """Go on with a reload, keep the number of workers, end those that have a successor."""
        self._go_on()
        current = [worker for worker in self.WORKERS.values() if worker.generation == self.app.generation]
        if len(current) < self.num_workers:
            if time.monotonic() >= self._next_start:
                for _ in range(self.num_workers - len(current)):
                    self.spawn_worker()
        elif all(has_heartbeat(worker) for worker in current):
            self._retire(worker for worker in self.WORKERS.values() if worker not in current)
            if len(self.WORKERS) == self.num_workers:
                self._end_reload()

    def ended(self, worker: Any) -> None:
        """A worker has ended; called when it is reaped."""
        if worker.is_retired or self.app.is_stopping():
            return
        self.app.metrics.count_death(worker.slot)
        if self._before is not None and worker.generation == self.app.generation:
            self._fail_reload("expected the new models' workers to stay, got one that ended")
        elif time.monotonic() - worker.born < YOUNG_SECONDS:
            self._wait_longer()

    def _wait_longer(self) -> None:
        """Put the next start off, or end the server after too many young deaths."""
        now, deaths = time.monotonic(), self._young_deaths
        deaths.append(now)
        while now - deaths[0] > YOUNG_DEATHS_SECONDS:
            deaths.popleft()
        if len(deaths) == MAX_YOUNG_DEATHS:
            logger.error("%d workers ended at once; the server ends.", MAX_YOUNG_DEATHS)
            raise HaltServer("Workers do not stay.", COULD_NOT_START)
        self._next_start = now + FIRST_WAIT_SECONDS * 2 ** (len(deaths) - 1)

    def _retire(self, workers: Any) -> None:
        for worker in list(workers):
            if not worker.is_retired:
                worker.is_retired = True
                self.kill_worker(worker.pid, signal.SIGTERM)

    # Reloading, one step at a time: the arbiter must go on watching its workers

    def _go_on(self) -> None:
        if self._check is None:
            # Only from rest: each worker of two generations has a slot, one of three has not.
            if self._wanted and self._before is None and len(self.WORKERS) == self.num_workers:
                self._wanted = False
                self._check = ModelCheck(check_command(self.app.settings))
        elif self._check.is_done():
            check, self._check = self._check, None
            try:
                bundles = checked_bundles(self.app.settings, check.digests())
                before = self.app.generation, self.app.bundles
                self.app.use(bundles)
            except HotrowError as error:
                self._fail_reload(str(error))
            else:
                self._before = before

    def _end_reload(self) -> None:
        if self._before is not None:
            self._before = None
            self.app.metrics.count_reload("ok")
            logger.info("Serving %s from now on.", names(self.app.bundles))

    def _fail_reload(self, why: str) -> None:
        if self._before is not None:
            self._retire(w for w in self.WORKERS.values() if w.generation == self.app.generation)
            self.app.generation, self.app.bundles = self._before
            self._before = None
        self.app.metrics.count_reload("failed")
        logger.error("%s; %s", why, stays(self.app.bundles))


def has_heartbeat(worker: Any) -> bool:
    """Whether the event loop has turned: until then the file's time is ahead (`START_SECONDS`)."""
    return bool(worker.tmp.last_update() <= time.monotonic())
