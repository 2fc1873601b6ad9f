"""The rows of a batch in Arrow's IPC format, as the JSON objects that they mean.

So one rule decodes them, and the log holds them as it holds others. Values are what their type says:
a text is no number here, as in JSON.
"""

import asyncio
from collections.abc import Iterator

import numpy as np
import orjson

from server.api.feature_columns import feature_columns
from server.errors import BodyTooLarge, FieldError, UnacceptableRow
from server.model.schema import Schema, pointer
from server.scoring.row_context import bare_names
from server.scoring.row_id import MEMBER
from server.tables.arrow_columns import ArrowColumn
from server.tables.arrow_metadata import Field
from server.tables.arrow_stream import ArrowStream
from server.tables.columns import FeatureNames

#: Cells that are made into Python's values before the event loop turns (0.5 ms).
_SLICE_CELLS = 2000
#: The index that pandas adds as a column, unless it is told not to.
_PANDAS_INDEX = "__index_level_"


async def arrow_rows(body: bytes, schema: Schema, limit: int, row_bytes: int, most_bytes: int) -> list[bytes]:
    """The rows of a stream or file, at most `limit`, with texts of `row_bytes` each and `most_bytes` in all.

    `most_bytes` is also what compressed buffers may hold. Raises `MalformedBody`, `BodyTooLarge`
    or `UnacceptableRow`.
    """
    names = FeatureNames(schema)
    stream = ArrowStream(body, names.most, most_bytes)
    columns = _readable_columns(stream.fields, names, schema)
    step = max(1, _SLICE_CELLS // len(columns))
    texts: list[bytes] = []
    for rows in stream.rows(columns, limit):
        await asyncio.sleep(0)
        for start in range(0, rows.height, step):
            parts = [column.part(slice(start, start + step)) for column in rows.columns]
            most_bytes -= _check_texts(parts, row_bytes)
            if most_bytes < 0:
                raise BodyTooLarge(
                    "expected texts of fewer bytes, each counted in every row it stands in, got more"
                )
            _refuse_infinite(list(columns.values()), parts, len(texts))
            texts += _objects(list(columns.values()), parts)
            await asyncio.sleep(0)
    return texts


def _readable_columns(fields: list[Field], names: FeatureNames, schema: Schema) -> dict[int, str]:
    """The columns that are read, by place, with their names in a row's object.

    Raises `UnacceptableRow` if there are others, or one is of a type that holds no such values.
    """
    header = bare_names([field.name for field in fields], schema)
    if any(name.startswith(_PANDAS_INDEX) for name in header):
        raise UnacceptableRow(
            "expected columns of the model, got the index of a pandas frame beside them: "
            "write it with preserve_index=False, or after reset_index(drop=True)"
        )
    features = feature_columns(header, names, schema)
    read = {i: features[i].name if i in features else name for i, name in enumerate(header)}
    read = {i: name for i, name in read.items() if i in features or name == MEMBER or name in schema.context}
    errors = []
    for i, name in read.items():
        field = fields[i].values or fields[i]
        if field.kind == "other" or field.values is not None:
            expected = features[i].expected if i in features else "numbers or texts"
            detail = f"expected {expected}, got a column of type {field.type}: write it in another type"
            errors.append(FieldError(pointer(name), detail))
    if errors:
        raise UnacceptableRow(
            "expected columns of types that the model's values have, got others", errors=errors
        )
    return read


def _check_texts(parts: list[ArrowColumn], row_bytes: int) -> int:
    """The bytes of all texts of some rows: a dictionary may repeat a long one in every cell.

    Raises `UnacceptableRow` if those of one row are more than `row_bytes`.
    """
    sizes = np.sum([part.sizes() for part in parts], axis=0)
    if sizes.max() > row_bytes:
        raise UnacceptableRow(f"expected rows of at most {row_bytes} bytes, got a longer one")
    return int(sizes.sum())


def _refuse_infinite(names: list[str], parts: list[ArrowColumn], first: int) -> None:
    places = [(part.first_infinite(), name) for name, part in zip(names, parts, strict=True)]
    errors = [
        FieldError(f"/rows/{first + place}{pointer(name)}", "expected a number, got an infinite one", "range")
        for place, name in places
        if place is not None
    ]
    if errors:
        raise UnacceptableRow("expected finite numbers, got others; no row was scored", errors=errors)


def _objects(names: list[str], parts: list[ArrowColumn]) -> Iterator[bytes]:
    for row in zip(*(part.cells() for part in parts), strict=True):
        # What orjson gives keeps the 4 KiB it was written to; a copy has its own size.
        yield bytes(memoryview(orjson.dumps(dict(zip(names, row, strict=True)))))
