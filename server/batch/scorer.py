"""One block of a file, scored: columns in, the same columns and the model's responses out."""

import io
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from server.batch.blocks import Block
from server.batch.columns import encode_table
from server.batch.csv_block import CsvTable, csv_record, csv_table, quoted
from server.batch.exponentials import column_exp
from server.batch.formats import CSV, EXCEL, LINES, PARQUET, PARQUET_LEVEL
from server.batch.json_lines import LinesReader, extended, members_table
from server.batch.layout import FileLayout
from server.batch.results import BlockResult
from server.batch.values import held_by, refuse_infinite
from server.compiled.backend import Name, open_backend
from server.errors import BadValue, BatchRefused, ModelFailure
from server.explain.explainer import Explainer
from server.explain.reasons import ReasonTexts, largest
from server.model.bounds import Bounds
from server.model.bundle import CONTRIBUTIONS_FILE, Bundle
from server.model.judge import BETWEEN
from server.model.link import Margins
from server.model.predictor import Predictor
from server.model.schema import Matrix
from server.tables.columns import output_columns

OnBadRow: TypeAlias = Literal["fail", "skip", "null"]
Flags: TypeAlias = npt.NDArray[np.bool_]


class Output(NamedTuple):
    """What is written: the kind of file, the separator of a text, what of bad rows, how many reasons.

    `alone` are the added columns, where the file's own get beside them in another way.
    """

    kind: str
    separator: str = ","
    on_bad_row: OnBadRow = "fail"
    allow_missing: bool = False
    reasons: int = 0
    alone: bool = False


