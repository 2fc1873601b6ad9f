"""One block of a file, scored: columns in, the same columns and the model's answers out."""

import csv
import difflib
import functools
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from server.batch.blocks import Block
from server.batch.columns import BadValue, BatchRefused, encode_table, output_columns
from server.errors import ModelFailure, Problem
from server.model.bounds import Bounds
from server.model.bundle import Bundle
from server.model.decoder import row_decoder
from server.model.outcome import Outcomes
from server.model.predictor import Predictor
from server.model.row_order import RowOrder
from server.model.schema import Matrix, object_or_empty

OnBadRow: TypeAlias = Literal["fail", "skip", "null"]
CSV, LINES, PARQUET = ".csv", ".jsonl", ".parquet"


class Bad(NamedTuple):
    """What is wrong with one row: its line (or row) in the input, a feature, and what was expected."""

    line: int
    feature: str
    detail: str


class Result(NamedTuple):
    """A scored block as the content of a part, with what was wrong in it."""

    content: bytes
    rows: int
    bad_rows: int
    bad: list[Bad]


class BatchScorer:
    """Scores blocks of one input format into parts of one output format; for any thread."""

    def __init__(
        self, bundle: Bundle, header: list[str], source: str, target: str, on_bad_row: OnBadRow
    ) -> None:
        self.bundle = bundle
        self._predictor = Predictor(bundle)
        self._order = RowOrder(self._predictor)
        self._bounds = Bounds(bundle.schema)
        self._decode = row_decoder(bundle.schema, others=True)
        self._kinds = {feature.name: feature.kind for feature in bundle.schema.features}
        self.header, self._source, self._target, self._on_bad_row = header, source, target, on_bad_row
        self._added = output_columns(bundle.task, bundle.classes)
        taken = sorted(set(self._added) & set(header))
        if taken:
            raise BatchRefused(f"expected no column {taken[0]} in the input, which is added: rename it")
        _check_columns(bundle, header, all_known=source != LINES)

    def score(self, block: Block) -> Result:
        """Score one block; raises `BatchRefused` if the block cannot be read."""
        if self._source == LINES:
            return self._score_lines(block)
        table, lines, ragged = self._table(block)
        encoded = encode_table(table, self.bundle.schema, self._bounds)
        is_bad = encoded.bad.copy()
        is_bad[list(ragged)] = True
        answers = self._answers(encoded.rows, is_bad)
        if self._source == CSV and self._target != CSV:
            table = self._typed(table)
        content = self._written(table.with_columns(answers), is_bad)
        width = len(self.header)
        details = [BadValue(row, "", f"expected {width} cells, got {n}") for row, n in ragged.items()]
        details += [value for value in encoded.details if value.row not in ragged]
        bad = [Bad(_line(block, lines, b.row), b.feature, b.detail) for b in sorted(details)]
        return Result(content, table.height, int(is_bad.sum()), bad)

    def columns(self) -> bytes:
        """The header of a CSV output."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow([*self.header, *self._added])
        return text.getvalue().encode()

    def _table(self, block: Block) -> tuple[pl.DataFrame, list[int] | None, dict[int, int]]:
        """The block's columns, the line of each row if counting does not tell it, and ragged rows.

        Those have more or fewer cells than the header; the table has what fits.
        """
        if isinstance(block.content, pl.DataFrame):
            return block.content, None, {}
        table, has_long = self._read(block.content, block.first)
        if b'"' in block.content or table.height != block.content.rstrip(b"\n").count(b"\n") + 1:
            lines, cells = _records(block)
        else:
            lines, cells = None, _cells(block.content, table, has_long)
        width = len(self.header)
        return table, lines, {row: n for row, n in enumerate(cells) if n != width and row < table.height}

    def _read(self, content: bytes, first: int) -> tuple[pl.DataFrame, bool]:
        """A block of CSV as columns of text, and whether a row had more cells than these."""
        read = functools.partial(
            pl.read_csv,
            content,
            has_header=False,
            new_columns=self.header,
            schema=dict.fromkeys(self.header, pl.String),
            raise_if_empty=False,
        )
        try:
            return read(), False
        except pl.exceptions.PolarsError:
            pass  # of a row that is too long, or of what is no CSV
        try:
            return read(truncate_ragged_lines=True), True
        except pl.exceptions.PolarsError as error:
            words = str(error).strip().splitlines()[0]
            raise BatchRefused(f"expected CSV in UTF-8 from line {first} on, got: {words}") from None

    def _answers(self, rows: Matrix, bad: npt.NDArray[np.bool_]) -> list[pl.Series]:
        """The added columns, null where a row is bad."""
        outputs = self._predictor.outputs(self._order.margins(rows)) if len(rows) else []
        values = np.array(outputs, dtype=np.float64).reshape(len(rows), self.bundle.outputs)
        outcomes = np.zeros(len(rows), dtype=np.uint32)
        outcomes[~bad] = self._outcomes(values[~bad])
        series = [pl.Series(name, column) for name, column in zip(self._added, values.T, strict=False)]
        if self.bundle.task in ("binary", "multiclass"):
            series.append(_words(self._added[-1], self.bundle.outcomes, outcomes))
        if not bad.any():
            return series
        good = pl.Series(~bad)
        return [s.to_frame().select(pl.when(good).then(pl.col(s.name)))[s.name] for s in series]

    def _outcomes(self, values: npt.NDArray[np.float64]) -> Outcomes:
        """Of the outputs [n, K] of good rows; raises `BatchRefused` where the model gives none."""
        try:
            return self._predictor.outcomes(values if self.bundle.classes else values[:, 0])
        except ModelFailure as failure:
            raise BatchRefused(failure.detail) from None

    def _written(self, table: pl.DataFrame, bad: npt.NDArray[np.bool_]) -> bytes:
        if self._on_bad_row == "skip" and bad.any():
            table = table.filter(pl.Series(~bad))
        part = io.BytesIO()
        if self._target == CSV:
            table.write_csv(part, include_header=False)
        elif self._target == LINES:
            table.write_ndjson(part)
        else:
            table.write_parquet(part)
        return part.getvalue()

    def _typed(self, table: pl.DataFrame) -> pl.DataFrame:
        """A table of texts with its numbers as numbers: for formats that tell them apart."""
        numbers = [name for name in table.columns if self._kinds.get(name, "category") != "category"]
        return table.with_columns(
            pl.col(name).str.strip_chars().cast(pl.Float64, strict=False) for name in numbers
        )

    def _score_lines(self, block: Block) -> Result:
        assert isinstance(block.content, bytes)
        rows, bad, texts, places = [], [], [], []
        missing = np.full(len(self.bundle.schema), np.nan).tobytes()
        for line, text in enumerate(block.content.split(b"\n"), start=block.first):
            if not text.strip():
                continue
            places.append(line)
            texts.append(text.strip())
            try:
                rows.append(self._decode(text))
            except Problem as refusal:
                rows.append(missing)
                bad.append((len(texts) - 1, _described(line, refusal)))
        matrix = np.frombuffer(b"".join(rows)).reshape(-1, len(self.bundle.schema))
        is_bad = np.zeros(len(texts), dtype=bool)
        is_bad[[row for row, _ in bad]] = True
        answers = pl.DataFrame(self._answers(matrix, is_bad))
        content = self._extended(texts, answers, is_bad)
        return Result(content, len(texts), len(bad), [entry for _, entries in bad for entry in entries])

    def _extended(self, texts: list[bytes], answers: pl.DataFrame, bad: npt.NDArray[np.bool_]) -> bytes:
        """Each line with the answers as further members, or as a table of another format."""
        if self._target != LINES:
            return self._written(_members(texts, self._kinds, self.header).hstack(answers), bad)
        added = answers.write_ndjson().encode().split(b"\n")
        lines = (
            _joined(text, more)
            for text, more, is_bad in zip(texts, added, bad.tolist(), strict=False)
            if not (is_bad and self._on_bad_row == "skip")
        )
        return b"".join(lines)


def _check_columns(bundle: Bundle, header: list[str], *, all_known: bool) -> None:
    """Refuse a column that is a feature's but for case, blanks and dashes, and a table without one it needs.

    Taken as they are, every row of it would be scored without that value, or none.
    """
    others = {_letters(name): name for name in header if name not in bundle.schema.names}
    absent = [feature for feature in bundle.schema.features if feature.name not in header]
    for feature in absent:
        if (near := others.get(_letters(feature.name))) is not None:
            raise BatchRefused(f"expected the column {feature.name}, got {near}: rename one of them")
    needed = [feature.name for feature in absent if not feature.nullable]
    if needed and all_known:
        close = difflib.get_close_matches(needed[0], others.values(), 1, 0.6)
        got = f"{close[0]}: rename it" if close else "a table without: no row of it could be scored"
        words = f"the column{'s' if len(needed) > 1 else ''} {', '.join(needed)}"
        raise BatchRefused(f"expected {words}, got {got}")


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _words(name: str, words: tuple[str, ...], picked: npt.NDArray[np.uint32]) -> pl.Series:
    return pl.Series(name, words, dtype=pl.String).gather(picked).alias(name)


def _line(block: Block, lines: list[int] | None, row: int) -> int:
    return block.first + (row if lines is None else lines[row])


def _cells(content: bytes, table: pl.DataFrame, has_long: bool) -> list[int]:
    """How many cells each line of a table without quotes has; empty if all have those of the header."""
    if not has_long and content.count(b",") == table.height * (table.width - 1):
        return []
    return [line.count(b",") + 1 for line in content.rstrip(b"\n").split(b"\n")]


def _records(block: Block) -> tuple[list[int], list[int]]:
    """How many lines into the block each record begins, and its cells; blank lines are none."""
    assert isinstance(block.content, bytes)
    reader = csv.reader(io.StringIO(block.content.decode("utf-8", "replace"), newline=""))
    lines, cells, before = [], [], 0
    for record in reader:
        if record:
            lines.append(before)
            cells.append(len(record))
        before = reader.line_num
    return lines, cells


def _described(line: int, refusal: Problem) -> list[Bad]:
    named = [Bad(line, error.pointer.removeprefix("/"), error.detail) for error in refusal.errors]
    return named or [Bad(line, "", refusal.detail)]


def _joined(text: bytes, more: bytes) -> bytes:
    """A line's object with more members; what is no object stands under `line`."""
    if not (text.startswith(b"{") and text.endswith(b"}")):
        return b'{"line":%b,%b\n' % (orjson.dumps(text.decode("utf-8", "replace")), more[1:])
    members = text[:-1].rstrip()
    return b"%b%b%b\n" % (members, b"" if members == b"{" else b",", more[1:])


def _members(texts: list[bytes], kinds: Mapping[str, str], header: list[str]) -> pl.DataFrame:
    """Objects as columns: numbers of features as numbers, all else as text."""
    columns: dict[str, list[Any]] = {name: [] for name in header}
    for text in texts:
        fields = object_or_empty(text)
        unknown = next((name for name in fields if name not in columns), None)
        if unknown is not None:
            raise BatchRefused(
                f"expected the members of the first rows in every row, got {unknown!r} too: "
                "name an output that ends in .jsonl, where rows may differ"
            )
        for name, values in columns.items():
            values.append(_cell(fields.get(name), kinds.get(name, "category")))
    types = {name: pl.String if kinds.get(name, "category") == "category" else pl.Float64 for name in header}
    return pl.DataFrame(columns, schema=types)


def _cell(value: Any, kind: str) -> Any:
    if kind != "category":
        return float(value) if type(value) in (int, float, bool) else None
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def first_members(path: Path, lines: int = 1000) -> list[str]:
    """The names of the members of a JSON Lines file's first objects, in the order they come."""
    names: dict[str, None] = {}
    with open(path, "rb") as file:
        for _, text in zip(range(lines), file, strict=False):
            names |= dict.fromkeys(object_or_empty(text))
    return list(names)
