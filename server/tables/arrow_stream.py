"""Arrow's IPC stream, and the file around one (Feather V2): what columns it has, and its rows in batches."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from server.errors import MalformedBody, UnacceptableRow
from server.tables.arrow_columns import MAX_DICTIONARY, ArrowColumn, Buffers, Cursor
from server.tables.arrow_metadata import BATCH, DICTIONARY, SCHEMA, Field, Footer, Message, damaged, part_of

#: Media types of a stream and of a file; which of both a body is, its first bytes say.
ARROW = STREAM, _FILE = "application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file"
#: Batches of one stream: each costs what some rows do, also if it has none.
MAX_BATCHES = 10_000
_MAGIC = b"ARROW1"
_CONTINUES = -1
_OTHERS = {
    b"PAR1": "Parquet: write Arrow IPC (`write_ipc_stream`, `to_feather`)",
    b"FEA1": "Feather V1: write it with version=2",
}


class ArrowRows(NamedTuple):
    """Some rows: how many, and the columns that were asked for, in that order."""

    height: int
    columns: list[ArrowColumn]


class ArrowStream:
    """A body that is read from begin to end, once.

    `fields` are its columns. All compressed buffers together may hold `most_bytes`. Raises
    `MalformedBody` for what is no stream of at most `most_fields` columns.
    """

    def __init__(self, body: bytes, most_fields: int, most_bytes: int) -> None:
        if body[:4] in _OTHERS:
            raise MalformedBody(f"expected an Arrow stream or file, got {_OTHERS[body[:4]]}")
        self._data = memoryview(body)
        self._buffers = Buffers(most_bytes)
        self._dictionaries: dict[int, ArrowColumn] = {}
        self._messages: Iterator[Message]
        if body.startswith(_MAGIC):
            footer = self._footer(most_fields)
            self.fields, self._messages = footer.fields, self._at(footer.places)
        else:
            self._messages = self._in_order()
            first = next(self._messages, None)
            if first is None or first.kind != SCHEMA:
                raise damaged("one that does not begin with a schema")
            self.fields = first.fields(most_fields)

    def rows(self, wanted: Collection[int], limit: int) -> Iterator[ArrowRows]:
        """The batches, with the columns at the places `wanted`; of a dictionary no row, but a turn.

        Raises `MalformedBody` where the stream is damaged or ends before its mark, and
        `UnacceptableRow` where it has more rows than `limit`.
        """
        needed = {self.fields[i].dictionary: self.fields[i].values for i in wanted if self.fields[i].values}
        rows = 0
        for batches, message in enumerate(self._messages):
            if batches == MAX_BATCHES:
                raise MalformedBody(f"expected at most {MAX_BATCHES} batches, got more: write longer ones")
            if message.kind == DICTIONARY:
                self._keep(message, needed)
                yield ArrowRows(0, [])
                continue
            if message.kind != BATCH:
                raise damaged("a message that is none of its kinds")
            batch = message.batch()
            rows += batch.rows
            if rows > limit:
                raise UnacceptableRow(f"expected 1 to {limit} rows, got more")
            cursor, columns = Cursor(batch, message.body, self._buffers), {}
            for i, field in enumerate(self.fields):
                if i in wanted:
                    columns[i] = cursor.column(field, batch.rows, self._dictionaries)
                else:
                    cursor.pass_over(field)
            cursor.end()
            yield ArrowRows(batch.rows, [columns[i] for i in wanted])

    def _keep(self, message: Message, needed: dict[int, Field | None]) -> None:
        id_, batch = message.dictionary()
        if (values := needed.get(id_)) is None:
            return
        if batch.rows > MAX_DICTIONARY:
            raise MalformedBody(
                f"expected dictionaries of at most {MAX_DICTIONARY} entries, got a longer one"
            )
        cursor = Cursor(batch, message.body, self._buffers)
        self._dictionaries[id_] = cursor.column(values, batch.rows, {})
        cursor.end()

    def _in_order(self) -> Iterator[Message]:
        """The messages of a stream, up to the mark of its end."""
        place = 0
        while (message := self._message_at(place)) is not None:
            place = message.end
            yield message
        if self._after_length(place) < len(self._data):
            raise damaged("something behind its end")

    def _at(self, places: Collection[int]) -> Iterator[Message]:
        """The messages of a file."""
        for place in places:
            if (message := self._message_at(place)) is None:
                raise damaged("a footer that names no batch")
            yield message

    def _message_at(self, place: int) -> Message | None:
        """The message that begins at a place, None if the mark of the end does."""
        begin = self._after_length(place)
        size = self._integer(begin - 4)
        if not size:
            return None
        return Message(self._data, begin, size)

    def _after_length(self, place: int) -> int:
        """Behind the length of a message, before which a mark stands since version 0.15."""
        return place + (8 if self._integer(place) == _CONTINUES else 4)

    def _footer(self, most_fields: int) -> Footer:
        """The end of a file: the footer, its length and the magic number."""
        end = len(self._data) - len(_MAGIC) - 4
        if end < len(_MAGIC) or self._data[end + 4 :] != _MAGIC:
            raise damaged("a file that is cut off")
        return Footer(part_of(self._data, end - self._integer(end), end), most_fields)

    def _integer(self, place: int) -> int:
        return int.from_bytes(part_of(self._data, place, place + 4), "little", signed=True)
