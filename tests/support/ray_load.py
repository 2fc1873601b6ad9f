"""A load of several keep-alive connections in threads, every response kept with what was asked."""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import orjson

from tests.support.servers import address

CONNECTIONS = 4
#: Of a connection between two requests: one costs Ray's proxy and replica milliseconds of processor, for as
#: long as the commands beside it take.
PAUSE_SECONDS = 0.1


class RawResponse(NamedTuple):
    """What came back for the body at an index; `replica` is the id's part of each process."""

    row: int
    model: str
    probability: float
    replica: str


class Load:
    """What was answered so far; `failures` are words about requests without a 200."""

    def __init__(self) -> None:
        self.answers: list[RawResponse] = []
        self.failures: list[str] = []

    def models(self, last: int) -> set[str]:
        """The models of the last answers."""
        return {answer.model for answer in self.answers[-last:]}

    def replicas(self, last: int) -> list[int]:
        """How many of the last answers each replica gave."""
        return sorted(Counter(answer.replica for answer in self.answers[-last:]).values())


@contextmanager
def loading(url: str, bodies: Sequence[bytes]) -> Iterator[Load]:
    """Post the bodies in turn until the block ends."""
    load, stop = Load(), threading.Event()
    threads = [
        threading.Thread(target=_post, args=(url, bodies, n, load, stop), daemon=True)
        for n in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def _post(url: str, bodies: Sequence[bytes], first: int, load: Load, stop: threading.Event) -> None:
    connection = http.client.HTTPConnection(*address(url), timeout=60)
    index = first
    while not stop.wait(PAUSE_SECONDS):
        index = (index + CONNECTIONS) % len(bodies)
        try:
            connection.request("POST", "/predict", bodies[index], {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            load.failures.append(repr(error))
            connection.close()
            continue
        if response.status == 200:
            answer = orjson.loads(content)
            replica = answer["id"].partition("-")[0]
            load.answers.append(RawResponse(index, answer["model"], answer["probability"], replica))
        else:
            load.failures.append(f"{response.status} {content[:100]!r}")
    connection.close()
