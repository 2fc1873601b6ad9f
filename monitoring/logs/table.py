"""Prediction logs as a table: ours, and the one of the project this one descends from.

DuckDB reads the lines in parallel into a file of its own, so a log larger than
memory is no matter. A line that is no JSON, or none of ours, is counted and left out.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import orjson

from monitoring.errors import LogError
from monitoring.logs.files import log_files, masked_fields
from server.model.schema import Schema

MEMORY_LIMIT = "1GB"
_MAX_LINE_BYTES = 64 * 2**20
_PEEK_BYTES = 2**16

_OURS = {
    "ts": "TIMESTAMP",
    "id": "VARCHAR",
    "seq": "BIGINT",
    "model": "VARCHAR",
    "probability": "DOUBLE",
    "decision": "VARCHAR",
    "prediction": "VARCHAR",
    "probabilities": "DOUBLE[]",
    "decisions": "VARCHAR[]",
    "duration_us": "DOUBLE",
    "cpu_percent": "DOUBLE",
    "rss_mb": "DOUBLE",
}
_ORIGINAL = {
    "timestamp": "VARCHAR",
    "prediction": "VARCHAR",
    "duration": "DOUBLE",
    "cpu_percent": "DOUBLE",
    "memory_usage_MB": "DOUBLE",
}
# "Probabilité de défaut : 0.42 ...", "Score: 42,5 %": the number after the word, or
# else the first with decimals, or else a percentage.
_NUMBER = r"([0-9]+(?:[.,][0-9]+)?)\s*(%?)"
_SENTENCES = (
    rf"(?i)(?:probabilit|score|risque)[^0-9%]*{_NUMBER}",
    r"([0-9]+[.,][0-9]+)\s*(%?)",
    r"([0-9]+)\s*(%)",
)


class LogTable:
    """The requests of some log files, one row a line, and what they scored.

    `requests` has `ts, id, seq, model, duration_us, cpu_percent, rss_mb`; `scored`
    has `ts, model, score, decision, input`, also for each row of a batch.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, files: list[Path], unreadable: int) -> None:
        self.connection = connection
        self.files = files
        self.unreadable = unreadable
        self.masked = masked_fields(files)

    def row(self, query: str) -> tuple[Any, ...]:
        """The only row of a query."""
        found = self.connection.execute(query).fetchone()
        assert found is not None
        return found

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.connection.execute(query).fetchall()

    def column(self, expression: str, table: str = "scored") -> npt.NDArray[np.float64]:
        """One expression for every row, float64 [n], NaN for NULL."""
        query = f"select coalesce(({expression})::double, 'nan'::double) v from {table}"
        values: npt.NDArray[np.float64] = self.connection.execute(query).fetchnumpy()["v"]
        return np.asarray(values, dtype=np.float64)


@contextmanager
def open_log(paths: Sequence[Path], schema: Schema | None = None) -> Iterator[LogTable]:
    """Read log files, or folders of them, into a table that lasts as long as the context.

    `schema` says which fields of `input` are read. Raises `LogError`.
    """
    files = log_files(paths)
    with tempfile.TemporaryDirectory(prefix="hotrow-report-") as folder:
        connection = duckdb.connect(f"{folder}/log.duckdb")
        try:
            connection.execute(f"set memory_limit='{MEMORY_LIMIT}'")
            connection.execute(f"set temp_directory='{folder}/spill'")
            connection.execute("set preserve_insertion_order=false")
            connection.execute("set enable_progress_bar=false")
            yield LogTable(connection, files, _load(connection, files, schema))
        finally:
            connection.close()


