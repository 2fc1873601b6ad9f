"""Decisions counted by group, from what is written down of each response."""

import json

import orjson
import pytest

from server.log.groups import GroupCounter
from server.log.ring import NO_MARGIN

PLAN = {"fields": {"région": {"nord": {"yes": 0, "no": 1}, "1": {"yes": 2}}}}


@pytest.mark.parametrize("ascii_only", [True, False])
def test_field_is_found_however_its_name_is_written(ascii_only: bool) -> None:
    """Most clients write a letter beyond ASCII as an escape."""
    values = memoryview(bytearray(24)).cast("d")
    counter = GroupCounter(PLAN, values)
    for row in ({"région": "nord"}, {"région": True}, {"région": "sud"}, {"other": "nord"}):
        told = orjson.dumps({"id": "a-1", "probability": 0.1, "decision": "yes"})
        counter.count([(0, 0, told, 1, 0.5, json.dumps(row, ensure_ascii=ascii_only).encode())])
    rows = json.dumps({"rows": [{"région": "nord"}, {}]}, ensure_ascii=ascii_only).encode()
    batch = orjson.dumps({"id": "a-2", "probabilities": [0.9, 0.1], "decisions": ["no", "yes"]})
    counter.count([(0, 0, batch, 2, NO_MARGIN, rows)])
    assert values.tolist() == [1.0, 1.0, 1.0]
