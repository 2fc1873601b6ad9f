"""Prediction logs as a table: ours, and the one of the project this one descends from.

DuckDB reads the lines in parallel into a file of its own, so a log larger than
memory is no matter. A line that is no JSON, or none of ours, is counted and left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from monitoring.errors import LogError
from monitoring.logs.database import literal, open_database
from monitoring.logs.files import BOM, log_files, masks_of, open_lines
from server.errors import first_line
from server.model.json_text import object_or_empty
from server.model.schema import Feature, Schema, pointer

#: What stands for a model in words where lines do not name one.
UNNAMED = "lines without a model"
_MAX_LINE_BYTES = 64 * 2**20
_PEEK_BYTES = 2**16
#: A clock that was never set says 1970; one that goes back by more than this was wrong.
_EARLIEST, _ASTRAY = "timestamp '2001-01-01'", "interval 1 hour"

_OURS = {
    "ts": "TIMESTAMP",
    "id": "VARCHAR",
    "seq": "BIGINT",
    "model": "VARCHAR",
    "probability": "DOUBLE",
    "decision": "VARCHAR",
    "prediction": "VARCHAR",
    "probabilities": "JSON",
    "decisions": "JSON",
    "predictions": "JSON",
    "duration_us": "DOUBLE",
    "cpu_percent": "DOUBLE",
    "rss_mb": "DOUBLE",
    "input": "JSON",
}
_ORIGINAL = {
    "timestamp": "VARCHAR",
    "input": "JSON",
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
ORIGINAL_DECISIONS = ("accept", "refuse")
#: Words of a decision in such a sentence; "non accordé" is tried before "accordé".
_REFUSED = "refus|non accord|rejet|risque [ée]lev|haut risque|high risk|declin|reject"
_ACCEPTED = "accept|accord|approuv|faible risque|risque faible|low risk|approv|grant"


class LogTable:
    """The requests of some log files, one row a line, and what they scored.

    `requests` has `ts, id, seq, model, duration_us, cpu_percent, rss_mb`; `scored`
    has `ts, id, model, instance, score, decision` and, for the feature at position i of
    the schema, `n<i>` (its number, NULL if it is none) and `w<i>` (a text that is no
    number), also for each row of a batch. `models` counts lines by model, `astray`
    the lines whose time cannot be right, which is NULL.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, files: list[Path], unreadable: int, segment: str = ""
    ) -> None:
        self.connection = connection
        #: The column with the field that rows are told apart by, "" without one.
        self.segment = segment
        self._conditions: list[str] = []
        self.files = files
        self.unreadable = unreadable
        self.masks = masks_of(files)
        self.models: dict[str, int] = dict(
            self.rows(f"select coalesce(model, '{UNNAMED}'), count(*) from requests group by 1 order by 1")
        )
        self.others: dict[str, int] = {}
        self.doubled = 0
        self.astray = self._astray()

    def keep(self, labels: Sequence[str]) -> None:
        """Leave the lines of these models, each once; the others are counted in `others`."""
        self.others = {model: count for model, count in self.models.items() if model not in labels}
        if self.others:
            for table in ("requests", "batched"):
                self.connection.execute(
                    f"delete from {table} where not list_contains(?, coalesce(model, '{UNNAMED}'))",
                    [list(labels)],
                )
        self._drop_doubles()

    def keep_between(self, since: datetime | None, until: datetime | None) -> None:
        """Leave the lines from `since` on and before `until`; a line without a time is none of them."""
        condition = between(since, until)
        if condition:
            for table in ("requests", "batched"):
                self.connection.execute(f"delete from {table} where not coalesce({condition}, false)")

    @contextmanager
    def looking_at(self, since: datetime, until: datetime) -> Iterator[None]:
        """Within the context `scored` has the rows from `since` on and before `until` alone."""
        with self.only(between(since, until)):
            yield

    @contextmanager
    def only(self, condition: str) -> Iterator[None]:
        """Within the context `scored` has the rows of a condition alone, and of those around it."""
        self._conditions.append(condition)
        self._view()
        try:
            yield
        finally:
            self._conditions.pop()
            self._view()

    def _view(self) -> None:
        where = f" where {' and '.join(self._conditions)}" if self._conditions else ""
        self.connection.execute(f"create or replace view scored as from all_scored{where}")

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

    def _drop_doubles(self) -> None:
        """A line that was copied beside itself tells nothing new; ids differ, also within a batch."""
        (self.doubled,) = self.row(  # the hash of no id is one
            "select count(id) - count(distinct hash(id)) filter (where id is not null) from requests"
        )
        if not self.doubled:
            return
        for table, key in (("requests", "id"), ("batched", "id, position")):
            self.connection.execute(
                f"delete from {table} where id is not null and rowid not in "
                f"(select min(rowid) from {table} where id is not null group by {key})"
            )

    def _astray(self) -> int:
        """Forget the times that cannot be: one wrong clock would stretch every plot to decades."""
        self.connection.execute(
            "create table astray as select rowid r, id from requests "
            f"where ts not between {_EARLIEST} and current_timestamp::timestamp + interval 1 day"
        )
        instance = "split_part(id, '-', 1)"
        numbered = "requests where seq is not null and rowid not in (select r from astray)"
        disordered = (
            f"select {instance} from {numbered} group by 1 having max(ts) > arg_max(ts, seq) + {_ASTRAY} "
            f"or min(ts) < arg_min(ts, seq) - {_ASTRAY}"
        )
        # The median of its neighbours tells a line that strayed from those beside it.
        self.connection.execute(
            "insert into astray select r, id from (select rowid r, id, ts, lag(ts) over w before, "
            "lead(ts) over w after, epoch_us(ts) us, median(epoch_us(ts)) over (w rows between 5 preceding "
            f"and 5 following) typical from {numbered} and {instance} in ({disordered}) "
            f"window w as (partition by {instance} order by seq)) "
            f"where (ts > after + {_ASTRAY} or ts < before - {_ASTRAY}) and abs(us - typical) > 3.6e9"
        )
        (astray,) = self.row("select count(*) from astray")
        if astray:
            self.connection.execute("update requests set ts = null where rowid in (select r from astray)")
            self.connection.execute("update batched set ts = null where id in (select id from astray)")
        return int(astray)


