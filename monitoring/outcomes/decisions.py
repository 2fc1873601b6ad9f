"""The decisions of a log that outcomes are joined to, one row each, also of batches.

DuckDB reads the lines into a file of its own: a key, a time, a score, a decision and a
segment, and no more. Outcomes are few against decisions, so the join holds those alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from monitoring.errors import LogError
from monitoring.logs.database import literal, open_database
from monitoring.logs.files import log_files
from monitoring.logs.lines import counted, matching
from monitoring.logs.table import reader, without_mark
from server.errors import first_line
from server.model.schema import pointer

#: What a line is found by; any other name is a field of its rows.
KEYS = ("id", "request_id", "row_id", "trace_id")
_COLUMNS = {
    "ts": "TIMESTAMP",
    "id": "VARCHAR",
    "model": "VARCHAR",
    "request_id": "VARCHAR",
    "header_request_id": "VARCHAR",
    "trace_id": "VARCHAR",
    "row_id": "VARCHAR",
    "row_ids": "JSON",
    "first_row": "BIGINT",
    "row_places": "BIGINT[]",
    "probability": "DOUBLE",
    "decision": "VARCHAR",
    "probabilities": "JSON",
    "decisions": "JSON",
    "input": "JSON",
}
#: A whole number that a spreadsheet, or a table with gaps, made a float of.
WHOLE = r"^([+-]?[0-9]+)[.,]0+$"
#: `name_of_row` (server/model/row_names.py) in SQL, of the row at a number in a batch's line.
_ROW_NAME = (
    "if(first_row is null, id, split_part(id, '.', 1)) || '/' || "
    "coalesce(row_places[place + 1], coalesce(first_row, 0) + place)"
)


class Decisions:
    """The decisions of one binary model: the table `decisions (key, ts, score, decision, segment)`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self._connection.execute(query, list(values)).fetchall()

    def arrays(self, query: str) -> dict[str, Any]:
        """The columns of a query by name, as NumPy has them."""
        return dict(self._connection.execute(query).fetchnumpy())

    def load(self, files: Sequence[Path], model: str, key: str, segment: str) -> None:
        """Read the lines of a model (`name@version`, or a name for all its versions); raises `LogError`.

        `key` and `segment` are of `KEYS`, or names of fields; a segment may be empty.
        """
        source = reader(files, {name: kind for name, kind in _COLUMNS.items() if _needed(name, key, segment)})
        models = dict(self.rows(f"select coalesce(model, ''), count(*) from {source} group by 1"))
        labels = matching(models, model)
        if not labels:
            raise LogError(f"expected lines of {model}, got {counted(models)}")
        listed = ", ".join(map(literal, labels))
        self._connection.execute(
            "create table decisions as select ts, "
            f"{_key(key, batch=False)} as key, probability as score, decision, "
            f"{_expression(segment, batch=False)} as segment "
            f"from {source} where model in ({listed}) and decisions is null and probability is not null"
        )
        self._connection.execute(
            "insert into decisions select ts, "
            f"{_key(key, batch=True)}, score, decision, {_expression(segment, batch=True)} from ("
            "select *, unnest(try_cast(probabilities as double[])) score, "
            "unnest(try_cast(decisions as varchar[])) decision, "
            "unnest(range(json_array_length(decisions)::bigint)) place, "
            "unnest(try_cast(input->'rows' as json[])) as row "
            f"from {_without(source)} where model in ({listed}) and decisions is not null)"
        )
        if not self.rows("select 1 from decisions limit 1"):
            raise LogError(
                f"expected decisions of {model} with a probability, got none: outcomes are of these"
            )


def _needed(name: str, key: str, segment: str) -> bool:
    asked = {key, segment}
    if name in ("request_id", "header_request_id"):
        return "request_id" in asked
    if name in ("first_row", "row_places"):
        return "id" in asked
    if name in ("row_id", "row_ids"):
        return "row_id" in asked
    if name == "trace_id":
        return name in asked
    return True


def _without(source: str) -> str:
    """The lines without the member whose name the rows of a batch take."""
    return f"(select * exclude (decision) from {source})"


def _key(name: str, *, batch: bool) -> str:
    """What a row is found by; a whole number written as a float (`7.0`) is that number."""
    text = _expression(name, batch=batch)
    return text if name in ("id", "trace_id") else f"regexp_replace({text}, '{WHOLE}', '\\1')"


def _expression(name: str, *, batch: bool) -> str:
    if not name:
        return "null::varchar"
    if name == "id":
        return _ROW_NAME if batch else "id"
    if name == "request_id":
        return "coalesce(request_id, header_request_id)"
    if name == "row_id":
        return "json_extract_string(row_ids, place)" if batch else "row_id"
    if name == "trace_id":
        return name
    return f"json_extract_string({'row' if batch else 'input'}, {literal(pointer(name))})"


@contextmanager
def open_decisions(
    paths: Sequence[Path], model: str, key: str = "id", segment: str = ""
) -> Iterator[Decisions]:
    """Read the decisions of a model's lines for as long as the context lasts; raises `LogError`."""
    files = log_files(paths)
    with opened("a prediction log") as decisions, TemporaryDirectory(prefix="hotrow-log-") as folder:
        decisions.load([without_mark(file, Path(folder)) for file in files], model, key, segment)
        yield decisions


@contextmanager
def opened(what: str) -> Iterator[Decisions]:
    """A database without a table yet; raises `LogError` where files have other lines than those of `what`."""
    with open_database() as (connection, _):
        try:
            yield Decisions(connection)
        except (duckdb.InvalidInputException, duckdb.IOException) as error:
            raise LogError(f"expected lines of {what}, got: {first_line(error)}") from None
