"""The process of one challenger: it scores what was answered once more, and writes down both.

`python -m server.challenger.shadow MEMORY METRICS PLAN`, two descriptors and a JSON object,
started by the observer (`server/log/challenger.py`). It ends when nobody holds the other end of its
standard input any more, and has then scored what was left. No worker knows of it.
"""

import logging
import mmap
import os
import resource
import select
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from server.cli import run
from server.errors import BundleError, Problem
from server.log.answers import Answer, answers_of
from server.log.file import LogFile
from server.log.ring import LoggedResponse, Ring
from server.model.bundle import Bundle
from server.model.predictor import ONNX_ERRORS, Predictor
from server.model.schema import Row

logger = logging.getLogger(__name__)

PORTION_BYTES = 2**18
WAKE_SECONDS = 0.1
LOWEST_PRIORITY = 19
#: Address space: a graph that asks for more fails here, and takes no server's memory.
MOST_BYTES = 8 << 30
#: Whatever a model may do to a row, the next row has not done it.
_NO_OUTCOME: tuple[type[Exception], ...] = (Problem, *ONNX_ERRORS)


class Shadow:
    """Scores with one bundle what is in a ring; raises `BundleError` if a golden row is off by a bit.

    `counts` are the slots of the first region of the shared metrics.
    """

    def __init__(
        self, bundle: Bundle, ring: Ring, plan: Mapping[str, Any], counts: "memoryview[float]"
    ) -> None:
        self._bundle, self._ring, self._plan, self._counts = bundle, ring, plan, counts
        self._predictor = Predictor(bundle)
        self._predictor.check_golden_rows()
        self._file = Path(plan["file"])
        self._log = LogFile(self._file)

    def work(self) -> bool:
        """Score a portion; whether there was one."""
        taken = self._ring.take(PORTION_BYTES)
        # At most once: rows that end this process must not end the next.
        self._ring.done(taken.read, 0)
        results: Counter[str] = Counter()
        lines = [line for _, responses, _ in taken.groups for line in self._lines(responses, results)]
        if lines:
            self._write(lines)
        for result, rows in results.items():  # of what is counted the lines are there
            self._counts[self._plan["slots"][result]] += rows
        return bool(taken.groups)

    def _lines(self, responses: Iterable[LoggedResponse], results: Counter[str]) -> Iterator[bytes]:
        answers, times = [], []
        for began_ns, _, content, _, _, body in responses:
            found = list(answers_of(content, body))
            answers += found
            times += [began_ns] * len(found)
        wall_ns = time.time_ns() - time.perf_counter_ns()
        for answer, began_ns, scored in zip(answers, times, self._scored(answers), strict=True):
            if scored is None:
                results["rejected"] += 1
                continue
            score, decision = scored
            results["same" if decision == answer.decision else "flipped"] += 1
            yield self._line(answer, wall_ns + began_ns, score, decision)

    def _scored(self, answers: Sequence[Answer]) -> list[tuple[float, str] | None]:
        """Score and decision of each row, None of one that the challenger does not take."""
        encoded = [self._encoded(answer.fields) for answer in answers]
        rows = [row for row in encoded if row is not None]
        scored = iter(self._of_rows(rows))
        return [None if row is None else next(scored) for row in encoded]

    def _encoded(self, fields: Mapping[str, Any]) -> Row | None:
        schema = self._bundle.schema
        try:
            return schema.encode({name: fields[name] for name in schema.names if name in fields})
        except Problem:
            return None

    def _of_rows(self, rows: Sequence[Row]) -> list[tuple[float, str] | None]:
        if not rows:
            return []
        matrix = np.array([np.frombuffer(row) for row in rows])
        try:
            outputs = self._predictor.outputs(self._predictor.margins(matrix))
            found = self._predictor.outcomes(np.array(outputs), matrix).tolist()
        except _NO_OUTCOME:
            if len(rows) == 1:
                return [None]
            return [scored for row in rows for scored in self._of_rows([row])]
        scores = np.array(outputs).reshape(len(rows), -1).max(axis=1).tolist()
        return [(score, self._bundle.outcomes[one]) for score, one in zip(scores, found, strict=True)]

    def _line(self, answer: Answer, time_ns: int, score: float, decision: str) -> bytes:
        second, nanoseconds = divmod(time_ns, 1_000_000_000)
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        told = {
            "ts": f"{clock}.{nanoseconds // 1000:06d}Z",
            **answer.names,
            "model": self._plan["champion"],
            "score": answer.score,
            "decision": answer.decision,
            "challenger": self._bundle.label,
            "challenger_score": score,
            "challenger_decision": decision,
        }
        return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)

    def _write(self, lines: Sequence[bytes]) -> None:
        try:
            with suppress(FileNotFoundError):  # somebody took it away: the log begins it again
                if self._file.stat().st_size > self._plan["file_bytes"] > 0:
                    self._file.replace(self._file.with_suffix(".1.ndjson"))
            self._log.append([b"".join(lines)])
        except OSError as error:
            logger.error("%s cannot be written: %s", self._file, error.strerror)


def main(arguments: Sequence[str]) -> None:
    """Score until the observer has ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    memory, metrics, words = arguments
    plan = orjson.loads(words)
    bundle = Bundle.load(plan["directory"])
    if bundle.digest != plan["digest"]:
        raise BundleError(f"expected {plan['label']} in {plan['directory']} as it was, got another bundle")
    counts = memoryview(mmap.mmap(int(metrics), 0)).cast("d")
    shadow = Shadow(bundle, Ring(mmap.mmap(int(memory), 0)), plan, counts)
    os.setpriority(os.PRIO_PROCESS, 0, LOWEST_PRIORITY)  # what is answered meanwhile goes first
    ended = select.poll()
    ended.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    while not ended.poll(0):
        if not shadow.work():
            ended.poll(WAKE_SECONDS * 1000)
    while shadow.work():
        pass
    os._exit(0)  # all is written; to take ONNX Runtime apart would take longer than the observer waits


if __name__ == "__main__":
    run(main)
