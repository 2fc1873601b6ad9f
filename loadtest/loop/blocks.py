"""Seconds of a run: how many responses each had and how long they took.

Locust keeps one set of figures for a whole run. A run cut into seconds shows
how much it varies by itself, which is what a difference has to exceed.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILES = "seconds-*.json"


def bucket_ms(milliseconds: float) -> float:
    """A latency rounded to three significant digits, in steps of 1 us at least.

    In place of Locust's own rounding to whole milliseconds, below which every
    answer of a fast server would take 0.
    """
    if milliseconds < 1.0:
        return round(milliseconds, 3)
    if milliseconds < 10.0:
        return round(milliseconds, 2)
    return round(milliseconds, 1) if milliseconds < 100.0 else float(round(milliseconds))


@dataclass
class Second:
    """The responses of one second: those as expected, the others, and their latencies by bucket."""

    responses: int = 0
    failures: int = 0
    latencies_ms: Counter[float] = field(default_factory=Counter)

    def add(self, milliseconds: float, *, failed: bool) -> None:
        """Count one response."""
        self.responses += 1
        self.failures += failed
        self.latencies_ms[bucket_ms(milliseconds)] += 1

    def merge(self, other: "Second") -> None:
        """Count another's answers too."""
        self.responses += other.responses
        self.failures += other.failures
        self.latencies_ms.update(other.latencies_ms)


Seconds = dict[int, Second]


def write_seconds(seconds: Mapping[int, Second], folder: Path) -> None:
    """Write what one load process saw, by second since the epoch."""
    content = {s: [b.responses, b.failures, list(b.latencies_ms.items())] for s, b in seconds.items()}
    (folder / f"seconds-{os.getpid()}.json").write_text(json.dumps(content))


def read_seconds(folder: Path) -> Seconds:
    """What all load processes saw together."""
    seconds: Seconds = defaultdict(Second)
    for file in sorted(folder.glob(FILES)):
        for second, (responses, failures, latencies) in json.loads(file.read_text()).items():
            block = Second(responses, failures, Counter(dict(latencies)))
            seconds[int(second)].merge(block)
    return dict(sorted(seconds.items()))


def together(blocks: Iterable[Second]) -> Second:
    """Several seconds as one."""
    total = Second()
    for block in blocks:
        total.merge(block)
    return total


def percentile_us(block: Second, percent: float) -> float:
    """The latency in us that `percent` of a block's answers did not exceed, NaN without answers."""
    rank = block.responses * percent / 100.0
    seen = 0
    for milliseconds, count in sorted(block.latencies_ms.items()):
        seen += count
        if seen >= rank:
            return milliseconds * 1000.0
    return float("nan")
