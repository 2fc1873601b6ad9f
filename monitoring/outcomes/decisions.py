"""The decisions of a log that outcomes are joined to, one row each, also of batches.

DuckDB reads the lines into a file of its own: a key, a time, a score, a decision and a
segment, and no more. Outcomes are few against decisions, so the join holds those alone.
"""

from collections.abc import Collection, Iterator, Sequence
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
from server.outcomes.record import WHOLE

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
    "prediction": "VARCHAR",
    "probabilities": "JSON",
    "decisions": "JSON",
    "predictions": "JSON",
    "input": "JSON",
}
#: `name_of_row` (server/model/row_names.py) in SQL, of the row at a number in a batch's line.
_ROW_NAME = (
    "if(first_row is null, id, split_part(id, '.', 1)) || '/' || "
    "coalesce(row_places[place + 1], coalesce(first_row, 0) + place)"
)


#: Of a task which lines are of one row, with score and decision; which are of batches, with those of all.
_ONE = {
    "binary": ("decisions is null and probability is not null", "probability", "decision"),
    "multiclass": (
        "predictions is null and probabilities is not null",
        "try_cast(probabilities as double[])",
        "prediction",
    ),
    "regression": (
        "probabilities is null and prediction is not null",
        "try_cast(prediction as double)",
        "null::varchar",
    ),
}
_MANY = {
    "binary": (
        "decisions is not null",
        "try_cast(probabilities as double[])",
        "unnest(try_cast(decisions as varchar[]))",
    ),
    "multiclass": (
        "probabilities is not null and predictions is not null",
        "try_cast(probabilities as double[][])",
        "unnest(try_cast(predictions as varchar[]))",
    ),
    "regression": (
        "probabilities is null and predictions is not null",
        "try_cast(predictions as double[])",
        "null::varchar",
    ),
}


class Decisions:
    """The decisions of one model: the table `decisions (ts, score, decision, segment, key0, …)`.

    The score of several classes is the list of their probabilities.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self._connection.execute(query, list(values)).fetchall()

    def arrays(self, query: str) -> dict[str, Any]:
        """The columns of a query by name, as NumPy has them."""
        return dict(self._connection.execute(query).fetchnumpy())

    def load(
        self, files: Sequence[Path], task: str, model: str, keys: Sequence[str], segment: str, when: str = ""
    ) -> None:
        """Read the lines of a model (`name@version`, or a name for all its versions); raises `LogError`.

        `keys` and `segment` are of `KEYS`, or names of fields; a segment may be empty, and so may `when`,
        a condition in SQL.
        """
        asked = {*keys, segment}
        source = reader(files, {name: kind for name, kind in _COLUMNS.items() if _needed(name, asked, task)})
        models = dict(self.rows(f"select coalesce(model, ''), count(*) from {source} group by 1"))
        labels = matching(models, model)
        if not labels:
            raise LogError(f"expected lines of {model}, got {counted(models)}")
        which = f"model in ({', '.join(map(literal, labels))}) and {when or 'true'}"
        condition, score, decision = _ONE[task]
        one = ", ".join(f"{_key(key, batch=False)} as key{i}" for i, key in enumerate(keys))
        self._connection.execute(
            f"create table decisions as select ts, {score} as score, {decision} as decision, "
            f"{_expression(segment, batch=False)} as segment, {one} "
            f"from {source} where {which} and {condition}"
        )
        condition, scores, decided = _MANY[task]
        many = ", ".join(_key(key, batch=True) for key in keys)
        self._connection.execute(
            f"insert into decisions select ts, score, row_decision, {_expression(segment, batch=True)}, "
            f"{many} from (select *, unnest({scores}) score, {decided} row_decision, "
            f"unnest(range(len({scores}))) place, "
            "unnest(try_cast(input->'rows' as json[])) as row "
            f"from {source} where {which} and {condition})"
        )
        if task != "multiclass":  # a line that no server wrote may hold a number without an end
            usable = "score between 0 and 1" if task == "binary" else "isfinite(score)"
            self._connection.execute(f"delete from decisions where not ({usable})")
        if not self.rows("select 1 from decisions limit 1"):
            answer = {"binary": "a probability", "multiclass": "classes"}.get(task, "a value")
            raise LogError(f"expected decisions of {model} with {answer}, got none: outcomes are of these")


def _needed(name: str, asked: Collection[str], task: str) -> bool:
    """Whether a member is read at all: of a long log each costs."""
    if name in ("request_id", "header_request_id"):
        return "request_id" in asked
    if name in ("first_row", "row_places"):
        return "id" in asked
    if name in ("row_id", "row_ids"):
        return "row_id" in asked
    if name == "trace_id":
        return name in asked
    if name in ("prediction", "predictions"):
        return task != "binary"
    if name in ("probability", "decision", "decisions"):
        return task == "binary"
    return True


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
    paths: Sequence[Path],
    task: str,
    model: str,
    keys: Sequence[str] = ("id",),
    segment: str = "",
    when: str = "",
) -> Iterator[Decisions]:
    """Read the decisions in a model's lines for as long as the context lasts; raises `LogError`."""
    if task not in _ONE:
        raise LogError(f"expected a model that outcomes can be held against, got {model}, a {task} model")
    files = log_files(paths)
    with opened("a prediction log") as decisions, TemporaryDirectory(prefix="hotrow-log-") as folder:
        bare = [without_mark(file, Path(folder)) for file in files]
        decisions.load(bare, task, model, keys, segment, when)
        yield decisions


@contextmanager
def opened(what: str) -> Iterator[Decisions]:
    """A database without a table yet; raises `LogError` where files have other lines than those of `what`."""
    with open_database() as (connection, _):
        try:
            yield Decisions(connection)
        except (duckdb.InvalidInputException, duckdb.IOException) as error:
            raise LogError(f"expected lines of {what}, got: {first_line(error)}") from None
