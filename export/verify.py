"""The certificate: the served graph against the model it was made from, bit by bit."""

import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from export.rows import RowMaker
from server.predictor import Predictor
from server.schema import Matrix

ORDINARY_ROWS = 100_000
BLOCK_ROWS = 4096
#: Rows scored alone and inside batches of these sizes; the sizes straddle the
#: points at which ONNX Runtime changes the loop it runs.
INVARIANCE_ROWS = 512
BATCH_SIZES = (2, 7, 63, 64, 65, 129, 512)


class Source(Protocol):
    """The trained model: the ground truth a graph is compared with."""

    def margins(self, rows: Matrix) -> npt.NDArray[np.float64]:
        """Raw scores, float64 [n]."""

    def probabilities(self, rows: Matrix) -> npt.NDArray[np.float64]:
        """Scores after the link, float64 [n]."""


@dataclass
class Tally:
    """The comparison of one kind of rows."""

    rows: int = 0
    margin_bits_differ: int = 0
    probability_bits_differ: int = 0
    decisions_flipped: int = 0
    max_margin_difference: float = 0.0
    max_probability_difference: float = 0.0


@dataclass
class Certificate:
    """What was compared and what was found; `parity.json` of a bundle."""

    kinds: dict[str, Tally] = field(default_factory=dict)
    batch_invariance_rows: int = 0
    batch_invariance_differ: int = 0

    @property
    def exact(self) -> bool:
        """Whether not one bit differed, in any kind of row, alone or in a batch."""
        differ = (
            t.margin_bits_differ + t.probability_bits_differ + t.decisions_flipped
            for t in self.kinds.values()
        )
        return not sum(differ) and not self.batch_invariance_differ

    @property
    def total(self) -> Tally:
        """All kinds together."""
        total = Tally()
        for tally in self.kinds.values():
            total.rows += tally.rows
            total.margin_bits_differ += tally.margin_bits_differ
            total.probability_bits_differ += tally.probability_bits_differ
            total.decisions_flipped += tally.decisions_flipped
            total.max_margin_difference = max(total.max_margin_difference, tally.max_margin_difference)
            total.max_probability_difference = max(
                total.max_probability_difference, tally.max_probability_difference
            )
        return total

    def to_dict(self) -> dict[str, Any]:
        """The content of `parity.json`."""
        return {
            "exact": self.exact,
            "total": asdict(self.total),
            "kinds": {name: asdict(tally) for name, tally in self.kinds.items()},
            "batch_invariance": {
                "rows": self.batch_invariance_rows,
                "batch_sizes": list(BATCH_SIZES),
                "differ": self.batch_invariance_differ,
            },
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("lightgbm", "onnx", "onnxruntime", "numpy")},
            },
            "machine": platform.machine(),
        }


def certify(
    predictor: Predictor, source: Source, rows: RowMaker, ordinary_rows: int = ORDINARY_ROWS
) -> Certificate:
    """Compare the served graph with its source on every kind of row."""
    kinds: dict[str, Iterable[Matrix]] = {
        "ordinary": _blocks(rows, ordinary_rows),
        "boundary": rows.boundary(BLOCK_ROWS),
        "missing": [rows.missing()],
        "extreme": [rows.extreme()],
        "categories": [rows.categories()],
    }
    certificate = Certificate()
    for name, blocks in kinds.items():
        tally = certificate.kinds[name] = Tally()
        for block in blocks:
            if len(block):
                _compare(tally, predictor, source, block)
    _check_batches(certificate, predictor, rows.ordinary(INVARIANCE_ROWS))
    return certificate


def _blocks(rows: RowMaker, count: int) -> Iterator[Matrix]:
    for start in range(0, count, BLOCK_ROWS):
        yield rows.ordinary(min(BLOCK_ROWS, count - start))


def _compare(tally: Tally, predictor: Predictor, source: Source, rows: Matrix) -> None:
    margins, expected_margins = predictor.margins(rows), source.margins(rows)
    probabilities = np.array(predictor.probabilities(margins))
    expected = source.probabilities(rows)
    threshold = predictor.bundle.decision.threshold
    tally.rows += len(rows)
    tally.margin_bits_differ += _bits_differ(margins, expected_margins)
    tally.probability_bits_differ += _bits_differ(probabilities, expected)
    tally.decisions_flipped += int(np.sum((probabilities < threshold) != (expected < threshold)))
    tally.max_margin_difference = max(tally.max_margin_difference, _largest(margins, expected_margins))
    tally.max_probability_difference = max(
        tally.max_probability_difference, _largest(probabilities, expected)
    )


def _bits_differ(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> int:
    """The number of values whose 64 bits differ; unlike `!=` it tells -0.0 from 0.0."""
    return int(np.sum(ours.view(np.uint64) != np.ascontiguousarray(theirs).view(np.uint64)))


def _largest(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> float:
    return float(np.max(np.abs(ours - theirs)))


def _check_batches(certificate: Certificate, predictor: Predictor, rows: Matrix) -> None:
    alone = np.array([predictor.margin(row.tobytes()) for row in rows])
    certificate.batch_invariance_rows = len(rows)
    for size in BATCH_SIZES:
        batches = [predictor.margins(rows[start : start + size]) for start in range(0, len(rows), size)]
        certificate.batch_invariance_differ += _bits_differ(np.concatenate(batches), alone)
