"""A stop that no client notices: no reset, nothing lost, every answer in the log."""

import asyncio
import os
import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from loadtest.subject import Subject
from tests.bundles import ROW
from tests.servers import address, post, serving

REQUEST = post("/predict", orjson.dumps(ROW))
ROUNDS = int(os.environ.get("DRAIN_ROUNDS", "2"))


@dataclass
class Ledger:
    """What a client sent and what became of it."""

    ids: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


async def client(url: str, ledger: Ledger, stop: asyncio.Event) -> None:
    """Send one request after the other, as a client with a pool does: a connection
    that was said to close is replaced, one that fails under a request is a failure."""
    reader = writer = None
    while not stop.is_set():
        if writer is None or reader is None:
            try:
                reader, writer = await asyncio.open_connection(*address(url))
            except OSError:  # refused: the server is gone, nothing was sent
                return
        writer.write(REQUEST)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            ledger.failed.append(repr(error))
            writer.close()
            return
        if head.startswith(b"http/1.1 200"):
            ledger.ids.append(orjson.loads(body)["id"])
        else:
            ledger.failed.append(head.split(b"\r\n")[0].decode())
        if b"connection: close" in head:
            writer.close()
            writer = None
        await asyncio.sleep(0.001)
    if writer is not None:
        writer.close()


async def load(subject: Subject, number: signal.Signals, seconds: float) -> Ledger:
    """Eight clients, a signal in the middle of their work, and the ledger of all."""
    ledger, stop = Ledger(), asyncio.Event()
    clients = [asyncio.create_task(client(subject.url, ledger, stop)) for _ in range(8)]
    await asyncio.sleep(0.4)
    os.kill(subject.process.pid, number)
    await asyncio.sleep(seconds)
    stop.set()
    await asyncio.gather(*clients)
    return ledger


def logged_ids(folder: Path) -> list[str]:
    return [
        orjson.loads(line)["id"]
        for file in (folder / "logs").glob("*.jsonl")
        for line in file.read_bytes().splitlines()
    ]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("fast_door", ["on", "off"])
def test_sigterm_under_load_loses_nothing(three: Path, tmp_path: Path, workers: str, fast_door: str) -> None:
    for round_ in range(ROUNDS):
        folder = tmp_path / str(round_)
        folder.mkdir()
        with serving(three, folder, "--workers", workers, fast_door=fast_door) as subject:
            ledger = asyncio.run(load(subject, signal.SIGTERM, 2.5))
            assert subject.process.wait(10) == 0
        assert ledger.failed == []
        assert len(ledger.ids) > 100
        assert sorted(logged_ids(folder)) == sorted(ledger.ids)


def test_rolling_restart_loses_nothing(three: Path, tmp_path: Path) -> None:
    """SIGHUP: new workers take over, the old ones finish."""
    with serving(three, tmp_path, "--workers", "2") as subject:
        ledger = asyncio.run(load(subject, signal.SIGHUP, 10.0))
    assert ledger.failed == []
    assert sorted(logged_ids(tmp_path)) == sorted(ledger.ids)
    assert len({identifier.partition("-")[0] for identifier in ledger.ids}) == 4


def test_half_sent_request_does_not_hold_the_stop(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, drain_seconds="2") as subject:
        halves = [socket.create_connection(address(subject.url)) for _ in range(20)]
        for half in halves:
            half.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        began = time.monotonic()
        subject.process.terminate()
        assert subject.process.wait(10) == 0
        assert time.monotonic() - began < 8
        for half in halves:
            half.close()