def _load(connection: duckdb.DuckDBPyConnection, files: list[Path], schema: Schema | None) -> int:
    row = _input_type(schema, masked_fields(files))
    connection.execute(
        "create table requests (ts timestamp, id varchar, seq bigint, model varchar, score double, "
        "decision varchar, scores double[], decisions varchar[], duration_us double, cpu_percent double, "
        f"rss_mb double, input {row}, rows {row}[])"
    )
    original = [file for file in files if _is_original(file)]
    ours = [file for file in files if file not in original and file.stat().st_size]
    if ours:
        connection.execute(_select_ours(ours, row))
    for file in original:
        connection.execute(_select_original(file, row))
    (unreadable,) = connection.execute("select count(*) from requests where ts is null").fetchone() or (0,)
    connection.execute("delete from requests where ts is null")
    connection.execute(
        "create view scored as "
        "select ts, id, model, score, decision, input from requests where scores is null "
        "union all select ts, id, model, unnest(scores), unnest(decisions), unnest(rows) "
        "from requests where scores is not null"
    )
    if not (connection.execute("select count(*) from requests").fetchone() or (0,))[0]:
        raise LogError(f"expected lines of a prediction log, got none in {', '.join(map(str, files))}")
    return int(unreadable)


def _select_ours(files: list[Path], row: str) -> str:
    # What is in a batch's line stands in `input.rows`.
    inner = row.removeprefix("STRUCT(").removesuffix(")")
    columns = _OURS | {"input": f"STRUCT({inner}, rows {row}[])"}
    fields = ", ".join(f'"{name}" := input."{name}"' for name in _field_names(row))
    return (
        "insert into requests select ts, id, seq, model, "
        "coalesce(probability, try_cast(prediction as double)), decision, probabilities, decisions, "
        f"duration_us, cpu_percent, rss_mb, struct_pack({fields}), input.rows from {_reader(files, columns)}"
    )


def _select_original(file: Path, row: str) -> str:
    columns = _ORIGINAL | {"input": "JSON"}
    found = ", ".join(
        f"nullif(regexp_extract(prediction, '{sentence}', ['n', 'percent']), {{'n': '', 'percent': ''}})"
        for sentence in _SENTENCES
    )
    return (
        "insert into requests select coalesce(try_cast(timestamp as timestamp), "
        "try_strptime(timestamp, ['%d/%m/%Y %H:%M:%S', '%Y/%m/%d %H:%M:%S', '%Y-%m-%d %H:%M:%S,%f'])), "
        "null, null, null, "
        "try_cast(replace(f.n, ',', '.') as double) / if(f.percent = '%', 100, 1), "
        "case when prediction ilike '%refus%' or prediction ilike '%non accord%' then 'refuse' "
        "when prediction ilike '%accept%' or prediction ilike '%accord%' then 'accept' end, "
        "null, null, duration * 1e6, cpu_percent, memory_usage_MB, "
        f"try_cast(case when json_type(input) = 'OBJECT' then input end as {row}), null "
        f"from (select *, coalesce({found}) f from {_reader([file], columns)})"
    )


def _reader(files: list[Path], columns: dict[str, str]) -> str:
    names = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    types = ", ".join(f"'{name}': '" + kind.replace("'", "''") + "'" for name, kind in columns.items())
    array = len(files) == 1 and _peek(files[0]).startswith(b"[")
    return (
        f"read_json([{names}], format='{'array' if array else 'newline_delimited'}', columns={{{types}}}, "
        f"ignore_errors={'false' if array else 'true'}, maximum_object_size={_MAX_LINE_BYTES})"
    )


def _input_type(schema: Schema | None, masked: Any) -> str:
    kinds = {"category": "VARCHAR"}
    fields = [
        (f.name, "VARCHAR" if f.name in masked else kinds.get(f.kind, "DOUBLE"))
        for f in (schema.features if schema else ())
    ] or [("_", "VARCHAR")]
    return "STRUCT(" + ", ".join('"' + name.replace('"', '""') + f'" {kind}' for name, kind in fields) + ")"


def _field_names(row: str) -> list[str]:
    return row.split('"')[1::2]


def _is_original(file: Path) -> bool:
    text = _peek(file)
    if text.startswith(b"["):
        return True
    try:
        first = orjson.loads(text.split(b"\n", 1)[0])
    except orjson.JSONDecodeError:
        return b'"timestamp"' in text and b'"ts"' not in text
    return isinstance(first, dict) and "timestamp" in first and "ts" not in first


def _peek(file: Path) -> bytes:
    with open(file, "rb") as content:
        return content.read(_PEEK_BYTES).lstrip()
