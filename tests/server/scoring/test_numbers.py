"""The numbers of responses: each of one line in the log, and none of none."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from server.log.instance_log import InstanceLog
from server.metrics.layout import SlotLayout
from server.metrics.shared import SharedMetrics, WorkerMetrics
from server.model.bundle import Bundle
from server.scoring.many_rows import LINE_BYTES, RowsScorer
from server.scoring.one_row import make_scorer
from tests.support.bundles import ROW


def test_number_that_is_given_back_comes_once_though_others_came_after(three: Path) -> None:
    scorer = make_scorer(Bundle.load(three), lambda *_: None)
    taken = [scorer.take_sequence() for _ in range(5)]
    assert taken == [1, 2, 3, 4, 5]
    scorer.give_back(4)
    scorer.give_back(2)
    assert [scorer.take_sequence() for _ in range(4)] == [2, 4, 6, 7]
    scorer.give_back(*{7, 1})
    assert [scorer.take_sequence() for _ in range(3)] == [1, 7, 8]


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_number_of_a_line_that_no_memory_is_left_for_goes_to_the_next(three: Path, lines: int) -> None:
    """The response is not given; its first lines may be there, and none that is not has a number."""
    logged: list[int] = []

    def put(*record: Any, **_: Any) -> bool:
        number = record[3]
        logged.extend([number] if number else [])
        return True

    def texts() -> Iterator[bytes]:
        for _ in range(lines + 1):  # a line is made once it is known that the next row is of another
            yield orjson.dumps(ROW) + b" " * LINE_BYTES
        raise MemoryError

    bundle = Bundle.load(three)
    shared = SharedMetrics(SlotLayout([(bundle.label, bundle.outcomes)]), 1)
    own = InstanceLog(1, put, lambda: None, lambda text: text, 2**20, None)
    scorer = make_scorer(bundle, lambda *_: None, lambda *_: own)
    rows = RowsScorer(scorer, WorkerMetrics(shared, 0))

    async def answer() -> None:
        row = np.frombuffer(scorer.decode(orjson.dumps(ROW)))
        matrix = np.tile(row, (lines + 1, 1))
        scored = await rows.score(matrix)
        with rows.numbered(scored) as scored:
            pass
        await rows.record(texts(), matrix, scored, 0)

    with pytest.raises(MemoryError):
        asyncio.run(answer())
    assert logged == list(range(1, lines + 1))
    assert scorer.take_sequence() == lines + 1
