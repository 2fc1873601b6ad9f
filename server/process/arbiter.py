"""gunicorn's parent process: replaces workers that end, without haste if they end young, and models.

All workers of one generation serve the same models. A reload starts a generation
of successors; the old one is told to end when every successor serves. Should a
successor end before, its generation ends with it, and the old one goes on.
"""

import logging
import os
import queue
import signal
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import gunicorn
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.sock import close_sockets

from server.cli import COULD_NOT_START
from server.model.bundle import Bundle
from server.private_names import PrivateNames, check_private_names
from server.process.draining import STOP_SECONDS
from server.process.listeners import park, take_again
from server.process.verdict import ModelCheck, check_command, checked_bundles, say_failed
from server.scoring.bundles import names

logger = logging.getLogger(__name__)

#: A worker that ends before it has served for this long would end so again.
YOUNG_SECONDS = 1.0
#: So many young deaths within so long a time end the server; what watches it is to
#: know. Between them the next start waits: twice as long after each.
MAX_YOUNG_DEATHS = 5
YOUNG_DEATHS_SECONDS = 60.0
FIRST_WAIT_SECONDS = 0.25
#: When the system has no process or descriptor for a worker, the next try comes after so long.
SHORTAGE_WAIT_SECONDS = 0.5
#: A stop waits for so long until every socket has a worker that serves.
COMPLETE_SECONDS = 8.0
#: What the workers may take to end when a second SIGINT asks for haste.
HURRY_SECONDS = 2.0
#: What a worker may take to end beyond the time that its requests get.
END_SECONDS = STOP_SECONDS + 5.0


#: What `HotrowArbiter` calls, overrides or reads of gunicorn's arbiter, none of it promised.
_ARBITER = PrivateNames(
    Arbiter,
    {
        "__init__": "app",
        "reload": "",
        "handle_int": "",
        "handle_ttin": "",
        "handle_ttou": "",
        "handle_usr2": "",
        "handle_winch": "",
        "wait_for_signals": "timeout",
        "stop": "graceful",
        "manage_workers": "",
        "spawn_worker": "",
        "reap_workers": "",
        "kill_worker": "pid sig",
        "run": "",
    },
    "WORKERS num_workers log SIGNALS",
)


def check_gunicorn() -> None:
    """Raise `SettingsError` if gunicorn's arbiter lacks a name that ours leans on."""
    check_private_names("gunicorn", gunicorn.__version__, _ARBITER)


def _try_to_fork() -> None:
    """Raise `OSError` where no process can be had."""
    child = os.fork()
    if not child:
        os._exit(0)
    with suppress(ChildProcessError):  # whoever looks after children was first
        os.waitpid(child, 0)


class Before(NamedTuple):
    """What a reload that fails goes back to."""

    generation: int
    bundles: list[Bundle]


