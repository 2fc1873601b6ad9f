"""One table of the Kaggle data -> the columns asked for, or one sentence about what is wrong."""

import io
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from server.errors import first_line
from server.model.wrong_value import MISSING
from train.errors import DataError
from train.tables.delimited import match_columns, read_delimited
from train.tables.files import MENDING, File, read_file

#: The client a row belongs to, in every table.
CLIENT = "SK_ID_CURR"
_PARQUET = b"PAR1"
_TRUTH = {"true": "1", "false": "0"}
#: Above it a double no longer holds every integer.
_MAX_EXACT = 2**53


@dataclass(frozen=True)
class KaggleTable:
    """The columns of one file as text, null for missing, and the file's SHA-256.

    `rows` are the rows' numbers in the file, from 1, uint32 [n]: rows without a value
    in any of the columns are left out, `empty` of them. `separator` is the file's.
    """

    file: str
    sha256: str
    frame: pl.DataFrame
    rows: pl.Series
    empty: int
    separator: str

    def words(self, name: str) -> pl.Series:
        """A column as text without blanks around it."""
        words = self.frame[name].str.strip_chars()
        return words.set(words.is_in(list(MISSING)), None)

    def numbers(self, name: str, expected: str = "a number or nothing") -> pl.Series:
        """A column as Float64, null where the file has nothing; true is 1 and false 0.

        Raises `DataError` naming the first row whose text is no finite number, not what
        is `expected`, and if the column has no value in any row.
        """
        column, numbers = self._cast(name, pl.Float64)
        if column.null_count() == len(column):
            raise DataError(
                f"expected values in column {name} of {self.file}, got none in all {len(column):,} rows: "
                f"correct the file or {MENDING}"
            )
        wrong = (numbers.is_null() & column.is_not_null()) | numbers.is_finite().not_().fill_null(False)
        self.refuse(name, wrong, expected)
        return numbers

    def keys(self) -> pl.Series:
        """`SK_ID_CURR` as Int64, 100002.0 read as 100002. Raises `DataError` where it is no integer."""
        _, keys = self._cast(CLIENT, pl.Int64)
        if keys.null_count():
            _, numbers = self._cast(CLIENT, pl.Float64)
            whole = (numbers == numbers.floor()) & (numbers.abs() < _MAX_EXACT)
            keys = keys.fill_null(numbers.set(~whole.fill_null(False), None).cast(pl.Int64))
        self.refuse(CLIENT, keys.is_null(), "an integer")
        return keys

    def _cast(self, name: str, kind: type[pl.Float64 | pl.Int64]) -> tuple[pl.Series, pl.Series]:
        """A column as text and as numbers; the text is looked at closely only where it is no plain number."""
        column = self.frame[name]
        numbers = column.cast(kind, strict=False)
        if numbers.null_count() == column.null_count():
            return column, numbers
        column = self.words(name)
        text = column.str.to_lowercase().replace(_TRUTH)
        if self.separator != ",":  # where commas separate nothing, they are decimal
            text = text.str.replace(r"^([-+]?\d+),(\d+)$", "$1.$2")
        return column, text.cast(kind, strict=False)

    def refuse(self, name: str, wrong: pl.Series, expected: str) -> None:
        """Raise `DataError` for the first row that `wrong`, bool [n], marks in column `name`."""
        row = wrong.arg_max() if wrong.any() else None
        if row is not None:
            value = self.frame[name][row]
            raise DataError(
                f"expected {expected} in column {name} of {self.file}, got "
                f"{'nothing' if value is None else repr(value)} in data row {self.rows[row]}: "
                f"correct the file or {MENDING}"
            )


def read_table(source: Path, name: str, columns: list[str]) -> KaggleTable:
    """The named columns of `name` (a `.csv`) in a folder or archive, as text; see `read_file`.

    Raises `DataError` in one sentence if the folder, the file or a column is
    missing, the file is damaged, or is no table, or has no rows.
    """
    file = read_file(source, name)
    if file.content.startswith(_PARQUET):
        return _table(file, _parquet(file, columns), ",")
    return _table(file, *read_delimited(file.where, file.content, columns))


def _parquet(file: File, wanted: list[str]) -> pl.DataFrame:
    try:
        schema = pl.read_parquet_schema(io.BytesIO(file.content))
        columns = match_columns(file.where, list(schema), wanted)
        frame = pl.read_parquet(io.BytesIO(file.content), columns=list(columns.values()))
        # Texts from here on, so that one set of rules reads both kinds of file.
        return frame.select(pl.col(theirs).cast(pl.String).alias(name) for name, theirs in columns.items())
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"expected {file.where} to be a Parquet file of numbers and words, got: {first_line(error)}"
        ) from None


def _table(file: File, frame: pl.DataFrame, separator: str) -> KaggleTable:
    numbered = frame.with_row_index("", offset=1)
    kept = numbered.filter(~pl.all_horizontal(pl.col(frame.columns).is_null()))
    if kept.is_empty():
        raise DataError(f"expected rows in {file.where}, got a header without any: {MENDING}")
    return KaggleTable(file.name, file.sha256, kept.drop(""), kept[""], len(numbered) - len(kept), separator)
