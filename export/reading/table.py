"""Training data as people have it: any of the usual files to a table of columns, over the whole file."""

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars

from export.errors import ExportRefused
from server.batch.formats import ARROW, CSV, EXCEL, LINES, FileFormat, pieces
from server.batch.tables import table_errors
from server.batch.unpacked import readable
from server.batch.whole_file import read_csv_file
from server.errors import BatchRefused, TableRefused, first_line
from server.tables.cells import PLAIN, CellRules


@dataclass(frozen=True)
class DataTable:
    """The columns of a file. Those of a text file are texts, their numbers written as `rules` say.

    `notes` are what was recognised and left out, each in words for the user.
    """

    path: Path
    columns: polars.DataFrame
    rules: CellRules = PLAIN
    notes: tuple[str, ...] = ()


def read_table(path: Path, known: Callable[[str], bool] = lambda _: False) -> DataTable:
    """The rows of a CSV, TSV, JSON, Parquet, Arrow or Excel file, compressed, alone in an archive, or plain.

    `known` says which names mean something; it helps to tell how a text is separated.
    Raises `ExportRefused`.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="hotrow-table-") as folder:
            plain, found = readable(path, Path(folder))
            if found.kind != CSV:
                return DataTable(path, _typed(plain, found))
            file = read_csv_file(plain, known, found, str(path))
            return DataTable(path, file.table, file.rules, file.notes)
    except OSError as error:
        raise ExportRefused(f"expected readable data at {path}, got: {error.strerror or error}") from None
    except (BatchRefused, TableRefused) as error:
        raise ExportRefused(f"{error}") from None
    except polars.exceptions.PolarsError as error:
        raise ExportRefused(f"expected a whole table in {path}, got: {first_line(error)}") from None


def _typed(path: Path, file_format: FileFormat) -> polars.DataFrame:
    content = io.BytesIO(b"".join(pieces(path, file_format.compression)))
    if file_format.kind == LINES:
        return polars.read_ndjson(content, infer_schema_length=None)
    if file_format.kind == EXCEL:
        with table_errors(path, EXCEL):
            return polars.read_excel(content, infer_schema_length=None)
    return polars.read_ipc(content) if file_format.kind == ARROW else polars.read_parquet(content)
