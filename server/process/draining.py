"""A stop that no client notices: answers say that they are the last, the listener closes late."""

import asyncio
import fcntl
import socket
import sys
import termios
from collections.abc import Callable

import uvicorn

from server.errors import CLOSE
from server.process.busy_poll import BusyPoll
from server.process.listeners import refuse_new
from server.process.memory import UnusedMemory

#: Clients are told to close for this long before new connections are refused, and
#: after it for those that the kernel had taken. Without it every keep-alive client
#: sees a reset at every stop.
LAME_DUCK_SECONDS = 1.0
TAKEN_SECONDS = 0.3
#: What a stop takes beyond the time that requests in flight get.
STOP_SECONDS = LAME_DUCK_SECONDS + 2 * TAKEN_SECONDS
#: uvicorn gives no sign of life any more once it shuts down; it is watched until the end.
BEAT_SECONDS = 1.0
#: How often it is seen whether clients have all that they were sent.
LOOK_SECONDS = 0.2


class DrainingServer(uvicorn.Server):
    """uvicorn's server with a readiness that follows it, and a stop without resets.

    `accepting` is called once connections are accepted, `stopping` before a stop
    begins. `memory` is looked at ten times a second. `is_last` says, at the stop, whether
    the whole server ends: a worker that is replaced leaves the connections in its backlog
    to its successor.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        accepting: Callable[[], None],
        stopping: Callable[[], None],
        memory: UnusedMemory,
        is_last: Callable[[], bool] = lambda: True,
        *,
        busy_poll: bool = False,
    ) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._accepting = accepting
        self._is_last = is_last
        self._memory = memory
        self._busy_poll, self._never_sleeps = BusyPoll(), busy_poll

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._accepting()
            if self._never_sleeps:
                self._busy_poll.start()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: see whether memory is used no more."""
        self._memory.look(len(self.server_state.connections))
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Not ready, then the last answers, then no new connections, then the end."""
        self._stopping()
        self._busy_poll.stop()  # a successor may be awake on the same processor
        beat = asyncio.get_running_loop().create_task(self._beat())
        try:
            await self._drain(sockets)
        finally:
            beat.cancel()

    async def _drain(self, sockets: list[socket.socket] | None) -> None:
        state = self.server_state
        state.default_headers = [*state.default_headers, CLOSE]
        if state.connections:
            await self._wait(LAME_DUCK_SECONDS)
        if self._is_last():
            for listener in sockets or ():
                refuse_new(listener)
        await self._wait(TAKEN_SECONDS)
        for server in self.servers:
            server.close()
        if state.connections:
            await self._wait(TAKEN_SECONDS)
        looks = asyncio.get_running_loop().create_task(self._let_go())
        try:
            await super().shutdown(sockets)
        finally:
            looks.cancel()

    async def _let_go(self) -> None:
        """End closed connections whose client has all it was sent.

        TLS waits for the client's farewell, and one that keeps a connection for later sends
        none. Seen twice: in between the loop has written what the socket had room for.
        """
        had_all: set[asyncio.Transport] = set()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            closing = {c.transport for c in self.server_state.connections if c.transport.is_closing()}
            have_all = {transport for transport in closing if not _unacknowledged_bytes(transport)}
            for transport in have_all & had_all:
                transport.abort()
            had_all = have_all

    async def _beat(self) -> None:
        while self.config.callback_notify is not None:
            await self.config.callback_notify()
            await asyncio.sleep(BEAT_SECONDS)

    async def _wait(self, seconds: float) -> None:
        """Wait, unless a second signal asks for the end at once."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end and not self.force_exit:
            await asyncio.sleep(0.05)


def _unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """What lies in the socket's queue for a client, sent or not."""
    descriptor = transport.get_extra_info("socket").fileno()
    return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
