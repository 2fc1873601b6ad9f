"""Functions by how much CPU they take of a request, and by how much that changed."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from loadtest.loop.stacks import by_function

#: A change of fewer standard deviations of its sampling error is noise.
DEVIATIONS = 3.0
#: Of fewer samples nothing is said: one stall of the machine is many samples of one place.
MIN_SAMPLES = 300
SHOWN = 12


class FunctionChange(NamedTuple):
    """A Python function with the C code it calls: us of a request before and after.

    `error` is one standard deviation of the change, from the number of samples.
    """

    name: str
    before_us: float
    after_us: float
    error_us: float

    @property
    def change_us(self) -> float:
        """By how much it grew."""
        return self.after_us - self.before_us

    @property
    def is_noise(self) -> bool:
        """Whether so few samples could differ by chance."""
        return abs(self.change_us) < DEVIATIONS * self.error_us


def changes(
    before: Mapping[str, int], after: Mapping[str, int], before_us: float, after_us: float
) -> list[FunctionChange]:
    """The functions that changed most, largest first.

    `before` and `after` are stacks with their samples, the other two a request's
    CPU in us: a function's share of the samples is its share of those.
    """
    a, b = by_function(before), by_function(after)
    found = []
    for name in a.keys() | b.keys():
        us_a, error_a = _us(a[name], a.total(), before_us)
        us_b, error_b = _us(b[name], b.total(), after_us)
        found.append(FunctionChange(name, us_a, us_b, math.hypot(error_a, error_b)))
    return sorted(found, key=lambda f: (f.is_noise, -abs(f.change_us), f.name))[:SHOWN]


def per_request(stacks: Mapping[str, int], us: float) -> dict[str, float]:
    """Each stack's us of a request."""
    total = sum(stacks.values())
    return {stack: count / total * us for stack, count in stacks.items()}


def _us(samples: int, total: int, us: float) -> tuple[float, float]:
    """A function's us and their standard deviation, of a binomial share (at least of one sample)."""
    if not total:
        return 0.0, math.inf
    share = samples / total
    if total < MIN_SAMPLES:
        return share * us, math.inf
    return share * us, math.sqrt(max(share * (1.0 - share), 1.0 / total) / total) * us
