"""`python -m loadtest guards`: what the guards on the wire, and keys, add to a request that is well-formed.

The same requests without and with the guards, in process, in stretches that take
turns. All guards run on the ASGI path, beside uvicorn's own protocol; the fast
path reads a head it knows by its bytes, and only looks whether the connection is free.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import uvloop
from rich.table import Table
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loadtest.harness.in_process import Nowhere, connect, worker
from loadtest.harness.target import add_model, keep_to, server_core
from loadtest.report.progress import console
from server.access.keys import new_key
from server.wire.fast_path import HotrowProtocol
from server.wire.guarded_protocol import GuardedProtocol
from server.wire.receivers import Receivers

#: CPU us a request of each stretch, without guards and with them.
Costs: TypeAlias = tuple[list[float], list[float]]

CALLS = 500
STRETCHES = 60
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: loadtest\r\nAccept: */*\r\n"
    b"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\r\n"
)


class ResponseWatch(Nowhere):
    """Says when a response is out."""

    def __init__(self) -> None:
        super().__init__()
        self.responses = 0

    def write(self, data: Any) -> None:
        """Count the ends of responses."""
        self.responses += bytes(data).endswith(b"hello")


class Unguarded(HotrowProtocol):
    """The fast path without its look at the connection."""

    def _is_busy(self) -> bool:
        return False


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)


def main(options: argparse.Namespace) -> int:
    """Measure and print the table."""
    with keep_to(server_core(1)), tempfile.TemporaryDirectory() as folder:
        found = {
            "the fast path": uvloop.run(fast_path(options.model, Path(folder))),
            "the fast path, a key": uvloop.run(keys(options.model, Path(folder))),
            "the ASGI path": uvloop.run(ordinary_way()),
        }
    table = Table(title="What guards and keys add, in process, CPU us a request", title_justify="left")
    for heading in ("through", "without", "with", "median of the differences"):
        table.add_column(heading, justify="left" if heading == "through" else "right")
    for way, (bare, guarded) in found.items():
        difference = statistics.median(ours - theirs for ours, theirs in zip(guarded, bare, strict=True))
        costs = (statistics.median(bare), statistics.median(guarded), difference)
        table.add_row(way, *(f"{us:.2f}" for us in costs))
    console.print(table)
    return 0


async def fast_path(model: Path, folder: Path) -> Costs:
    """Rows of the shipped model, with the guards' look at the connection and without."""
    async with worker(model, folder) as subject:
        maker = subject.protocol_class
        protocols = [
            connect(partial(kind, *maker.args), subject.app, Nowhere())
            for kind in (Unguarded, HotrowProtocol)
        ]

        async def stretch(protocol: Any) -> float:
            await asyncio.sleep(0.01)  # the log's thread gets its turn
            began = time.process_time_ns()
            for request in itertools.islice(itertools.cycle(subject.requests), CALLS):
                protocol.data_received(request)
            return (time.process_time_ns() - began) / CALLS / 1000

        return await _in_turn(stretch, protocols)


async def keys(model: Path, folder: Path) -> Costs:
    """Rows of the shipped model without a key, and with one that is asked for."""
    key, line = new_key("loadtest", "score")
    file = folder / "keys"
    file.touch(0o600)
    file.write_text(line)
    head = f"\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    async with (
        worker(model, folder / "open") as bare,
        worker(model, folder / "keyed", keys_file=file) as keyed,
    ):
        requests = {
            bare.protocol: bare.requests,
            keyed.protocol: [request.replace(b"\r\n\r\n", head, 1) for request in keyed.requests],
        }

        async def stretch(protocol: Any) -> float:
            await asyncio.sleep(0.01)
            began = time.process_time_ns()
            for request in itertools.islice(itertools.cycle(requests[protocol]), CALLS):
                protocol.data_received(request)
            return (time.process_time_ns() - began) / CALLS / 1000

        return await _in_turn(stretch, list(requests))


async def ordinary_way() -> Costs:
    """The smallest app, through uvicorn's own protocol and through ours."""
    makers: Sequence[Any] = (HttpToolsProtocol, partial(GuardedProtocol, Receivers(), 10.0, lambda *_: None))
    transports = [ResponseWatch() for _ in makers]
    protocols = [connect(maker, hello, at) for maker, at in zip(makers, transports, strict=True)]

    async def stretch(protocol: Any) -> float:
        transport = transports[protocols.index(protocol)]
        began = time.process_time_ns()
        for _ in range(CALLS):
            expected = transport.responses + 1
            protocol.data_received(REQUEST)
            while transport.responses < expected:
                await asyncio.sleep(0)
        return (time.process_time_ns() - began) / CALLS / 1000

    return await _in_turn(stretch, protocols)


async def _in_turn(stretch: Callable[[Any], Awaitable[float]], protocols: Sequence[Any]) -> Costs:
    costs: Costs = ([], [])
    for _ in range(STRETCHES):
        for found, protocol in zip(costs, protocols, strict=True):
            found.append(await stretch(protocol))
    for protocol in protocols:
        protocol.connection_lost(None)
    return costs


async def hello(_: Scope, __: Receive, send: Send) -> None:
    """The smallest app."""
    headers = [(b"content-length", b"5"), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})