class BatchScorer:
    """Scores blocks of one layout into parts of one output; for any thread."""

    def __init__(
        self,
        bundle: Bundle,
        layout: FileLayout,
        output: Output,
        backend: Name = "onnx",
        size: int | None = None,
    ) -> None:
        self.bundle, self.layout, self._output = bundle, layout, output
        self._predictor = Predictor(bundle, column_exp())
        self.backend = open_backend(backend, bundle, self._predictor, size)
        self._bounds = Bounds(bundle.schema)
        self._added = [layout.prefix + name for name in output_columns(bundle, output.reasons)]
        self._texts = ReasonTexts(bundle) if output.reasons else None
        self._explainer = Explainer(bundle, self._predictor) if output.reasons else None
        if self._explainer is not None and not self._explainer.is_offered:
            raise BatchRefused(
                f"expected a model that can be explained for --reasons, got {bundle.label} without "
                f"{CONTRIBUTIONS_FILE}: export it again, or leave --reasons out"
            )
        self._lines = LinesReader(bundle.schema, self._added, allow_missing=output.allow_missing)
        self._kinds = {feature.name: feature.kind for feature in bundle.schema.features}
        # Records of CSV are handed on as they are where they can be.
        self._decimal_comma = layout.dialect.rules.decimal == "," and output.separator != ","
        self._verbatim = layout.kind == CSV == output.kind and layout.dialect.separator == output.separator
        everything = range(len(layout.names))
        positions = dict(layout.positions)
        some = self._verbatim or output.alone
        self._read: Sequence[int] = sorted(positions.values()) if some else everything
        order = {position: i for i, position in enumerate(self._read)}
        self._columns = {name: order[position] for name, position in positions.items()}

    def score(self, block: Block) -> BlockResult:
        """Score one block; raises `BatchRefused` if the block cannot be read."""
        if self.layout.kind == LINES:
            return self._score_lines(block)
        if isinstance(block.content, pl.DataFrame):
            return self._score_table(block, block.content)
        layout = self.layout
        read = csv_table(block.content, block.first, len(layout.names), self._read, layout.dialect)
        encoded = encode_table(
            read.table, self.bundle.schema, self._bounds, self._columns, layout.dialect.rules
        )
        bad = encoded.bad.copy()
        bad[read.ragged] = True
        predictions = self._predictions(encoded.rows, bad)
        content = self._csv_part(read, predictions, bad, encoded.rows)
        details = _ragged_details(read) + [
            v for v in encoded.details if v.row not in set(read.ragged.tolist())
        ]
        return BlockResult(content, len(bad), int(bad.sum()), self._placed(block, read, details))

    @property
    def read(self) -> Sequence[int]:
        """The positions of the columns that are read; of a table its blocks have these alone."""
        return self._read

    def columns(self) -> bytes:
        """The header of a CSV output."""
        names = self.layout.names if self._verbatim else self.layout.columns
        return csv_record([*names, *self._added], self._output.separator) + b"\n"

    def _score_table(self, block: Block, table: pl.DataFrame) -> BlockResult:
        if self._output.kind in (LINES, EXCEL):
            features = {table.columns[position] for position in self._columns.values()}
            refuse_infinite(table.drop(features), self._output.kind)
        encoded = encode_table(table, self.bundle.schema, self._bounds, self._columns)
        predictions = self._predictions(encoded.rows, encoded.bad)
        whole = predictions if self._output.alone else table.hstack(predictions)
        content = self._written(whole, encoded.bad)
        bad = [value._replace(row=block.first + value.row) for value in encoded.details]
        return BlockResult(content, table.height, int(encoded.bad.sum()), bad)

    def _score_lines(self, block: Block) -> BlockResult:
        assert isinstance(block.content, bytes)
        read = self._lines.read(block.content, block.first)
        predictions = self._predictions(read.rows, read.bad)
        if self._output.kind == LINES:
            lines = map(extended, read.texts, _json_lines(predictions), read.bad.tolist())
            content = b"".join(self._keep(lines, read.bad))
        else:
            # In CSV a number is what its digits say: they stay as they are.
            kinds = {} if self._output.kind == CSV else self._kinds
            table = members_table(read.texts, read.lines, kinds, self.layout.names)
            # Not hstack: of lines without a member the table has no columns, and so no rows.
            whole = pl.DataFrame([*table.iter_columns(), *predictions.iter_columns()])
            content = self._written(whole, read.bad)
        bad = [value._replace(row=read.lines[value.row]) for value in read.details]
        return BlockResult(content, len(read.texts), int(read.bad.sum()), bad)

    def _predictions(self, rows: Matrix, bad: Flags) -> pl.DataFrame:
        """The added columns, null where a row is bad."""
        margins = self.backend.margins(rows) if len(rows) else np.zeros(0)
        values = self._predictor.output_array(margins).reshape(len(rows), self.bundle.outputs)
        series = [pl.Series(name, column) for name, column in zip(self._added, values.T, strict=False)]
        if self.bundle.task in ("binary", "multiclass"):
            end = -1 if self._texts is not None else None
            series += self._decided(values, rows, bad, self._added[len(series) : end])
        if self._texts is not None:
            codes = self._codes(rows, margins, values, bad)
            series.append(self._as_cells(pl.Series(self._added[-1], codes, dtype=pl.String)))
        predictions = pl.DataFrame(series)
        if not bad.any():
            return predictions
        good = pl.Series(~bad)
        return predictions.select(
            pl.when(good).then(pl.col(name)).alias(name) for name in predictions.columns
        )

    def _codes(self, rows: Matrix, margins: Margins, values: Matrix, bad: Flags) -> list[str]:
        """The codes of the reasons of each row, those of `POST /predict?reasons=N`; "" where none are due."""
        assert self._texts is not None
        assert self._explainer is not None
        due = ~bad
        if self.bundle.task == "binary":
            judge = self._predictor.judge
            due &= values[:, 0] >= (judge.limits[0] if judge else self.bundle.decision.threshold)
        found = [""] * len(rows)
        places = np.flatnonzero(due)
        terms = self._explainer.terms_of(rows[due], margins[due]) if len(places) else np.zeros((0, 1))
        for i, row, added in zip(places.tolist(), rows[due].tolist(), terms[:, :-1].tolist(), strict=True):
            told = largest(added, self._output.reasons)
            found[i] = BETWEEN.join(self._texts.code(feature, row[feature]) for feature in told)
        return found

    def _decided(self, values: Matrix, rows: Matrix, bad: Flags, names: Sequence[str]) -> Iterator[pl.Series]:
        """The columns of decisions or classes; raises `BatchRefused` where the model gives none."""
        judge, outputs = self._predictor.judge, values if self.bundle.classes else values[:, 0]
        decide = self._predictor.outcomes if judge is None else self._predictor.verdicts
        try:
            if bad.any():
                verdicts = np.zeros(len(rows), dtype=np.int64)
                verdicts[~bad] = decide(outputs[~bad], rows[~bad])
            else:  # without a copy of all rows, whose columns would no longer lie together
                verdicts = decide(outputs, rows)
        except ModelFailure as failure:
            raise BatchRefused(failure.detail) from None
        # Few are different: their places are found faster than all are sorted.
        different = np.sort(pl.Series(verdicts).unique().to_numpy())
        places = np.searchsorted(different, verdicts)
        words = self.bundle.outcomes
        cells = [
            (words[verdict],) if judge is None else (words[judge.outcome(verdict)], *judge.cells(verdict))
            for verdict in different.tolist()
        ]
        columns = zip(*cells, strict=True) if cells else [()] * len(names)
        for name, texts in zip(names, columns, strict=True):
            # The few words are made cells, not each row's.
            yield self._as_cells(pl.Series(name, texts, dtype=pl.String)).gather(places)

    def _as_cells(self, texts: pl.Series) -> pl.Series:
        """Added texts in quotes where they need them beside records that are cells already."""
        return quoted(texts, self._output.separator) if self._verbatim else texts

    def _csv_part(self, read: CsvTable, predictions: pl.DataFrame, bad: Flags, rows: Matrix) -> bytes:
        if not self._verbatim:
            table = self._typed(read.table, rows)
            table.columns = list(self.layout.columns)
            return self._written(table.hstack(predictions), bad)
        # The records are cells already: with their separators they are handed on as one.
        part, table = io.BytesIO(), pl.DataFrame([read.lines().alias(""), *predictions])
        self._kept(table, bad).write_csv(
            part,
            include_header=False,
            separator=self._output.separator,
            quote_style="never",
            decimal_comma=self._decimal_comma,
        )
        return part.getvalue()

    def _kept(self, table: pl.DataFrame, bad: Flags) -> pl.DataFrame:
        """The rows that are written."""
        return table.filter(pl.Series(~bad)) if self._output.on_bad_row == "skip" and bad.any() else table

    def _keep(self, lines: "map[bytes]", bad: Flags) -> "map[bytes] | compress[bytes]":
        if self._output.on_bad_row == "skip" and bad.any():
            return compress(lines, (~bad).tolist())
        return lines

    def _typed(self, table: pl.DataFrame, rows: Matrix) -> pl.DataFrame:
        """A table of texts with its numbers as numbers: for formats that tell them apart."""
        if self._output.kind == CSV:
            return table
        columns = []
        for i, feature in enumerate(self.bundle.schema.features):
            if feature.name in self._columns and feature.kind != "category":
                name = table.columns[self._columns[feature.name]]
                values = pl.Series(name, rows[:, i]).fill_nan(None)
                whole = feature.kind != "number"
                columns.append(values.cast(pl.Int64, strict=False) if whole else values)
        return table.with_columns(columns)

    def _written(self, table: pl.DataFrame, bad: Flags) -> bytes:
        with held_by(self._output.kind):
            return self._packed(self._kept(table, bad))

    def _packed(self, table: pl.DataFrame) -> bytes:
        part = io.BytesIO()
        if self._output.kind == CSV:
            separator, comma = self._output.separator, self._decimal_comma
            table.write_csv(part, include_header=False, separator=separator, decimal_comma=comma)
        elif self._output.kind == LINES:
            table.write_ndjson(part)
        elif self._output.kind == PARQUET:
            table.write_parquet(part, compression="zstd", compression_level=PARQUET_LEVEL)
        else:  # a workbook is put together from parts of Arrow
            table.write_ipc(part)
        return part.getvalue()

    def _placed(self, block: Block, read: CsvTable, details: list[BadValue]) -> list[BadValue]:
        lines = read.records.lines
        return [value._replace(row=block.first + int(lines[value.row])) for value in sorted(details)]


def _json_lines(predictions: pl.DataFrame) -> list[bytes]:
    return predictions.write_ndjson().encode().split(b"\n")


def _ragged_details(read: CsvTable) -> list[BadValue]:
    cells = read.records.cells
    return [
        BadValue(row, "", f"expected {read.width} cells, got {cells[row]}") for row in read.ragged.tolist()
    ]
