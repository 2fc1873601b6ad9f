"""What bytes must never do to the decoders: raise anything but a `Problem`, or make two of them disagree.

`check` is called by Atheris (`make fuzz`) with what it makes up, and by the suite
with seeded mutations of `seeds`. The first byte chooses the target.
"""

import asyncio
import json
import math
import struct
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from server.api.batch_bodies import CSV, JSON, NDJSON, decode_rows, text_rows
from server.api.openapi_schemas import feature_schema
from server.errors import Problem
from server.model.bundle import Bundle
from server.model.decoder import row_decoder
from server.model.schema import Row, Schema, parse_object
from server.scoring.model_tensors import ModelTensors
from server.scoring.tensors import read_head, read_tensors
from server.tables.arrow_stream import STREAM
from server.tables.arrow_writer import arrow_stream
from tests.fuzz.every_kind import EVERY_KIND

CREDIT = Bundle.load(Path("models/credit"))
#: Python's own parser gives up at a depth that depends on its stack.
MAX_ROWS, MAX_ROW_BYTES = 10_000, 2**20
MAX_JUDGED_BYTES = 4096


def outcome(decode: Callable[[bytes], Row], body: bytes) -> tuple[int, bytes]:
    """What a decoder makes of a body: 200 and the row, or the status and the words of the refusal."""
    try:
        return 200, decode(body)
    except Problem as problem:
        return problem.status, problem.body()


class RowTarget:
    """One row: the typed decoder, `Schema.encode` and Python's json with jsonschema must agree."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._decode = row_decoder(schema)

    @cached_property
    def _judge(self) -> Any:
        import jsonschema  # here: its formats build 39 grammars, for 4 s of CPU

        features = self._schema.features
        document = {
            "type": "object",
            "properties": {feature.name: feature_schema(feature) for feature in features},
            "required": [feature.name for feature in features if not feature.nullable],
            "additionalProperties": False,
        }
        return jsonschema.Draft202012Validator(document)

    def __call__(self, body: bytes) -> None:
        """Raise `AssertionError` if they disagree."""
        found = outcome(self._decode, body)
        in_words = outcome(lambda text: self._schema.encode(parse_object(text)), body)
        assert found == in_words, f"typed {found!r}, in words {in_words!r}"
        if len(body) > MAX_JUDGED_BYTES:
            return
        judged = self._judged(body)
        assert (found[0] == 200) == (judged is not None), f"ours {found[0]}, judged {judged!r}"
        if judged is not None:
            assert np.array_equal(np.frombuffer(found[1]), np.frombuffer(judged), equal_nan=True)

    def _judged(self, body: bytes) -> Row | None:
        """The row as Python's json and jsonschema see it, None if they refuse it."""
        try:
            fields = json.loads(body.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
            json.dumps(fields, ensure_ascii=False).encode()  # a lone surrogate is no text
        except (ValueError, RecursionError):
            return None
        return self._encoded(fields) if self._judge.is_valid(fields) else None

    def _encoded(self, fields: dict[str, Any]) -> Row:
        values = []
        for feature in self._schema.features:
            value = fields.get(feature.name)
            if value is None:
                values.append(math.nan)
            else:
                values.append(float(feature.categories.index(value) if feature.categories else value))
        return struct.pack(f"{len(values)}d", *values)


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value


def batch_target(media_type: str) -> Callable[[bytes], None]:
    """A body of many rows: what is accepted is a matrix whose rows are those of one row each."""
    schema = CREDIT.schema
    decode = row_decoder(schema)

    def check_batch(body: bytes) -> None:
        try:
            batch = asyncio.run(text_rows(media_type, body, schema, MAX_ROWS, MAX_ROW_BYTES, 2**20))
            matrix = asyncio.run(decode_rows(batch, schema, decode))
        except Problem:
            return
        alone = b"".join(schema.encode(parse_object(text)) for text in batch.texts)
        assert matrix.tobytes() == alone

    return check_batch


def tensor_target(binary: bool) -> Callable[[bytes], None]:
    """A request of the Open Inference Protocol; in binary the first two bytes are the length of its JSON."""
    tensors = ModelTensors(CREDIT)
    width = len(CREDIT.schema)

    def check_tensors(body: bytes) -> None:
        head_bytes = len(body)
        if binary:
            head_bytes, body = int.from_bytes(body[:2], "little"), body[2:]
        try:
            head = read_head(body[:head_bytes], width, nan=True)
            tensors.check(head.inputs, MAX_ROWS)
            matrix = tensors.rows(read_tensors(head.inputs, memoryview(body)[head_bytes:]))
        except Problem:
            return
        assert matrix.shape[1:] == (width,)
        assert matrix.dtype == np.float64

    return check_tensors


TARGETS: tuple[Callable[[bytes], None], ...] = (
    RowTarget(EVERY_KIND),
    RowTarget(CREDIT.schema),
    batch_target(JSON),
    batch_target(NDJSON[0]),
    batch_target(CSV),
    tensor_target(binary=False),
    tensor_target(binary=True),
    batch_target(STREAM),
)


def check(data: bytes) -> None:
    """Give bytes to the target that the first one chooses."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def seeds() -> list[bytes]:
    """One good body or more for each target."""
    row = {"income": 2500.5, "contract": "none", "owner": True, "children": 2, "points": 9007199254740992}
    rows = [dict(golden.fields) for golden in CREDIT.golden_rows()][:3]
    names = list(CREDIT.schema.names)
    lines = [",".join(names), *(",".join(_cell(row.get(name)) for name in names) for row in rows)]
    values = np.frombuffer(b"".join(map(CREDIT.schema.encode, rows))).reshape(len(rows), -1)
    shape = list(values.shape)
    data = [None if math.isnan(value) else value for value in values.ravel().tolist()]
    tensor = {"name": "features", "shape": shape, "datatype": "FP64"}
    size = {"parameters": {"binary_data_size": values.nbytes}}
    head = orjson.dumps({"inputs": [tensor | size]})
    bodies = {
        0: [orjson.dumps(row | {"grade": "a", "free": -1e300, "guided": 0.5, "positive": None})],
        1: [orjson.dumps(row) for row in rows],
        2: [orjson.dumps({"rows": rows})],
        3: [b"\n".join(map(orjson.dumps, rows))],
        4: ["\n".join(lines).encode()],
        5: [orjson.dumps({"id": "1", "inputs": [tensor | {"data": data}]})],
        6: [len(head).to_bytes(2, "little") + head + values.tobytes()],
        7: [arrow_stream({"AMT_CREDIT": [513000.0, 1.5], "NAME_INCOME_TYPE": ["Student", "x"]}, {})],
    }
    return [bytes([target]) + body for target, all_of_it in bodies.items() for body in all_of_it]


def _cell(value: Any) -> str:
    return "" if value is None else json.dumps(value)
