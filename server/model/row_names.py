"""What a row of the prediction log is called, for all who tell it and all who look for it.

A response has an id. A request of one row is called by it; of a batch each row is called by
the response's id, `/` and its place in the request, from 0: `9f3c1ab20c44-42/0`. A large batch
takes several lines; those after the first have ids with `.1`, `.2`, … and say in `first_row`
which place their first row has, so that any line names its rows by itself. A line that rows
were erased from says in `row_places` which places the others have: they keep their names.
Beside these a client's own names mean rows: of its request, its trace, or a row.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from server.model.logged_rows import is_batch

#: Members of a line with what the client calls its request.
REQUEST_NAMES = ("request_id", "header_request_id", "trace_id")
#: What the client calls a row: of a line of one row, and of each row of a batch's.
ROW_ID, ROW_IDS = "row_id", "row_ids"
FIRST_ROW, ROW_PLACES = "first_row", "row_places"


def row_name(response_id: str, place: int) -> str:
    """What the row at a place of a batch, from 0, is called."""
    return f"{response_id}/{place}"


def line_id(response_id: str, part: int) -> str:
    """The id of the line with a part of a response, from 0."""
    return f"{response_id}.{part}" if part else response_id


def response_of(line: str) -> str:
    """The id of the response that a line of this id is of, or belongs to."""
    return line.partition(".")[0]


def response_id_of(record: Mapping[str, Any]) -> str:
    """The id of the response that a line is of, or belongs to."""
    return response_of(str(record["id"]))


def name_of_row(record: Mapping[str, Any], row: int) -> str:
    """What a row of a line is called, by its number in the line, from 0.

    A later part that says no `first_row`, as older servers wrote it, names its rows by its own id.
    """
    if not is_batch(record):
        return str(record["id"])
    places: Sequence[int] | None = record.get(ROW_PLACES)
    place = places[row] if places is not None else record.get(FIRST_ROW, 0) + row
    return row_name(response_id_of(record) if FIRST_ROW in record else str(record["id"]), place)


def count_of(record: Mapping[str, Any]) -> int:
    """How many rows a line has."""
    return len(record["input"]["rows"]) if is_batch(record) else 1


def means_all(record: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether one of some names means the line's response or request as a whole."""
    own = {str(record["id"]), response_id_of(record)}
    own |= {str(record[name]) for name in (*REQUEST_NAMES, ROW_ID) if name in record}
    return not own.isdisjoint(names)


def rows_called(record: Mapping[str, Any], names: Collection[str]) -> Sequence[int]:
    """The rows of a line, by their numbers in it, that one of some names means: all, some or none."""
    rows = range(count_of(record))
    if means_all(record, names):
        return rows
    given = [str(name) for name in record.get(ROW_IDS) or ()]
    return [i for i in rows if name_of_row(record, i) in names or (given and given[i] in names)]


def sought(name: str) -> str:
    """What stands in each line with rows that a name means: of a row's name the response's id."""
    head, slash, place = name.rpartition("/")
    return head if head and slash and place.isdecimal() else name


def with_rows(record: Mapping[str, Any], stay: Sequence[int]) -> dict[str, Any]:
    """A line with these rows of its own alone, which keep their names; empty without any."""
    rows = count_of(record)
    if not stay or len(stay) == rows:
        return dict(record) if stay else {}
    places = [record.get(FIRST_ROW, 0) + i for i in range(rows)]
    placed: dict[str, Any] = {ROW_PLACES: places, **record}
    shorter = {
        name: [values[i] for i in stay] if isinstance(values, list) and len(values) == rows else values
        for name, values in placed.items()
    }
    return shorter | {"input": {"rows": [record["input"]["rows"][i] for i in stay]}}
