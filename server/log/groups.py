"""Decisions counted by group, such as a context field's, for who watches them for fairness."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from server.log.answers import answers_of
from server.log.ring import LoggedResponse


class GroupCounter:
    """Counts one model's decisions into one worker's slots by a plan (`WorkerMetrics.groups_plan`).

    Only what is sent is looked at: a row without a field of groups costs a search for its name.
    """

    def __init__(self, plan: Mapping[str, Any], values: "memoryview[float]") -> None:
        self._fields: dict[str, dict[str, dict[str, int]]] = plan["fields"]
        #: One of these stands in each row to count: its name, or an escape, behind which it may hide.
        self._signs = [*map(orjson.dumps, self._fields), b"\\"]
        self._values = values

    def count(self, responses: Sequence[LoggedResponse]) -> None:
        """Count the rows of some responses."""
        bodies = b"\n".join([body for *_, body in responses])
        if not self.may_count(bodies):  # one look for all costs a fifth of one for each
            return
        for _, _, content, *_, body in responses:
            if any(sign in body for sign in self._signs):
                for answer in answers_of(content, body):
                    self._count_row(answer.fields, answer.decision)

    def may_count(self, bodies: bytes) -> bool:
        """Whether there may be something to count in a text that holds some bodies."""
        return any(sign in bodies for sign in self._signs)

    def _count_row(self, row: Mapping[str, Any], decision: str) -> None:
        for name, groups in self._fields.items():
            group = row.get(name)
            word = str(int(group)) if isinstance(group, bool) else str(group)
            slot = groups.get(word, {}).get(decision)
            if slot is not None:
                self._values[slot] += 1.0
