"""Logged traffic scored once more: what another bundle would change, or whether the same one still agrees."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from monitoring.errors import LogError
from monitoring.logs.files import BOM, log_files, masks_of, open_lines
from monitoring.logs.lines import counted, matching
from server.errors import Problem
from server.log.masked import DROP
from server.metrics.drift import psi
from server.model.bundle import Bundle
from server.model.distribution import Distribution
from server.model.logged_rows import LoggedRow, logged_rows
from server.model.predictor import Predictor
from server.model.row_names import name_of_row

CHUNK_ROWS = 20_000
MOST_CHANGED = 10
_TIMED_ROWS = 2000
#: More classes have too many ways to be renamed.
_MOST_RENAMED = 6
_QUANTILES = (0.5, 0.95, 0.99, 1.0)

Scores = npt.NDArray[np.float64]


class ReplayedLine(NamedTuple):
    """One row of a log, with its id and the model that answered it."""

    id: str
    model: str
    row: LoggedRow

    @property
    def instance(self) -> str:
        """The worker process that wrote it."""
        return self.id.partition("-")[0]


class ScoreChange(NamedTuple):
    """One row's score (`LoggedRow.score`), then and now."""

    id: str
    logged: float
    replayed: float


@dataclass(frozen=True)
class Replay:
    """A log against a bundle.

    `equal` rows have the logged answer, and margin, to the bit; `audited` rows were logged by a
    model of this bundle's name and version, `disagreeing` ones of them are not
    equal. `flips` counts (logged decision or class, the one now), of a model of
    values none. `moved` are quantiles of the absolute change of the score at 50, 95,
    99, 100 %. `others` are the rows of other models, which were left out.
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
    most_changed: list[ScoreChange]
    microseconds_per_row: float
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def flipped(self) -> int:
        """The rows whose decision, or class, changed."""
        return sum(self.flips.values())

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "model": self.bundle,
            "rows": self.rows,
            "skipped": self.skipped,
            "equal": self.equal,
            "audited": self.audited,
            "disagreeing": self.disagreeing,
            "flipped": self.flipped,
            "flips": [{"logged": a, "now": b, "rows": count} for (a, b), count in sorted(self.flips.items())],
            "mean_shift": self.mean_shift,
            "moved": dict(zip(("p50", "p95", "p99", "largest"), self.moved, strict=True)),
            "score_psi": self.score_psi,
            "other_models": dict(self.others),
        }


class _Tally:
    """What is added up over the chunks of a log."""

    def __init__(self) -> None:
        self.before: list[Scores] = []
        self.after: list[Scores] = []
        self.equal = self.audited = self.disagreeing = 0
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.changed: list[ScoreChange] = []

    def add(
        self,
        lines: Sequence[ReplayedLine],
        margins: Scores,
        outputs: Scores,
        outcomes: Sequence[str],
        label: str,
    ) -> None:
        """Compare what some rows were answered with what they would be now, float64 [n] or [n, K]."""
        logged = np.array([line.row.output for line in lines], dtype=np.float64)
        same = (logged == outputs).all(axis=1) if outputs.ndim == 2 else logged == outputs
        same &= [
            line.row.margin in (None, _digits(margin))
            for line, margin in zip(lines, margins.tolist(), strict=True)
        ]
        ours = np.array([line.model == label for line in lines])
        self.equal += int(same.sum())
        self.audited += int(ours.sum())
        self.disagreeing += int((ours & ~same).sum())
        self.pairs.update(
            (line.row.outcome, now)
            for line, now in zip(lines, outcomes, strict=True)
            if line.row.outcome and now
        )
        then, now = (s.max(axis=1) if s.ndim == 2 else s for s in (logged, outputs))
        moved = [
            ScoreChange(line.id, *pair)
            for line, pair in zip(lines, zip(then.tolist(), now.tolist(), strict=True), strict=True)
        ]
        self.changed = nlargest(
            MOST_CHANGED, self.changed + moved, key=lambda change: abs(change.replayed - change.logged)
        )
        self.before.append(then)
        self.after.append(now)


def _digits(margin: float | list[float]) -> str | list[str]:
    """A row's margin, or those of its classes, as the log has it."""
    return [one.hex() for one in margin] if isinstance(margin, list) else margin.hex()


