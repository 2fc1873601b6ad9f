"""F21: a network that delays, cuts into pieces, loses and resets."""

import asyncio
import random
import subprocess
import threading
import time
from contextlib import suppress

import uvloop

from loadtest.faults.namespaces import own_network
from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import FaultSkipped, Scene
from loadtest.harness.http_bytes import address
from loadtest.harness.instances import wait_until
from loadtest.harness.recording_client import Load
from loadtest.harness.request_records import RESET

DELAY_SECONDS = 0.05
NETEM = ("netem", "delay", "50ms", "10ms", "loss", "2%", "reorder", "5%")


class Relay(threading.Thread):
    """Passes bytes on to a server, late, in pieces, and ends a part of the connections by a reset."""

    def __init__(self, url: str, *, reset_share: float) -> None:
        super().__init__(name="relay", daemon=True)
        self._server = address(url)
        self._reset_share = reset_share
        self._random = random.Random(0)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: asyncio.Event | None = None
        self.url = ""
        self.resets = 0

    def __enter__(self) -> "Relay":
        self.start()
        self._ready.wait(10.0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._done is not None:
            self._loop.call_soon_threadsafe(self._done.set)
        self.join()

    def run(self) -> None:
        """Relay until left."""
        uvloop.run(self._relay())

    async def _relay(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._done.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(*self._server)
        ways = [
            asyncio.ensure_future(self._pass_on(reader, to_writer)),
            asyncio.ensure_future(self._pass_on(to_reader, writer)),
        ]
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (writer, to_writer):
            end.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if self._random.random() < self._reset_share:
                    self.resets += 1
                    return
                await asyncio.sleep(DELAY_SECONDS * (0.8 + 0.4 * self._random.random()))
                while data:
                    size = self._random.randrange(1, len(data) + 1)
                    writer.write(data[:size])
                    await writer.drain()
                    data = data[size:]
                    await asyncio.sleep(0.0)


def bad_network(scene: Scene, outcome: FaultOutcome) -> None:
    """A relay that delays by 50 ms, cuts into pieces and resets; netem with loss where the kernel has it."""
    _relayed(scene, outcome)
    try:
        with own_network():
            _under_netem(scene, outcome)
    except FaultSkipped as reason:
        outcome.figures["netem"] = f"skipped: {reason}"
    outcome.expect_exact_log()


def _relayed(scene: Scene, outcome: FaultOutcome) -> None:
    with scene.serve(workers=2) as served:
        base_files = served.files()
        with (
            Relay(served.url, reset_share=0.005) as relay,
            Load(relay.url, scene.rows, clients=100) as clients,
        ):
            time.sleep(scene.times(20, 3))
        seconds = wait_until(lambda: served.files() <= base_files, "all connections to end", 30.0)
    outcome.add_logged(clients.records, served.logs)
    others = {kind: count for kind, count in clients.records.failed.items() if kind != RESET}
    outcome.figures["reset by the relay"] = str(relay.resets)
    outcome.expect_at_most("resets seen", clients.records.failed[RESET], relay.resets)
    outcome.expect_none("failures of another kind", others)
    outcome.expect_at_most("no connection stuck; all ended", seconds, 10.0, "s", timed=True)


def _under_netem(scene: Scene, outcome: FaultOutcome) -> None:
    done = subprocess.run(
        ["tc", "qdisc", "add", "dev", "lo", "root", *NETEM], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise FaultSkipped("this kernel has no netem")
    with scene.serve(workers=2) as served:
        base_files = served.files()
        with Load(served.url, scene.rows, clients=100, timeout=20.0) as clients:
            time.sleep(scene.times(20, 3))
        wait_until(lambda: served.files() <= base_files, "all connections to end", 30.0)
    outcome.add_logged(clients.records, served.logs)
    outcome.expect_none("requests failed under netem", clients.records.failed)
