"""The input of a line of the log: as it came, unless it is longer than any row needs to be."""

import logging
import struct
from typing import Any

import orjson

from server.model.decoder import row_decoder
from server.model.schema import Feature, Schema

logger = logging.getLogger(__name__)

#: A text of this length is logged as it came, however little the row in it.
SHORT_BYTES = 4096
#: The digits of any float64, its sign and exponent.
_NUMBER_BYTES = 24
#: Around a name and its value: quotes, colon, comma, and blanks behind the two.
_AROUND_BYTES = 8


class LoggedInput:
    """Bounds what a client can make the log write for one row of a schema.

    A row may be padded with blanks, zeros and members that come again, up to the
    largest body. One of more than `max_bytes` is written as the row it was read
    as: the same values, to the bit, as an object without what is missing. So is one of a
    model that ignores some members: what they hold is nobody's business here. Fields of context are kept.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._decode = row_decoder(schema, others=True)
        self._unpack = struct.Struct(f"{len(schema)}d").unpack
        # Twice what the longest values take: escapes, and digits beyond those that count.
        longest = max(SHORT_BYTES, 2 * sum(map(_longest, schema.features)))
        self.max_bytes = 0 if set(schema.ignored) - set(schema.context) else longest

    def of(self, text: bytes) -> bytes:
        """The JSON object of one acceptable row, as it is logged."""
        if len(text) <= self.max_bytes:
            return text
        try:
            # Copied: what orjson gives may keep more than its length.
            fields = self._schema.fields(self._unpack(self._decode(text)))
            return bytes(memoryview(orjson.dumps(fields | self._beside(text))))
        except MemoryError:
            logger.warning("There is no memory to shorten a long row: it is logged as it came.")
            return text

    def _beside(self, text: bytes) -> dict[str, Any]:
        """The context of an acceptable row, as far as it is there."""
        if not self._schema.context:
            return {}
        row = orjson.loads(text)
        return {name: row[name] for name in self._schema.context if name in row}


def _longest(feature: Feature) -> int:
    values = [len(orjson.dumps(name)) for name in feature.categories]
    return len(orjson.dumps(feature.name)) + _AROUND_BYTES + max([_NUMBER_BYTES, *values])
