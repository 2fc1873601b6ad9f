"""ONNX Runtime alone, and the time of short calls: what is left when all else is gone."""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loadtest.harness.target import keep_to, server_core
from server.model.bundle import Bundle
from server.model.predictor import Predictor

#: Short enough that some stretches meet no neighbour, even on a busy machine.
CALLS = 200
STRETCHES = 100


def bare_run_us(model: Path) -> float:
    """What ONNX Runtime alone takes for one row after the other, on one core."""
    predictor = Predictor(Bundle.load(model))
    rows = [predictor.bundle.schema.encode(golden.fields) for golden in predictor.bundle.golden_rows()]
    with keep_to(server_core(1)):
        return minimum_us(bare_run(predictor), rows)


def bare_run(predictor: Any) -> Callable[[Any], None]:
    """ONNX Runtime's own call; the row must be filled, or the processor learns its way by heart."""
    bound_row, run, bound, options = predictor._row, predictor._run, predictor._bound, predictor._options

    def call(row: bytes) -> None:
        bound_row[:] = row
        run(bound, options)

    return call


def minimum_us(call: Callable[[Any], Any], arguments: Sequence[Any]) -> float:
    """The shortest stretch of calls, in us a call."""
    return min(stretch_us(call, arguments) for _ in range(STRETCHES))


def stretch_us(call: Callable[[Any], Any], arguments: Sequence[Any]) -> float:
    """One stretch of calls, the arguments in turn, in us a call."""
    turns = list(itertools.islice(itertools.cycle(arguments), CALLS))
    began = time.perf_counter_ns()
    for argument in turns:
        call(argument)
    return (time.perf_counter_ns() - began) / CALLS / 1000
