"""Which workers answer at an address, seen from outside: each gives ids with a prefix of its own."""

import time
from collections import Counter
from collections.abc import Callable, Collection

import orjson

from loadtest.harness.http_bytes import exchange
from loadtest.harness.request_records import instance_of
from loadtest.harness.subject import LoadTestError


def instance_at(url: str, request: bytes) -> str:
    """The instance that answers a request over a new connection, "" if there is no response of a model."""
    try:
        responses = exchange(url, request, timeout=10.0)
    except OSError:
        return ""
    if not responses or responses[0].status != 200:
        return ""
    return instance_of(orjson.loads(responses[0].body)["id"])


def wait_for_instances(url: str, request: bytes, count: int, known: Collection[str] = ()) -> Counter[str]:
    """Connect until so many workers that are not `known` have answered; all answers by instance."""
    responses: Counter[str] = Counter()

    def all_there() -> bool:
        instance = instance_at(url, request)
        if instance:
            responses[instance] += 1
        return len(set(responses).difference(known)) >= count

    wait_until(all_there, f"{count} workers to answer", 120.0)
    return responses


def wait_until(fact: Callable[[], bool], awaited: str, seconds: float) -> float:
    """Wait until something is true; how long that took. Raises `LoadTestError` if it does not become true."""
    began = time.monotonic()
    while not fact():
        if time.monotonic() - began > seconds:
            raise LoadTestError(f"expected {awaited} within {seconds:g} s, got none of it")
        time.sleep(0.02)
    return time.monotonic() - began