@contextmanager
def open_log(paths: Sequence[Path], schema: Schema | None = None, segment: str = "") -> Iterator[LogTable]:
    """Read log files, or folders of them, into a table that lasts as long as the context.

    `schema` says which fields of `input` are read, and `segment` names one more, as text. Raises `LogError`.
    """
    files = log_files(paths)
    features = schema.features if schema else ()
    if segment:
        features = (*features, Feature(segment, "category"))
    with open_database() as (connection, folder):
        unreadable = _load(connection, files, features, Path(folder))
        yield LogTable(connection, files, unreadable, f"w{len(features) - 1}" if segment else "")


def models_in(paths: Sequence[Path]) -> dict[str, int]:
    """How many lines of each model there are in some logs; none in what is no log of ours."""
    files = [file for file in log_files(paths) if _begins(file, 1) and not _is_original(file)]
    if not files:
        return {}
    connection = duckdb.connect()
    try:
        query = f"select model, count(*) from {reader(files, {'model': 'VARCHAR'})} where model is not null"
        return dict(connection.execute(f"{query} group by 1 order by 1").fetchall())
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        raise _no_log(files, error) from None
    finally:
        connection.close()


def _no_log(files: Sequence[Path], error: Exception) -> LogError:
    return LogError(f"expected lines of a prediction log in {_names(files)}, got: {first_line(error)}")


def between(since: datetime | None, until: datetime | None) -> str:
    """The condition in SQL that `ts` is not before `since` and before `until`, empty for all time."""
    conditions = []
    if since is not None:
        conditions.append(f"ts >= timestamp '{since:%Y-%m-%d %H:%M:%S.%f}'")
    if until is not None:
        conditions.append(f"ts < timestamp '{until:%Y-%m-%d %H:%M:%S.%f}'")
    return " and ".join(conditions)


def _names(files: Sequence[Path], limit: int = 3) -> str:
    listed = ", ".join(map(str, files[:limit]))
    return listed if len(files) <= limit else f"{listed} and {len(files) - limit} more"


def _load(
    connection: duckdb.DuckDBPyConnection, files: list[Path], features: Sequence[Feature], folder: Path
) -> int:
    columns = "".join(f", n{i} double, w{i} varchar" for i in range(len(features)))
    connection.execute(
        "create table requests (ts timestamp, id varchar, seq bigint, model varchar, score double, "
        f"decision varchar, duration_us double, cpu_percent double, rss_mb double, batch json{columns})"
    )
    connection.execute(
        "create table batched (ts timestamp, id varchar, position bigint, model varchar, score double, "
        f"decision varchar{columns})"
    )
    original = [file for file in files if _is_original(file)]
    ours = [file for file in files if file not in original and _begins(file, 1)]
    try:
        if ours:
            _load_ours(connection, [without_mark(file, folder) for file in ours], features)
        for file in original:
            connection.execute(_select_original(without_mark(file, folder), features))
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        raise _no_log(files, error) from None
    (unreadable,) = connection.execute("select count(*) from requests where ts is null").fetchone() or (0,)
    connection.execute("delete from requests where ts is null")
    values = "".join(f", n{i}, w{i}" for i in range(len(features)))
    connection.execute(
        "create view all_scored as "
        f"select ts, id, coalesce(split_part(id, '-', 1), '') instance, model, score, decision{values} "
        "from requests where batch is null union all "
        f"select ts, id, coalesce(split_part(id, '-', 1), ''), model, score, decision{values} from batched"
    )
    connection.execute("create view scored as from all_scored")
    if not (connection.execute("select count(*) from requests").fetchone() or (0,))[0]:
        raise LogError(f"expected lines of a prediction log, got none in {_names(files)}")
    return int(unreadable)


