"""`/metrics` as it is sent: in one of two formats, rendered seldom, and a piece at a time.

Rendering takes 5 ms. After every few samples the event loop turns, so that no row waits
for a page; and a flood of scrapes waits for the next page together, which is one a second:
its clients ask no more while they wait, and nobody gets figures older than the request.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

#: So many pages are rendered as they are asked for; beyond, one each so many seconds.
BURST = 20
SECONDS_EACH = 1.0
#: Samples that are rendered at once, 10 to 20 us each.
AT_ONCE = 16
_END = b"# EOF\n"


class ExpositionFormat(NamedTuple):
    """A text format of Prometheus: its media type, and a family or more as text."""

    content_type: str
    encode: Callable[[Collector], bytes]


TEXT = ExpositionFormat("text/plain; version=0.0.4; charset=utf-8", generate_latest)
OPENMETRICS = ExpositionFormat(
    "application/openmetrics-text; version=1.0.0; charset=utf-8", generate_openmetrics
)


class Exposition:
    """The pages of one worker, which are those of all; for one event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._locks = {TEXT: asyncio.Lock(), OPENMETRICS: asyncio.Lock()}
        self._pages: dict[ExpositionFormat, tuple[float, bytes]] = {}
        self._left = float(BURST)  # pages that may be rendered now
        self._counted = time.monotonic()

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The page in the format that an Accept header asks for, and its media type."""
        format_ = chosen(accept)
        asked = time.monotonic()
        async with self._locks[format_]:
            # One page a turn of the event loop, so that rows are answered between those of a flood.
            await asyncio.sleep(0)
            begun, content = self._pages.get(format_, (0.0, b""))
            # One that was begun after this request came is as good as an own.
            if begun < asked:
                await self._wait()
                begun = time.monotonic()
                content = await self._render(format_)
                self._pages[format_] = begun, content
        return content, format_.content_type

    async def _wait(self) -> None:
        """Wait until another page may be rendered."""
        now = time.monotonic()
        self._left = min(float(BURST), self._left + (now - self._counted) / SECONDS_EACH) - 1.0
        self._counted = now
        await asyncio.sleep(max(0.0, -self._left * SECONDS_EACH))

    async def _render(self, format_: ExpositionFormat) -> bytes:
        pieces = []
        for family in self._registry.collect():
            await asyncio.sleep(0)
            samples, family.samples = family.samples, []
            pieces.append(head := format_.encode(_One([family])).removesuffix(_END))
            for first in range(0, len(samples), AT_ONCE):
                family.samples = samples[first : first + AT_ONCE]
                pieces.append(format_.encode(_One([family])).removesuffix(_END).removeprefix(head))
                await asyncio.sleep(0)
        if format_ is OPENMETRICS:
            pieces.append(_END)
        return b"".join(pieces)


class _One(Collector):
    """Some families, for an encoder."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def chosen(accept: str) -> ExpositionFormat:
    """OpenMetrics if an Accept header (RFC 9110, section 12.5.1) prefers it to plain text by name."""
    weights = {"text/plain": 0.0, "application/openmetrics-text": 0.0}
    for element in accept.lower().split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        if name in weights:
            weights[name] = max(weights[name], _weight(parameters))
    text, openmetrics = weights.values()
    return OPENMETRICS if openmetrics > 0.0 and openmetrics >= text else TEXT


def _weight(parameters: list[str]) -> float:
    text = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
    try:
        return float(text)
    except ValueError:
        return 0.0
