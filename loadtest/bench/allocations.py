"""How often one answer asks for memory, and how many functions it calls: no clock can spoil a count."""

import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import memray
import uvloop

from loadtest.harness.in_process import worker

CALLS = 200


class Counts(NamedTuple):
    """Of one answer, from the bytes of a request to those of its answer."""

    allocations: float
    function_calls: float


def count(model: Path) -> Counts:
    """Count on one connection of a worker in this process, metrics on and the log off.

    The log's thread would allocate in between; its line is one more allocation.
    """
    return uvloop.run(_count(model))


async def _count(model: Path) -> Counts:
    with tempfile.TemporaryDirectory() as folder:
        async with worker(model, Path(folder) / "logs", log_mode="off") as one:
            requests = list(itertools.islice(itertools.cycle(one.requests), CALLS))
            for request in requests:  # the first time, heads are learned and pools filled
                one.protocol.data_received(request)
            return Counts(
                _allocations(one.protocol.data_received, requests, Path(folder) / "memray.bin"),
                _function_calls(one.protocol.data_received, requests),
            )


def _allocations(call: Callable[[bytes], Any], requests: list[bytes], file: Path) -> float:
    with memray.Tracker(file, trace_python_allocators=True):
        for request in requests:
            call(request)
    with memray.FileReader(file) as reader:
        total: int = reader.metadata.total_allocations
    return total / len(requests)


def _function_calls(call: Callable[[bytes], Any], requests: list[bytes]) -> float:
    calls = 0

    def note(_: FrameType, event: str, __: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        for request in requests:
            call(request)
    finally:
        sys.setprofile(None)
    return calls / len(requests)