def _load_ours(connection: duckdb.DuckDBPyConnection, files: list[Path], features: Sequence[Feature]) -> None:
    # A batch is told by its response, not by its input, in which a feature may be called `rows`.
    connection.execute(
        "insert into requests select ts, id, seq, model, coalesce(probability, "
        "list_max(try_cast(case when predictions is null then probabilities end as double[])), "
        "try_cast(prediction as double)), "
        "coalesce(decision, case when probabilities is not null then prediction end), "
        "duration_us, cpu_percent, rss_mb, "
        "case when decisions is not null or predictions is not null then json_object('input', input, "
        "'outputs', coalesce(probabilities, predictions), 'outcomes', coalesce(decisions, "
        "case when probabilities is not null then predictions end)) end"
        f"{_values(features)} from (select *, {_texts('input', features)} x from {reader(files, _OURS)})"
    )
    connection.execute(
        "insert into batched select ts, id, position, model, "
        "coalesce(try_cast(output as double), list_max(try_cast(output as double[]))), decision"
        f"{_values(features)} from (select *, {_texts('input', features)} x from ("
        "select ts, id, model, unnest(try_cast(batch->'outputs' as json[])) output, "
        "unnest(try_cast(batch->'outcomes' as varchar[])) decision, "
        "unnest(try_cast(batch->'input'->'rows' as json[])) input, "
        "unnest(range(json_array_length(batch->'outputs')::bigint)) as position "
        "from requests where batch is not null and ts is not null))"
    )


def _select_original(file: Path, features: Sequence[Feature]) -> str:
    found = ", ".join(
        f"nullif(regexp_extract(prediction, '{sentence}', ['n', 'percent']), {{'n': '', 'percent': ''}})"
        for sentence in _SENTENCES
    )
    accept, refuse = ORIGINAL_DECISIONS
    return (
        "insert into requests select coalesce(try_cast(timestamp as timestamp), "
        "try_strptime(timestamp, ['%d/%m/%Y %H:%M:%S', '%Y/%m/%d %H:%M:%S', '%Y-%m-%d %H:%M:%S,%f'])), "
        "null, null, null, "
        "try_cast(replace(f.n, ',', '.') as double) / if(f.percent = '%', 100, 1), "
        f"case when regexp_matches(prediction, '(?i){_REFUSED}') then '{refuse}' "
        f"when regexp_matches(prediction, '(?i){_ACCEPTED}') then '{accept}' end, "
        f"duration * 1e6, cpu_percent, memory_usage_MB, null{_values(features)} "
        f"from (select *, coalesce({found}) f, {_texts('input', features)} x "
        f"from {reader([file], _ORIGINAL)})"
    )


def _texts(field: str, features: Sequence[Feature]) -> str:
    """The texts of all features of a JSON object, in order; by pointer, as names may differ by case alone."""
    paths = ", ".join(literal(pointer(feature.name)) for feature in features)
    return f"json_extract_string({field}, [{paths}])" if features else "null"


def _values(features: Sequence[Feature]) -> str:
    """The number and the word of each feature, from the list of texts `x`."""
    return "".join(", " + _value(f"x[{i + 1}]", feature) for i, feature in enumerate(features))


def _value(text: str, feature: Feature) -> str:
    if feature.kind == "category":
        return f"null, {text}"
    number = f"try_cast({text} as double)"
    if feature.kind == "flag":
        number = f"case {text} when 'true' then 1.0 when 'false' then 0.0 else {number} end"
    # A hash of digits alone would be a number; JSON has no infinity, and no NaN.
    number = f"case when length({text}) < 32 and isfinite({number}) then {number} end"
    return f"{number}, case when ({number}) is null then {text} end"


def reader(files: Sequence[Path], columns: Mapping[str, str]) -> str:
    """The lines of some files as DuckDB reads them, members by name with their type."""
    names = ", ".join(literal(str(file)) for file in files)
    types = ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items())
    array = len(files) == 1 and _begins(files[0]).startswith(b"[")
    return (
        f"read_json([{names}], format='{'array' if array else 'newline_delimited'}', columns={{{types}}}, "
        f"ignore_errors={'false' if array else 'true'}, maximum_object_size={_MAX_LINE_BYTES})"
    )


def without_mark(file: Path, folder: Path) -> Path:
    """The file, or a copy without the byte order mark that an editor put before its first line."""
    if not _begins(file, len(BOM)).startswith(BOM):
        return file
    copy = folder / f"{len(list(folder.iterdir()))}.jsonl"
    with open_lines(file) as lines, open(copy, "wb") as plain:
        lines.read(len(BOM))
        while block := lines.read(_PEEK_BYTES):
            plain.write(block)
    return copy


def _is_original(file: Path) -> bool:
    text = _begins(file).removeprefix(BOM).lstrip()
    if text.startswith(b"["):
        return True
    first = next(iter(_peek(file)), None)
    if first is None:
        return b'"timestamp"' in text and b'"ts"' not in text
    return "timestamp" in first and "ts" not in first


def _peek(file: Path) -> Iterator[dict[str, Any]]:
    """The objects in the lines that a file begins with."""
    return filter(None, map(object_or_empty, _begins(file).removeprefix(BOM).splitlines()))


def _begins(file: Path, size: int = _PEEK_BYTES) -> bytes:
    with open_lines(file) as lines:
        return lines.read(size)
