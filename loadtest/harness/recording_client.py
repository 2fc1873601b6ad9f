"""Clients that keep records: kept connections, a closed loop or a fixed rate, every response judged."""

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import uvloop

from loadtest.harness.http_bytes import address, content_length
from loadtest.harness.reference_rows import ReferenceRow
from loadtest.harness.request_records import GARBLED, RESET, TIMEOUT, RequestRecords
from loadtest.harness.subject import LoadTestError

#: Between two tries to connect to a server that is gone.
RETRY_SECONDS = 0.05
#: A slow client pauses within its request for up to this long.
PAUSE_SECONDS = 0.004


class Manners(NamedTuple):
    """The part of requests that a client leaves in the middle, by a reset, and of those it sends slowly."""

    leave: float = 0.0
    slow: float = 0.0


class _Connection:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.instance = ""
        self.is_last = False

    @property
    def is_over(self) -> bool:
        """Whether the server has said, or shown, that it takes no more requests here."""
        return self.is_last or self._reader.at_eof() or self._writer.is_closing()

    async def send(self, request: bytes) -> None:
        """Send bytes."""
        self._writer.write(request)
        await self._writer.drain()

    async def response(self) -> tuple[int, bytes]:
        """Status and body of the next response."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        body = await self._reader.readexactly(content_length(head))
        self.is_last = b"\r\nconnection: close" in head
        return int(head[9:12]), body

    def close(self) -> None:
        """Close it, without waiting."""
        self._writer.close()

    async def reset(self) -> None:
        """End it at once."""
        self._writer.transport.abort()
        with suppress(OSError):  # how it ended is known
            await self._writer.wait_closed()


class Load:
    """Clients in a thread of their own, from `start` to `stop`; a context manager.

    Without `rate` each of the clients asks again as soon as it is answered, and
    `pause` seconds later. With it, requests are due at fixed intervals, whatever
    the server does, each over an idle one of at most `clients` connections; its
    latency counts from when it was due. A connection that was said to close, or
    was closed while idle, is replaced; one that ends under a request is a failure.
    """

    def __init__(
        self,
        url: str,
        rows: Sequence[ReferenceRow],
        *,
        clients: int = 8,
        rate: float | None = None,
        pause: float = 0.0,
        timeout: float = 30.0,
        manners: Manners = Manners(),  # noqa: B008  # immutable
    ) -> None:
        self.records = RequestRecords(rows)
        self._address = address(url)
        self._rows = rows
        self._clients = clients
        self._rate = rate
        self._pause = pause
        self._timeout = timeout
        self._manners = manners
        self._random = random.Random(0)
        self._place = itertools.cycle(range(len(rows))).__next__
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> "Load":
        """Begin to send."""
        self._thread.start()
        return self

    def stop(self) -> RequestRecords:
        """Send no more and wait for the responses under way."""
        self._stopping.set()
        self._thread.join()
        return self.records

    def __enter__(self) -> "Load":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_for(self, responses: int, seconds: float = 120.0) -> None:
        """Wait until so many right responses have come; raises `LoadTestError` if they do not."""
        end = time.monotonic() + seconds
        while self.records.ok < responses:
            if time.monotonic() > end or not self._thread.is_alive():
                raise LoadTestError(f"expected {responses} responses, got {self.records.ok}")
            time.sleep(0.005)

    def _run(self) -> None:
        uvloop.run(self._fixed_rate(self._rate) if self._rate else self._closed_loop())

    async def _closed_loop(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._clients):
                group.create_task(self._client())

    async def _client(self) -> None:
        connection: _Connection | None = None
        while not self._stopping.is_set():
            connection = await self._ask(connection, time.monotonic())
            await asyncio.sleep(self._pause)
        if connection is not None:
            connection.close()

    async def _fixed_rate(self, rate: float) -> None:
        idle: asyncio.Queue[_Connection | None] = asyncio.LifoQueue()
        for _ in range(self._clients):
            idle.put_nowait(None)
        due = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not self._stopping.is_set():
                due += 1.0 / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._ask_idle(idle, due))
        while not idle.empty():
            connection = idle.get_nowait()
            if connection is not None:
                connection.close()

    async def _ask_idle(self, idle: "asyncio.Queue[_Connection | None]", due: float) -> None:
        connection = await idle.get()
        if self._stopping.is_set():  # what waited for a connection until now is not sent any more
            self.records.unsent += 1
        else:
            connection = await self._ask(connection, due)
        idle.put_nowait(connection)

    async def _ask(self, connection: _Connection | None, due: float) -> _Connection | None:
        """Send the next row, and judge what comes; the connection if it takes another."""
        if connection is not None and connection.is_over:
            connection.close()
            connection = None
        if connection is None:
            connection = await self._connect()
        if connection is None:
            return None
        place = self._place()
        request = self._rows[place].request
        manner = self._random.random()
        if manner < self._manners.leave:
            await self._leave(connection, request)
            return None
        self.records.sent += 1
        try:
            async with asyncio.timeout(self._timeout):
                if manner < self._manners.leave + self._manners.slow:
                    request = await self._dribble(connection, request)
                await connection.send(request)
                status, body = await connection.response()
        except (OSError, asyncio.IncompleteReadError, ValueError, asyncio.LimitOverrunError) as error:
            self.records.fail(_kind(error), due, connection.instance)
            await connection.reset()
            return None
        connection.instance = self.records.take(place, status, body, due, connection.instance)
        return connection

    async def _connect(self) -> _Connection | None:
        try:
            async with asyncio.timeout(self._timeout):
                return _Connection(*await asyncio.open_connection(*self._address))
        except (OSError, TimeoutError):
            self.records.refused += 1
            await asyncio.sleep(RETRY_SECONDS)
            return None

    async def _leave(self, connection: _Connection, request: bytes) -> None:
        self.records.left += 1
        with suppress(OSError):
            await connection.send(request[: self._random.randrange(1, len(request))])
        if self._random.random() < 0.5:
            await connection.reset()
        else:
            connection.close()

    async def _dribble(self, connection: _Connection, request: bytes) -> bytes:
        cut = self._random.randrange(1, len(request))
        await connection.send(request[:cut])
        await asyncio.sleep(self._random.random() * PAUSE_SECONDS)
        return request[cut:]


def _kind(error: Exception) -> str:
    if isinstance(error, TimeoutError):  # an OSError too
        return TIMEOUT
    return RESET if isinstance(error, OSError | asyncio.IncompleteReadError) else GARBLED