class HotrowArbiter(Arbiter):  # type: ignore[misc]  # it has no type information
    """gunicorn's arbiter with generations of workers, and a stop the workers know of.

    A reload is asked for (`_asked`), then checked (`_check`), then its workers start
    (`_before` says what they replace); one after the other, and one at a time.
    """

    LISTENERS: list[Any]

    def __init__(self, app: Any) -> None:
        self._asked = False
        self._check: ModelCheck | None = None
        self._before: Before | None = None
        self._young_deaths: deque[float] = deque(maxlen=MAX_YOUNG_DEATHS)
        self._next_start = 0.0
        self._lacks = ""
        self._parked: set[int] = set()
        super().__init__(app)

    # Signals

    def reload(self) -> None:
        """SIGHUP: read the model folders again, and start a successor of every worker."""
        self._asked = True
        self.app.metrics.set_reloading(True)

    def handle_int(self) -> None:
        """SIGINT ends the workers as SIGTERM does; gunicorn's SIGQUIT does not reach uvicorn."""
        raise StopIteration

    handle_quit = handle_int

    def handle_ttin(self) -> None:
        """SIGTTIN, SIGTTOU: nothing; every worker has a socket and counters from the start."""
        logger.warning("The number of workers is set by --workers, at the start; this signal is ignored.")

    handle_ttou = handle_ttin

    def handle_usr2(self) -> None:
        """SIGUSR2: nothing; gunicorn's second parent would not know of the first one's counters."""
        logger.warning("New models come with SIGHUP, new code with a restart; this signal is ignored.")

    def wait_for_signals(self, timeout: float = 1.0) -> Any:
        """The signals that have come; during a reload its next step is looked for sooner."""
        return super().wait_for_signals(0.1 if self._is_reloading() else timeout)

    def stop(self, graceful: bool = True) -> None:
        """End all workers, when what waits at each socket has somebody who answers it."""
        if self._check is not None:
            self._check.end()
        if graceful and self.app.has_served() and not (self._gives_up() or self.app.is_stopping()):
            self._complete()
        self.app.stop()
        self._end_workers(signal.SIGTERM if graceful else signal.SIGQUIT)

    def _end_workers(self, number: int) -> None:
        """As gunicorn's, by a clock that nobody sets: a jump of the other would cut requests off."""
        close_sockets(self.LISTENERS, False)
        self.LISTENERS = []
        end = time.monotonic() + self.cfg.graceful_timeout
        while self.WORKERS and time.monotonic() < end:
            self.kill_workers(number)  # again and again: a signal in their first moments is lost
            if self._asked_to_hurry():
                number = signal.SIGQUIT
                end = time.monotonic() + HURRY_SECONDS
            time.sleep(0.05)
            self.reap_workers()
        self.kill_workers(signal.SIGKILL)
        self.reap_workers()
        if self.app.log is not None:
            self.app.log.observer.finish()

    def _asked_to_hurry(self) -> bool:
        with suppress(queue.Empty):
            while True:
                if self.SIG_QUEUE.get_nowait() in (signal.SIGINT, signal.SIGQUIT):
                    return True
        return False

    def _complete(self) -> None:
        # The backlog of a socket is reset when it closes; a worker that is just starting takes it over.
        end = time.monotonic() + COMPLETE_SECONDS
        with suppress(HaltServer):  # it is stopping
            self.reap_workers()
            while not self.app.serves_everywhere() and time.monotonic() < end:
                self._spawn_missing()
                time.sleep(0.05)
                self.reap_workers()

    # Workers

    def _current(self) -> list[Any]:
        return [worker for worker in self.WORKERS.values() if worker.generation == self.app.generation]

    def _spawn_missing(self) -> None:
        try:
            if self._parked:
                _try_to_fork()  # first: who comes to a listener that is taken again for nothing is reset
            for place in tuple(self._parked):
                take_again(self.LISTENERS[place])
                self._parked.remove(place)
            for _ in range(self.num_workers - len(self._current())):
                self.app.starting = None
                self.spawn_worker()
        except OSError as error:  # no process, no descriptor: those that serve go on
            self.app.forget_starting()
            self._cannot_start(error)
        else:
            self._lacks = ""

    def _park_left_alone(self) -> None:
        """Leave the connections of a listener that has no worker for now to the listeners that have one."""
        count = len(self.LISTENERS)
        answered = {worker.slot % count for worker in self.WORKERS.values()}
        if answered:
            for place in set(range(count)) - answered - self._parked:
                park(self.LISTENERS[place])
                self._parked.add(place)

    def _cannot_start(self, error: OSError) -> None:
        self.app.metrics.count_start_failure()
        lacks = str(error.strerror)
        if not self.app.has_served():
            logger.error("A worker cannot be started: %s; the server ends.", lacks)
            raise HaltServer("Workers cannot be started.", COULD_NOT_START)
        if self._before is not None:
            self._fail(f"expected to start the new models' workers, got: {lacks}", error)
        elif lacks != self._lacks:  # once a shortage, not once a try
            logger.error("A worker cannot be started: %s; it is tried again.", lacks)
        self._lacks = lacks
        self._next_start = time.monotonic() + SHORTAGE_WAIT_SECONDS

    def _gives_up(self) -> bool:
        """Whether workers do not stay, and none serves: for one that does, the others are tried on."""
        too_many = len(self._young_deaths) == MAX_YOUNG_DEATHS
        return too_many and not any(self.app.serving_since(worker.slot) for worker in self.WORKERS.values())

    def manage_workers(self) -> None:
        """Go on with a reload, keep the number of workers, end those that have a successor."""
        if self.app.log is not None:
            self.app.log.observer.look_after()
        self._go_on()
        current = self._current()
        if len(current) < self.num_workers:
            if time.monotonic() >= self._next_start:
                self._spawn_missing()
            if time.monotonic() < self._next_start:
                self._park_left_alone()
        elif all(self.app.serving_since(worker.slot) for worker in current):
            self._retire(worker for worker in self.WORKERS.values() if worker not in current)
            self._succeed()
        self._end_retired()
        self.app.metrics.set_reloading(self._is_reloading())

    def ended(self, worker: Any) -> None:
        """A worker has ended; called when it is reaped, while its slot is still its own."""
        if worker.retired_at is not None or self.app.is_stopping():
            return
        self.app.metrics.count_death(worker.slot)
        since = self.app.serving_since(worker.slot)
        if self._before is not None and worker.generation == self.app.generation:
            self._fail("expected the new models' workers to stay, got one that ended")
        elif not since or time.monotonic() - since < YOUNG_SECONDS:
            self._wait_longer()

    def _wait_longer(self) -> None:
        """Put the next start off, or end the server after too many young deaths."""
        now, deaths = time.monotonic(), self._young_deaths
        deaths.append(now)
        while now - deaths[0] > YOUNG_DEATHS_SECONDS:
            deaths.popleft()
        if self._gives_up():
            logger.error("%d workers ended at once; the server ends.", MAX_YOUNG_DEATHS)
            raise HaltServer("Workers do not stay.", COULD_NOT_START)
        self._next_start = now + FIRST_WAIT_SECONDS * 2 ** (len(deaths) - 1)

    def _retire(self, workers: Iterable[Any]) -> None:
        for worker in workers:
            if worker.retired_at is None:
                worker.retired_at = time.monotonic()

    def _end_retired(self) -> None:
        """Tell retired workers to end, again and again: a signal in their first moments is lost."""
        for worker in list(self.WORKERS.values()):
            if worker.retired_at is not None:
                late = time.monotonic() - worker.retired_at > self.app.settings.drain_seconds + END_SECONDS
                self.kill_worker(worker.pid, signal.SIGKILL if late else signal.SIGTERM)

    # Reloading, a step at a time: the arbiter must go on watching its workers

    def _is_reloading(self) -> bool:
        """Whether models are asked for, checked or starting, or workers of other ones have not ended."""
        under_way = self._asked or self._check is not None or self._before is not None
        return under_way or any(worker.retired_at is not None for worker in self.WORKERS.values())

    def _go_on(self) -> None:
        # Whatever a model folder can bring about, the models that are served must stay.
        try:
            if self._check is not None:
                self._start_successors(self._check)
            elif self._asked and self._before is None and len(self.WORKERS) == self.num_workers:
                # Only from rest: each worker of two generations has a slot, one of three has not.
                self._asked = False
                self._check = ModelCheck(check_command(self.app.settings))
        except Exception as error:  # noqa: BLE001  # see above
            self._check = None
            self._fail(str(error), error)

    def _start_successors(self, check: ModelCheck) -> None:
        if check.is_done():
            self._check = None
            bundles = checked_bundles(self.app.settings, check.digests())
            before = Before(self.app.generation, self.app.bundles)
            self.app.use(bundles)
            self._before = before

    def _succeed(self) -> None:
        if self._before is not None:
            self._before = None
            self.app.metrics.count_reload("ok")
            logger.info("Serving %s from now on.", names(self.app.bundles))

    def _fail(self, why: str, error: Exception | None = None) -> None:
        if self._before is not None:
            self._retire(w for w in self.WORKERS.values() if w.generation == self.app.generation)
            self.app.generation, self.app.bundles = self._before
            self._before = None
        self.app.metrics.count_reload("failed")
        say_failed(why, error, self.app.bundles)
