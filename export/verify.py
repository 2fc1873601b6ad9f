"""The parity report: what is served against the model it was made from, bit by bit.

Its first part compares the graph's margins with the library's on encoded rows. Its
second, `rows`, compares answers: JSON as a client sends it, through decoder, graph,
link and outcome, with the library's own prediction on a table as in training. So a
fault in any of these shows, not only one in the graph.
"""

import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import orjson

from export.errors import ExportRefused
from export.forest.decided import ClassTally, OwnClasses
from export.forest.progress import ExportProgress
from export.forest.rows import RowMaker, let_through
from export.forest.source import JsonRows, ModelSource
from server.errors import ModelFailure
from server.model.decoder import row_decoder
from server.model.link import Margins
from server.model.manifest import bound_of
from server.model.predictor import Predictor
from server.model.schema import Matrix

ORDINARY_ROWS = 100_000
#: How far the probabilities of all classes may be from adding up to 1: float16 has three digits.
_SUM_TOLERANCE = 1e-2
#: Rows of a kind whose outputs are compared too: an output follows from its margin alone, whose bits are
#: compared in every row, and a library takes as long for either.
OUTPUT_ROWS = 2_000
#: Rows written as clients write them.
SENT_ROWS = 1000
#: Fewer of very many columns: each is an object with a member of each.
MIN_SENT_ROWS, MAX_SENT_VALUES = 100, 500_000
#: Rows scored alone and inside batches of these sizes; the sizes straddle the
#: points at which ONNX Runtime changes the loop it runs.
INVARIANCE_ROWS = 512
BATCH_SIZES = (2, 7, 63, 64, 65, 129, 512)


@dataclass
class ParityTally:
    """The comparison of one kind of rows.

    Differences of margins above 1, and the relative one of outputs above 1, are in parts of the
    value: amounts are not probabilities.
    """

    rows: int = 0
    rows_after_link: int = 0
    margin_bits_differ: int = 0
    probability_bits_differ: int = 0
    decisions_flipped: int = 0
    max_margin_difference: float = 0.0
    max_probability_difference: float = 0.0
    max_relative_difference: float = 0.0

    def add(self, other: "ParityTally") -> None:
        """Count another kind of rows too: numbers are added, largest values kept."""
        for name, value in asdict(other).items():
            mine = getattr(self, name)
            setattr(self, name, max(mine, value) if isinstance(value, float) else mine + value)


@dataclass
class RowTally:
    """The comparison of answers to rows as clients send them."""

    rows: int = 0
    answer_bits_differ: int = 0
    outcomes_differ: int = 0
    max_answer_difference: float = 0.0
    max_relative_difference: float = 0.0


@dataclass
class ParityReport:
    """What was compared and what was found; `parity.json` of a bundle."""

    kinds: dict[str, ParityTally] = field(default_factory=dict)
    rows: RowTally = field(default_factory=RowTally)
    classes: ClassTally = field(default_factory=ClassTally)
    coverage: dict[str, int] = field(default_factory=dict)
    batch_invariance_rows: int = 0
    batch_invariance_differ: int = 0
    batch_invariance_difference: float = 0.0

    @property
    def margins_exact(self) -> bool:
        """Whether not one bit of a margin differed, in any kind of row, alone or in a batch."""
        return not self.total.margin_bits_differ and not self.batch_invariance_differ

    @property
    def exact(self) -> bool:
        """Whether neither margins nor what follows from them differed by a bit."""
        total = self.total
        differ = (
            total.probability_bits_differ
            + total.decisions_flipped
            + self.rows.answer_bits_differ
            + self.rows.outcomes_differ
        )
        return self.margins_exact and not differ

    @property
    def found(self) -> float:
        """The largest difference of a margin, of a row alone or in a batch, in parts of one above 1."""
        # A row alone may be as far from its batch as its batch is from the source.
        return self.total.max_margin_difference + self.batch_invariance_difference

    @property
    def bound(self) -> float:
        """How far a margin may be off, of rows that were not compared too; 0 where no bit differed."""
        return 0.0 if self.margins_exact else bound_of(self.found)

    @property
    def total(self) -> ParityTally:
        total = ParityTally()
        for tally in self.kinds.values():
            total.add(tally)
        return total

    def to_dict(self) -> dict[str, Any]:
        return {
            "exact": self.exact,
            "total": asdict(self.total),
            "kinds": {name: asdict(tally) for name, tally in self.kinds.items()},
            "rows": asdict(self.rows),
            "classes": asdict(self.classes),
            "coverage": self.coverage,
            "batch_invariance": {
                "rows": self.batch_invariance_rows,
                "batch_sizes": list(BATCH_SIZES),
                "differ": self.batch_invariance_differ,
                "max_difference": self.batch_invariance_difference,
            },
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("lightgbm", "onnx", "onnxruntime", "numpy")},
            },
            "machine": platform.machine(),
        }


