"""What clients sent and what became of each request, held against the log, which must have every response."""

import time
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loadtest.harness.percentiles import percentiles_us
from loadtest.harness.reference_rows import ReferenceRow
from server.model.json_text import object_or_empty

#: What can become of a request that is neither answered rightly nor shed.
RESET, TIMEOUT, GARBLED, WRONG = "reset", "timeout", "garbled", "wrong"
SHED_STATUS = 503


class RightResponse(NamedTuple):
    """A response that was right: to which row, by which model, and when (monotonic seconds)."""

    place: int
    model: str
    when: float


class Failure(NamedTuple):
    """A request that failed: how, when it was sent and when that was seen (monotonic seconds).

    `instance` is the prefix of the last id that its connection was answered with, ""
    before the first response: the worker at the other end.
    """

    kind: str
    sent: float
    seen: float
    instance: str


class RequestRecords:
    """The requests of some clients. For one thread; others may read the counts."""

    def __init__(self, rows: Sequence[ReferenceRow]) -> None:
        self.rows = rows
        self.sent = 0
        self.ok = 0
        self.shed = 0
        #: Connections that were refused: nothing was sent over them.
        self.refused = 0
        #: Requests that were due and found no free connection until the end.
        self.unsent = 0
        #: Requests that the client itself did not finish.
        self.left = 0
        self.failures: list[Failure] = []
        self.statuses: Counter[int] = Counter()
        self.responses: dict[str, RightResponse] = {}
        #: When each instance gave its first response (monotonic seconds).
        self.instances: dict[str, float] = {}
        self._ended, self._seconds = array("d"), array("d")

    @property
    def failed(self) -> Counter[str]:
        """How many requests failed, by kind."""
        return Counter(failure.kind for failure in self.failures)

    def take(self, place: int, status: int, body: bytes, due: float, instance: str = "") -> str:
        """Judge a response to the row at `place`; the instance that gave it, or that answered before."""
        now = time.monotonic()
        self.statuses[status] += 1
        if status == SHED_STATUS:
            self.shed += 1
            return instance
        if status != 200:
            self.fail(f"status {status}", due, instance)
            return instance
        document = object_or_empty(body)
        identifier, model = str(document.get("id")), str(document.get("model"))
        right = self.rows[place].scores.get(model)
        score = document.get("probability", document.get("probabilities"))
        if right is None or score != right or identifier in self.responses:
            self.fail(WRONG, due, instance)
            return instance
        self.ok += 1
        self.responses[identifier] = RightResponse(place, model, now)
        self._ended.append(now)
        self._seconds.append(now - due)
        self.instances.setdefault(instance_of(identifier), now)
        return instance_of(identifier)

    def fail(self, kind: str, sent: float, instance: str = "") -> None:
        """Note a request that failed."""
        self.failures.append(Failure(kind, sent, time.monotonic(), instance))

    def right_between(self, begin: float, end: float) -> int:
        """Right responses that came between two moments (monotonic seconds)."""
        ended = np.array(self._ended)
        return int(((ended >= begin) & (ended < end)).sum())

    def percentiles_ms(self, begin: float = 0.0, end: float = float("inf")) -> dict[str, float]:
        """Percentiles of the latency of right responses between two moments, from when each was due."""
        ended, seconds = np.array(self._ended), np.array(self._seconds)
        within = seconds[: len(ended)][(ended >= begin) & (ended < end)]
        found = percentiles_us((within * 1e9).astype(np.int64))
        return {name.replace("_us", "_ms"): value / 1000 for name, value in found.items()}


class Reconciled(NamedTuple):
    """Request records held against a log.

    `lost` are the ids of responses without a line, `duplicates` ids with two lines,
    `wrong` the ids whose line has another row, model or score than the response.
    `others` is the number of lines that belong to no response of the records.
    """

    lines: int
    unreadable: int
    lost: list[str]
    duplicates: list[str]
    wrong: list[str]
    others: int

    @property
    def faults(self) -> dict[str, int]:
        """How many of each that must not be: empty if all is well."""
        counts = {
            "lost": len(self.lost),
            "duplicate": len(self.duplicates),
            WRONG: len(self.wrong),
            "unreadable": self.unreadable,
        }
        return {kind: count for kind, count in counts.items() if count}


def reconcile(records: RequestRecords, folder: Path) -> Reconciled:
    """Hold request records against every log in a folder, once the server has written them."""
    seen: Counter[str] = Counter()
    wrong, unreadable = [], 0
    for file in sorted(folder.glob("*.jsonl")):
        with file.open("rb") as lines:
            for line in lines:
                document = object_or_empty(line)
                identifier = document.get("id")
                if identifier is None or not line.endswith(b"\n"):
                    unreadable += 1
                    continue
                seen[identifier] += 1
                answered = records.responses.get(identifier)
                if answered is not None and not _agrees(
                    document, records.rows[answered.place], answered.model
                ):
                    wrong.append(identifier)
    return Reconciled(
        lines=seen.total(),
        unreadable=unreadable,
        lost=[identifier for identifier in records.responses if identifier not in seen],
        duplicates=[identifier for identifier, times in seen.items() if times > 1],
        wrong=wrong,
        others=sum(times for identifier, times in seen.items() if identifier not in records.responses),
    )


def instance_of(identifier: str) -> str:
    """The prefix that all ids of one model in one worker's life share."""
    return identifier.partition("-")[0]


def _agrees(line: dict[str, Any], row: ReferenceRow, model: str) -> bool:
    """Whether the line of a row, or of a batch that takes one line, has what was sent and answered."""
    is_batch = isinstance(row.fields, list)
    score = line.get("probabilities" if is_batch else "probability")
    sent = {"rows": row.fields} if is_batch else row.fields
    return line.get("model") == model and score == row.scores[model] and line.get("input") == sent
