"""How often one response asks for memory, and how many functions it calls: no clock can spoil a count."""

import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import memray

CALLS = 200


class Counts(NamedTuple):
    """Of one response, from the bytes of a request to those of its response."""

    allocations: float
    function_calls: float


def count(call: Callable[[bytes], Any], requests: list[bytes]) -> Counts:
    """Count what `call` does with some requests, whose heads it has learned and pools filled before."""
    requests = list(itertools.islice(itertools.cycle(requests), CALLS))
    for request in requests:
        call(request)
    with tempfile.TemporaryDirectory() as folder:
        return Counts(
            _allocations(call, requests, Path(folder) / "memray.bin"), _function_calls(call, requests)
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
