"""Logged traffic scored once more: what another bundle would change, or whether the same one still agrees."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from monitoring.errors import LogError
from monitoring.logs.files import log_files
from server.model.bundle import Bundle
from server.metrics.drift import psi
from server.errors import Problem
from server.model.predictor import Predictor
from server.model.reference import Distribution

CHUNK_ROWS = 20_000
MOST_CHANGED = 10
_TIMED_ROWS = 2000
_QUANTILES = (0.5, 0.95, 0.99, 1.0)


class LoggedRow(NamedTuple):
    """One row of a log: its id, what it was answered by and with, and what came in."""

    id: str
    model: str
    probability: float
    decision: str
    fields: dict[str, Any]


class Change(NamedTuple):
    """One row's probability, then and now."""

    id: str
    logged: float
    replayed: float


@dataclass(frozen=True)
class Replay:
    """A log against a bundle.

    `equal` rows have the logged probability to the bit; `audited` rows were
    logged by a model of this bundle's name and version, `disagreeing` ones of
    them are not equal. `flips` counts (logged decision, decision now). `moved`
    are quantiles of the absolute change of the probability at 50, 95, 99, 100 %.
    """

    bundle: str
    rows: int
    skipped: int
    ignored: list[str]
    equal: int
    audited: int
    disagreeing: int
    flips: dict[tuple[str, str], int]
    mean_shift: float
    moved: list[float]
    score_psi: float
    most_changed: list[Change]
    microseconds_per_row: float

    @property
    def flipped(self) -> int:
        """The rows whose decision changed."""
        return sum(self.flips.values())


def replay(paths: Sequence[Path], bundle: Bundle) -> Replay:
    """Score every row of some logs with a bundle; raises `LogError`.

    Fields the bundle does not know are left out; rows it cannot take are skipped
    and counted, as are those that a mask made unreadable.
    """
    if bundle.task != "binary":
        raise LogError(f"expected a binary classifier to replay with, got {bundle.label}: {bundle.task}")
    predictor = Predictor(bundle)
    before: list[npt.NDArray[np.float64]] = []
    after: list[npt.NDArray[np.float64]] = []
    flips: Counter[tuple[str, str]] = Counter()
    changed: list[Change] = []
    ignored: set[str] = set()
    skipped = audited = disagreeing = 0
    logged = logged_rows(log_files(paths))
    while chunk := list(islice(logged, CHUNK_ROWS)):
        rows, encoded = _encode(chunk, bundle, ignored)
        skipped += len(chunk) - len(rows)
        if not rows:
            continue
        margins = predictor.margins(np.frombuffer(b"".join(encoded)).reshape(len(rows), -1))
        then, now = np.array([row.probability for row in rows]), np.array(predictor.probabilities(margins))
        ours = np.array([row.model == bundle.label for row in rows])
        audited += int(ours.sum())
        disagreeing += int((ours & (then != now)).sum())
        flips.update(_flips(rows, now, bundle))
        moved = [Change(row.id, row.probability, float(p)) for row, p in zip(rows, now, strict=True)]
        changed = nlargest(MOST_CHANGED, changed + moved, key=lambda c: abs(c.replayed - c.logged))
        before.append(then)
        after.append(now)
    if not before:
        raise LogError(f"expected rows that {bundle.label} can score, got none: skipped {skipped}")
    return _result(
        bundle,
        np.concatenate(before),
        np.concatenate(after),
        skipped=skipped,
        ignored=sorted(ignored),
        audited=audited,
        disagreeing=disagreeing,
        flips=dict(flips),
        most_changed=[c for c in changed if c.logged != c.replayed],
        microseconds_per_row=_microseconds(predictor, encoded),
    )


def logged_rows(files: Sequence[Path]) -> Iterator[LoggedRow]:
    """Every row of a binary classifier's log, those of batches one by one; bad lines are left out."""
    for file in files:
        with open(file, "rb") as lines:
            for line in lines:
                try:
                    record = orjson.loads(line)
                    yield from _rows(record)
                except (orjson.JSONDecodeError, KeyError, TypeError):
                    continue


def _rows(record: dict[str, Any]) -> Iterator[LoggedRow]:
    id_, model, fields = record["id"], record["model"], record["input"]
    if "decisions" in record:
        answers = zip(fields["rows"], record["probabilities"], record["decisions"], strict=True)
        for i, (row, probability, decision) in enumerate(answers):
            yield LoggedRow(f"{id_}/{i}", model, probability, decision, row)
    else:
        yield LoggedRow(id_, model, record["probability"], record["decision"], fields)


def _encode(chunk: list[LoggedRow], bundle: Bundle, ignored: set[str]) -> tuple[list[LoggedRow], list[bytes]]:
    known = frozenset(bundle.schema.names)
    rows, encoded = [], []
    for row in chunk:
        fields = row.fields
        if not known.issuperset(fields):
            ignored.update(fields.keys() - known)
            fields = {name: value for name, value in fields.items() if name in known}
        try:
            encoded.append(bundle.schema.encode(fields))
        except Problem:
            continue
        rows.append(row)
    return rows, encoded


def _flips(rows: list[LoggedRow], now: npt.NDArray[np.float64], bundle: Bundle) -> Iterator[tuple[str, str]]:
    words = (bundle.decision.below, bundle.decision.otherwise)
    for row, above in zip(rows, (now >= bundle.decision.threshold).tolist(), strict=True):
        if row.decision != words[above]:
            yield row.decision, words[above]


def _result(
    bundle: Bundle, then: npt.NDArray[np.float64], now: npt.NDArray[np.float64], **more: Any
) -> Replay:
    change = np.abs(now - then)
    tenths = Distribution.from_values(
        then, tuple(np.unique(np.quantile(then, np.arange(1, 10) / 10)).tolist())
    )
    return Replay(
        bundle=bundle.label,
        rows=len(now),
        equal=int((now == then).sum()),
        mean_shift=float((now - then).mean()),
        moved=[float(value) for value in np.quantile(change, _QUANTILES)],
        score_psi=psi(tenths.counts(then), tenths.counts(now)),
        **more,
    )


def _microseconds(predictor: Predictor, encoded: list[bytes]) -> float:
    """The median time of one row in the predictor, as the server calls it."""
    times = []
    for row in encoded[:_TIMED_ROWS]:
        began = time.perf_counter_ns()
        predictor.predict(row)
        times.append(time.perf_counter_ns() - began)
    return float(np.median(times)) / 1000 if times else float("nan")
