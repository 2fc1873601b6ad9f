"""One file of the Kaggle data -> the columns asked for, or one sentence about what is wrong."""

import csv
import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from train.errors import DataError

#: The client a row belongs to, in every table.
CLIENT = "SK_ID_CURR"
_LONGEST_ROW_BYTES = 1_000_000
_MENDING = "download it again from the competition's page"


@dataclass(frozen=True)
class Table:
    """The columns of one file, still as text where the file is text, and the file's SHA-256."""

    file: str
    sha256: str
    frame: pl.DataFrame

    def numbers(self, name: str) -> pl.Series:
        """A column as Float64, null where the file has nothing.

        Raises `DataError` naming the first row whose text is no finite number.
        """
        column = self.frame[name]
        numbers = column.cast(pl.Float64, strict=False)
        wrong = (numbers.is_null() & column.is_not_null()) | numbers.is_finite().not_().fill_null(False)
        self.refuse(name, wrong, "a number or nothing")
        return numbers

    def keys(self) -> pl.Series:
        """`SK_ID_CURR` as Int64. Raises `DataError` where it is missing or no integer."""
        keys = self.frame[CLIENT].cast(pl.Int64, strict=False)
        self.refuse(CLIENT, keys.is_null(), "an integer")
        return keys

    def refuse(self, name: str, wrong: pl.Series, expected: str) -> None:
        """Raise `DataError` for the first row that `wrong`, bool [n], marks in column `name`."""
        row = wrong.arg_max() if wrong.any() else None
        if row is not None:
            raise DataError(
                f"expected {expected} in column {name} of {self.file}, got something else in "
                f"data row {row + 1}: correct the file or {_MENDING}"
            )


def read_table(folder: Path, name: str, columns: list[str]) -> Table:
    """The named columns of `name` (a `.csv`) in `folder`, zipped or not, as text.

    Raises `DataError` in one sentence if the folder, the file or a column is
    missing, the archive is damaged, or the file is no table or has no rows.
    """
    path = _find(folder, name)
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    text = _unzip(path, content, name) if path.suffix == ".zip" else content
    try:
        # Types are not guessed: a guess from the first rows turns the row with the
        # mistake into a parser error without a column or a line.
        header = pl.read_csv(io.BytesIO(text), n_rows=0, infer_schema=False).columns
        _check_columns(path, header, columns)
        _check_end(path, text, len(header))
        frame = pl.read_csv(io.BytesIO(text), columns=columns, infer_schema=False, raise_if_empty=True)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"expected {path} to be a table in CSV, got: {_first_line(error)}: {_MENDING}"
        ) from None
    return _table(path, digest, frame)


def read_parquet(path: Path, columns: list[str]) -> Table:
    """The named columns of a Parquet file; raises `DataError` as `read_table` does."""
    content = path.read_bytes()
    try:
        _check_columns(path, list(pl.read_parquet_schema(io.BytesIO(content))), columns)
        frame = pl.read_parquet(io.BytesIO(content), columns=columns)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"expected {path} to be a Parquet file, got: {_first_line(error)}") from None
    return _table(path, hashlib.sha256(content).hexdigest(), frame)


def _table(path: Path, digest: str, frame: pl.DataFrame) -> Table:
    if frame.is_empty():
        raise DataError(f"expected rows in {path}, got a header without any: {_MENDING}")
    return Table(path.name, digest, frame)


def _find(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise DataError(
            f"expected a folder with the Kaggle files at {folder}, got none: "
            "name it with --data, or leave --data out to train on synthetic rows"
        )
    for path in (folder / name, folder / f"{name}.zip"):
        if path.is_file():
            return path
    raise DataError(f"expected {name} or {name}.zip in {folder}, got neither: {_MENDING}")


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"expected to read {path}, got: {error.strerror}") from None
    if not content:
        raise DataError(f"expected a table in {path}, got an empty file: {_MENDING}")
    return content


def _unzip(path: Path, content: bytes, name: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inside = [member for member in archive.namelist() if Path(member).name == name]
            if not inside:
                raise DataError(f"expected {name} inside {path}, got an archive without it: {_MENDING}")
            return archive.read(inside[0])
    # RuntimeError: encrypted; NotImplementedError: a compression method zlib does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"expected {path} to be a whole zip archive, got: {error}: {_MENDING}") from None


def _check_columns(path: Path, header: list[str], columns: list[str]) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(f"expected the column {missing[0]} in {path}, got a table without it: {_MENDING}")


def _check_end(path: Path, text: bytes, width: int) -> None:
    """Polars reads a row that breaks off as missing values: a file cut short would go unnoticed."""
    last = text[-_LONGEST_ROW_BYTES:].rstrip().rpartition(b"\n")[2].decode(errors="replace")
    fields = next(csv.reader([last]), [])
    if len(fields) != width:
        raise DataError(
            f"expected {width} fields in the last row of {path}, got {len(fields)}: "
            f"the file is cut short or damaged, {_MENDING}"
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