def replay(paths: Sequence[Path], bundle: Bundle, label: str | None = None) -> Replay:
    """Score the rows of some logs with a bundle; raises `LogError`.

    Those of `label` count (`name@version`, or a name for all versions), without it
    those of every version of the bundle. Fields the bundle does not know are left
    out; rows it cannot take are skipped and counted, as are those that a mask made
    unreadable.
    """
    predictor = Predictor(bundle)
    tally, ignored, others = _Tally(), set[str](), Counter[str]()
    files = log_files(paths)
    chosen = _chosen(files, label or bundle.name, others)
    readable, skipped = _readable(chosen, files, bundle), 0
    encoded: list[bytes] = []
    while chunk := list(itertools.islice(readable, CHUNK_ROWS)):
        lines, encoded = _encode(chunk, bundle, ignored)
        skipped += len(chunk) - len(lines)
        if lines:
            rows = np.frombuffer(b"".join(encoded)).reshape(len(lines), -1)
            margins = predictor.margins(rows)
            outputs = predictor.output_array(margins)
            names = [bundle.outcomes[outcome] for outcome in predictor.outcomes(outputs, rows).tolist()]
            tally.add(lines, margins, outputs, names, bundle.label)
    if not tally.before:
        raise LogError(
            f"expected rows of {label or bundle.name} that {bundle.label} can score, got none: {skipped:,} "
            f"were skipped, and left out {counted(others)}: name those of another model with --lines"
        )
    then, now = np.concatenate(tally.before), np.concatenate(tally.after)
    change = np.abs(now - then)
    tenths = tuple(np.unique(np.quantile(then, np.arange(1, 10) / 10)).tolist())
    reference = Distribution.from_values(then, tenths)
    return Replay(
        bundle=bundle.label,
        rows=len(now),
        skipped=skipped,
        ignored=sorted(ignored),
        equal=tally.equal,
        audited=tally.audited,
        disagreeing=tally.disagreeing,
        flips=_flips(tally.pairs, bundle),
        mean_shift=float((now - then).mean()),
        moved=[float(value) for value in np.quantile(change, _QUANTILES)],
        score_psi=psi(reference.counts(then), reference.counts(now)),
        most_changed=[c for c in tally.changed if c.logged != c.replayed],
        microseconds_per_row=_microseconds(predictor, encoded),
        others=dict(others),
    )


def _chosen(files: Sequence[Path], wanted: str, others: Counter[str]) -> Iterator[ReplayedLine]:
    """Every row of the wanted model, those of batches one by one; bad lines are left out."""
    for file in files:
        with open_lines(file) as content:
            for line in content:
                try:
                    record = orjson.loads(line.removeprefix(BOM))
                    model, rows = record["model"], list(logged_rows(record))
                    ids = [name_of_row(record, i) for i in range(len(rows))]
                except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                    continue
                if not matching([model], wanted):
                    others[model] += len(rows)
                    continue
                yield from (ReplayedLine(id_, model, row) for id_, row in zip(ids, rows, strict=True))


def _readable(
    lines: Iterator[ReplayedLine], files: Sequence[Path], bundle: Bundle
) -> Iterator[ReplayedLine | None]:
    """The same, None for a row that a mask took a field out of, which would be scored as missing."""
    masks = masks_of(files)
    ours = {feature.name for feature in bundle.schema.features if feature.personal == DROP}
    for line in lines:
        mask = masks.get(line.instance)
        dropped = ours if mask is None else {name for name, rule in mask.items() if rule == DROP}
        hidden = (name for name in bundle.schema.names if name in dropped and name not in line.row.fields)
        yield None if any(hidden) else line


def _encode(
    chunk: Sequence[ReplayedLine | None], bundle: Bundle, ignored: set[str]
) -> tuple[list[ReplayedLine], list[bytes]]:
    known = frozenset(bundle.schema.names)
    lines, encoded = [], []
    for line in chunk:
        if line is None or not _fits(line.row.output, bundle):
            continue
        fields = line.row.fields
        if not known.issuperset(fields):
            ignored.update(fields.keys() - known)
            fields = {name: value for name, value in fields.items() if name in known}
        try:
            encoded.append(bundle.schema.encode(fields))
        except Problem:
            continue
        lines.append(line)
    return lines, encoded


def _fits(output: Any, bundle: Bundle) -> bool:
    """Whether a response is one of the bundle's task: a number, or one for each class."""
    if bundle.classes:
        return isinstance(output, list) and len(output) == len(bundle.classes)
    return isinstance(output, float | int)


def _flips(pairs: Counter[tuple[str, str]], bundle: Bundle) -> dict[tuple[str, str], int]:
    """The pairs of different decisions.

    Where every logged word is another than the bundle's, the decisions were
    renamed: then the words are paired so that fewest rows changed.
    """
    logged = sorted({then for then, _ in pairs})
    meant = {word: word for word in logged}
    if not set(logged) & set(bundle.outcomes) and len(logged) <= len(bundle.outcomes) <= _MOST_RENAMED:
        candidates = itertools.permutations(bundle.outcomes, len(logged))
        best = max(candidates, key=lambda words: sum(pairs[pair] for pair in zip(logged, words, strict=True)))
        meant = dict(zip(logged, best, strict=True))
    return {(then, now): count for (then, now), count in pairs.items() if meant[then] != now}


def _microseconds(predictor: Predictor, encoded: list[bytes]) -> float:
    """The median time of one row in the predictor, as the server calls it."""
    times = []
    for row in encoded[:_TIMED_ROWS]:
        began = time.perf_counter_ns()
        predictor.predict(row)
        times.append(time.perf_counter_ns() - began)
    return float(np.median(times)) / 1000 if times else float("nan")
