"""The log of one model's responses in one worker, as its scorers see it."""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from server.log.ring import NO_MARGIN, ROWS, LoggedResponse, Put, RowMargins, put_margins

_SCORE = struct.Struct("d")


class InstanceLog(NamedTuple):
    """Takes the responses of one model in one worker.

    `ring_put` is what the hot path puts a response by, under the number `instance`, and
    `drop` counts one that found no room. `input_of` is what is logged of a row's text: itself
    up to `max_input_bytes`.
    `write`, of the strict mode alone, has the kernel take the lines of some responses now,
    all or none; it raises `OSError`.
    """

    instance: int
    ring_put: Put | None
    drop: Callable[[], None]
    input_of: Callable[[bytes], bytes]
    max_input_bytes: int
    write: Callable[[Sequence[LoggedResponse]], None] | None

    def put(self, responses: Sequence[LoggedResponse], rows: Sequence[bytes]) -> None:
        """Take the responses to some rows: each row 1 + F float64, its score and itself, or several such."""
        assert self.ring_put is not None
        for piece in rows:
            (score,) = _SCORE.unpack_from(piece)
            self.ring_put(self.instance, 0, 0, 0, NO_MARGIN, score, piece[_SCORE.size :], b"", b"", ROWS)
        for began_ns, ended_ns, response, number, margin, body in responses:
            told = (0.0, b"", response, body)
            if isinstance(margin, RowMargins):
                has_room = put_margins(
                    self.ring_put, self.instance, began_ns, ended_ns, number, margin, *told
                )
            else:
                has_room = self.ring_put(self.instance, began_ns, ended_ns, number, margin, *told)
            if not has_room:
                self.drop()


#: Takes nothing.
NO_LOG = InstanceLog(0, None, lambda: None, lambda text: text, 0, None)
