"""Workers that count nothing, for measurements alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import server.scoring.service
from server.metrics.shared import WorkerMetrics


class Uncounted(WorkerMetrics):
    """The counters of a worker that nobody adds to while it answers."""

    def duration(self, *_: Any, **__: Any) -> Callable[[float], None]:
        """A function that forgets what it observes."""
        return _forget

    def scored(self, *_: Any, **__: Any) -> Callable[[Any, int], None]:
        """A function that counts nothing."""
        return _forget


@contextmanager
def uncounted() -> Iterator[None]:
    """Services opened in the block count nothing."""
    with patch.object(server.scoring.service, "WorkerMetrics", Uncounted):
        yield


def _forget(*_: Any) -> None:
    pass
