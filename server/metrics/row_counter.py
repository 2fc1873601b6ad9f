"""Counts rows into the bins of a drift plan; imports nothing heavy, since the observer does it."""

import math
import zlib
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import orjson

from server.model.logged_rows import logged_rows

#: Rows are told apart by the slot they mark; how many differ is read off how many are
#: marked (Whang et al., A linear-time probabilistic counting algorithm, 1990).
MARKS = 1024


class RowCounter:
    """Counts one model's rows into one worker's slots by a plan (`DriftSlots.plan`)."""

    def __init__(self, plan: Mapping[str, Any], values: "memoryview[float]") -> None:
        self._values = values
        self._window_rows, self._size = plan["window_rows"], plan["size"]
        self._rows, self._before = plan["windows"]
        first = self._rows
        self._marks = first + plan["marks"]
        self._features = [
            (name, first + bins, first + missing, edges, codes, *_range(low, high))
            for name, bins, missing, edges, codes, low, high in plan["features"]
        ]
        score, self._score_edges = plan["score"]
        self._score = first + score

    def count_answer(self, response: bytes, body: bytes) -> int:
        """Count the row, or the rows, of one answer: two JSON objects; how many they were."""
        rows = list(logged_rows({**orjson.loads(response), "input": orjson.loads(body)}))
        for row in rows:
            self.count(row.fields, row.score)
        return len(rows)

    def count(self, fields: Mapping[str, Any], score: float) -> None:
        """Count one row: a JSON object as the log shows it, and its score."""
        values = self._values
        for name, first, missing, edges, codes, low, high in self._features:
            value = fields.get(name)
            if value is None:
                values[missing] += 1.0
            elif codes is None:
                values[first + bisect_left(edges, value)] += 1.0
                if not low <= value <= high:
                    values[missing + 1] += 1.0
            elif value in codes:
                values[first + codes[value]] += 1.0
        values[self._score + bisect_left(self._score_edges, score)] += 1.0
        values[self._rows] += 1.0
        values[self._marks + zlib.crc32(orjson.dumps(fields)) % MARKS] = 1.0
        if values[self._rows] >= self._window_rows:
            self._turn()

    def _turn(self) -> None:
        current, before, size = self._rows, self._before, self._size
        self._values[before : before + size] = self._values[current : current + size]
        for slot in range(current, current + size):
            self._values[slot] = 0.0


def _range(low: float | None, high: float | None) -> tuple[float, float]:
    """JSON has no infinities: a plan has null for them."""
    return -math.inf if low is None else low, math.inf if high is None else high