def compare(
    predictor: Predictor,
    source: ModelSource,
    rows: RowMaker,
    golden: JsonRows,
    ordinary_rows: int = ORDINARY_ROWS,
    classes: OwnClasses | None = None,
) -> ParityReport:
    """Compare what is served with its source on every kind of row that the schema lets through."""
    schema = predictor.bundle.schema
    encoded = np.array([np.frombuffer(schema.encode(row)) for row in golden])
    kinds: dict[str, Iterable[Matrix]] = {
        "ordinary": _blocks(rows, ordinary_rows),
        "boundary": rows.boundary(),
        "missing": rows.missing(),
        "extreme": rows.extreme(),
        "categories": rows.categories(),
        "golden": [encoded],
    }
    report = ParityReport(coverage=rows.coverage)
    progress = ExportProgress()
    for name, blocks in kinds.items():
        tally = report.kinds[name] = ParityTally()
        for block in _gathered(blocks, rows.block_rows):
            _compare(tally, predictor, source, let_through(schema, block), classes)
            progress(f"Comparing with the model: {tally.rows:,} {name} rows so far")
    sent = rows.sent(min(SENT_ROWS, max(MIN_SENT_ROWS, MAX_SENT_VALUES // max(1, rows.width))))
    report.rows = compare_rows(predictor, source, [*golden, *sent])
    _check_batches(report, predictor, let_through(schema, rows.ordinary(INVARIANCE_ROWS)))
    report.classes = classes.tally if classes else report.classes
    return report


def _blocks(rows: RowMaker, count: int) -> Iterator[Matrix]:
    count = rows.ordinary_rows(count)
    for start in range(0, count, rows.block_rows):
        yield rows.ordinary(min(rows.block_rows, count - start))


def _gathered(blocks: Iterable[Matrix], size: int) -> Iterator[Matrix]:
    """The same rows in fewer blocks: a library's call costs more than a small block."""
    held: list[Matrix] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= size:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _compare(
    tally: ParityTally, predictor: Predictor, source: ModelSource, rows: Matrix, classes: OwnClasses | None
) -> None:
    margins = predictor.margins(rows)
    with np.errstate(over="ignore", invalid="ignore"):  # scikit-learn sums a matrix to look for infinities
        expected = source.margins(rows)
    tally.rows += len(rows)
    tally.margin_bits_differ += _bits_differ(margins, expected)
    tally.max_margin_difference = max(tally.max_margin_difference, _relative(margins, expected))
    outputs = predictor.output_array(margins)
    _check_outputs(predictor, outputs)
    if rest := OUTPUT_ROWS - tally.rows_after_link:
        expected = _compare_outputs(tally, predictor, source, rows[:rest], outputs[:rest])
        if classes:
            classes.compare(rows[:rest], expected)


def _compare_outputs(
    tally: ParityTally, predictor: Predictor, source: ModelSource, rows: Matrix, outputs: Margins
) -> Margins:
    """Count what differs; the source's own outputs."""
    with np.errstate(over="ignore", invalid="ignore"):
        expected = source.outputs(rows)
    tally.rows_after_link += len(rows)
    tally.probability_bits_differ += _bits_differ(outputs, expected)
    tally.decisions_flipped += int(np.sum(_decisions(predictor, outputs) != _decisions(predictor, expected)))
    tally.max_probability_difference = max(tally.max_probability_difference, _largest(outputs, expected))
    tally.max_relative_difference = max(tally.max_relative_difference, _relative(outputs, expected))
    return expected


def _check_outputs(predictor: Predictor, outputs: Margins) -> None:
    """Raise `ExportRefused` for outputs that the server would answer 500 to, or that are no distribution."""
    bundle = predictor.bundle
    if bundle.task not in ("binary", "multiclass"):
        return
    outside = outputs[(outputs < 0.0) | (outputs > 1.0)]
    if outside.size:
        raise ExportRefused(
            f"expected probabilities between 0 and 1 from the model, got {outside.flat[0]:g}: these are "
            "logits, or values of several targets; add a sigmoid or a softmax to the model, or use "
            "--task regression for one value that is no probability"
        )
    sums = outputs.sum(axis=-1) if bundle.classes and bundle.link["name"] != "one_vs_all" else np.ones(1)
    off = sums[np.isfinite(sums) & (np.abs(sums - 1.0) > _SUM_TOLERANCE)]
    if off.size:
        raise ExportRefused(
            f"expected the probabilities of {len(bundle.classes)} classes to add up to 1, got {off[0]:g}: of "
            "several targets serve a model for each, to votes or scores of one add a softmax or an L1 "
            "Normalizer in the graph"
        )


def _decisions(predictor: Predictor, outputs: Margins) -> Any:
    """What follows from the outputs: a decision, a class, or nothing that could flip."""
    if predictor.bundle.task == "binary":
        return outputs >= predictor.bundle.decision.threshold
    return outputs.argmax(axis=1) if predictor.bundle.classes else np.zeros(len(outputs))


def _bits_differ(ours: Margins, theirs: Margins) -> int:
    """The number of rows with a value whose bits differ; 0.0 and -0.0 are one number, as any two NaN are."""
    if ours.shape != theirs.shape:
        raise ExportRefused(
            f"expected scores of shape {theirs.shape}, got {ours.shape}: the file is damaged; save it again"
        )
    differ = (ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs))
    return int(np.sum(differ.reshape(len(ours), -1).any(axis=1)))


def _largest(ours: Margins, theirs: Margins) -> float:
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = np.where(same, 0.0, np.abs(ours - theirs))
    return float(np.max(np.nan_to_num(difference, nan=np.inf), initial=0.0))


def compare_rows(predictor: Predictor, source: ModelSource, rows: JsonRows) -> RowTally:
    """Compare the answers to rows as clients send them; raises `ExportRefused` for one without."""
    schema = predictor.bundle.schema
    decode = row_decoder(schema)
    try:
        encoded = [decode(orjson.dumps(row)) for row in rows]
        served = [predictor.predict(row) for row in encoded]
    except ModelFailure as error:
        raise ExportRefused(
            f"expected an answer to every row that the schema takes, got none: {error}; describe what it "
            "takes"
        ) from None
    ours = np.array([output for output, _ in served], dtype=np.float64)
    expected = np.asarray(source.predictions(rows, schema), dtype=np.float64)
    matrix = np.frombuffer(b"".join(encoded)).reshape(len(rows), -1)
    return RowTally(
        rows=len(rows),
        answer_bits_differ=_bits_differ(ours, expected),
        outcomes_differ=int(np.sum([index for _, index in served] != predictor.outcomes(expected, matrix))),
        max_answer_difference=_largest(ours, expected),
        max_relative_difference=_relative(ours, expected),
    )


def _relative(ours: Margins, theirs: Margins) -> float:
    """The largest difference, in parts of the value where that is above 1: amounts are not probabilities."""
    scale = np.maximum(1.0, np.abs(theirs))
    with np.errstate(invalid="ignore"):  # inf / inf
        return _largest(
            np.where(ours == theirs, 0.0, ours / scale), np.where(ours == theirs, 0.0, theirs / scale)
        )


def hangs_on_batch(predictor: Predictor, rows: RowMaker) -> bool:
    """Whether a bit of a row's margins hangs on the rows beside it."""
    report = ParityReport()
    _check_batches(report, predictor, let_through(predictor.bundle.schema, rows.ordinary(INVARIANCE_ROWS)))
    return report.batch_invariance_differ > 0


def _check_batches(report: ParityReport, predictor: Predictor, rows: Matrix) -> None:
    alone = np.array([predictor.row_margins(row.tobytes()) for row in rows])
    report.batch_invariance_rows = len(rows)
    for size in BATCH_SIZES:
        batches = [predictor.margins(rows[start : start + size]) for start in range(0, len(rows), size)]
        together = np.concatenate(batches).reshape(alone.shape)
        report.batch_invariance_differ += _bits_differ(together, alone)
        difference = _relative(together, alone)
        report.batch_invariance_difference = max(report.batch_invariance_difference, difference)
