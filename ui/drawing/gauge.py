"""The gauge: a half circle with the limits about its top, as SVG of our own."""

import math
from collections.abc import Sequence

from ui.words.bands import ScoreBand, band_at, key_html, limits_in_words
from ui.words.text import NBSP, Text, attribute, joined, tag
from ui.words.wording import percents

CENTRE_X, CENTRE_Y, RADIUS = 170.0, 172.0, 128.0

#: Shares that are easy to read, offered as ticks.
_TICKS = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    0.95,
    0.98,
    0.99,
)
_TICK_GAP = 0.09

_SAID = Text("{name} {risk}, {limits}", "{name} {risk}, {limits}")
_LIMIT_ALONE = Text("{name}: {limits}", f"{{name}}{NBSP}: {{limits}}")
_SEVERAL = {
    False: Text("limit {limits}", "limite {limits}"),
    True: Text("limits {limits}", "limites {limits}"),
}
_LIMIT = Text("limit {limit}", "limite {limit}")
_DASH = Text.same("\N{EN DASH}")


def middle(limits: Sequence[float]) -> float:
    """The probability at the top of the gauge: the limit, of several that between the outermost in odds.

    What is no probability between 0 and 1 stays: its scale is linear.
    """
    first, last = limits[0], limits[-1]
    if not 0.0 < first < last < 1.0:
        return last
    odds = math.sqrt(first / (1.0 - first) * last / (1.0 - last))
    return odds / (1.0 + odds)


def place(probability: float, top: float) -> float:
    """Where on the gauge (0 left, 0.5 top, 1 right) a probability stands.

    The odds over those at the top (`middle`), squeezed into 0 to 1: the limits are
    always around the top, and the scale is widest there, where decisions turn. With a
    limit of 0.5 the scale is linear.
    """
    if not 0.0 < top < 1.0:
        return probability
    above, below = probability * (1.0 - top), top * (1.0 - probability)
    return above / (above + below)


def ticks(limits: Sequence[float]) -> list[float]:
    """The shares marked on the scale, none too near a limit's figure or another."""
    top = middle(limits)
    chosen: list[float] = []
    taken = _apart([place(limit, top) for limit in limits])
    for share in sorted(_TICKS, key=lambda share: abs(place(share, top) - 0.5)):
        where = place(share, top)
        if 0.06 < where < 0.94 and all(abs(where - other) >= _TICK_GAP for other in taken):
            chosen.append(share)
            taken.append(where)
    return sorted(chosen)


def gauge(probability: float | None, bands: Sequence[ScoreBand], *, name: Text, decision: str = "") -> str:
    """The gauge as an `<svg>`; without a probability it shows the limits alone.

    `name` says of what the probability is. Its band is marked where it is what was decided.
    """
    limits = [band.low for band in bands[1:]]
    top = middle(limits)
    risk, *words = figures_in_words(probability, bands)
    here = None if probability is None else band_at(bands, probability)
    parts = [
        *(_zone(band, top, is_here=band is here and band.decision == decision) for band in bands),
        *(_tick(share, top) for share in ticks(limits)),
        *_limits([place(limit, top) for limit in limits], words),
        _text("figure", CENTRE_X, CENTRE_Y - 30, risk),
        _text("name", CENTRE_X, CENTRE_Y - 4, name),
        _text("end", CENTRE_X - RADIUS, CENTRE_Y + 24, bands[0].words),
        _text("end", CENTRE_X + RADIUS, CENTRE_Y + 24, bands[-1].words),
    ]
    if probability is not None:
        parts.append(_needle(place(probability, top)))
    shown = _SAID if probability is not None else _LIMIT_ALONE
    said = shown.put(name=name, risk=risk, limits=_SEVERAL[len(words) > 1].put(limits=joined(words)))
    head = f'<svg class="gauge" viewBox="0 0 340 204" role="img" {attribute("aria-label", said)}>'
    return head + "".join(parts) + "</svg>" + (key_html(bands) if len(bands) > 2 else "")


def figures_in_words(probability: float | None, bands: Sequence[ScoreBand]) -> list[Text]:
    """The probability (a dash without one) and the limits, told apart."""
    if probability is None:
        return [_DASH, *limits_in_words(bands)]
    return list(percents(probability, *(band.low for band in bands[1:])))


def _apart(places: Sequence[float]) -> list[float]:
    """The places, moved as little as it takes for a figure at each to be read."""
    moved = list(places)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + _TICK_GAP)
    back = sum(a - b for a, b in zip(moved, places, strict=True)) / len(moved)
    return [where - back for where in moved]


def _point(where: float, radius: float) -> tuple[float, float]:
    angle = math.pi * (1.0 - where)
    return CENTRE_X + radius * math.cos(angle), CENTRE_Y - radius * math.sin(angle)


def _zone(band: ScoreBand, top: float, *, is_here: bool) -> str:
    """The arc of a band, with a gap at each limit."""
    start, end = place(band.low, top), place(band.high, top)
    start, end = start + 0.005 * (start > 0.0), end - 0.005 * (end < 1.0)
    (x1, y1), (x2, y2) = _point(start, RADIUS), _point(max(start, end), RADIUS)
    style = f"zone {band.style}{' here' * is_here}"
    return f'<path class="{style}" d="M{x1:.1f} {y1:.1f}A{RADIUS:g} {RADIUS:g} 0 0 1 {x2:.1f} {y2:.1f}"/>'


def _tick(share: float, top: float) -> str:
    return _around("tick", place(share, top), RADIUS + 15, Text.figures(f"{share * 100:g}{NBSP}%"))


def _limits(places: Sequence[float], words: Sequence[Text]) -> list[str]:
    """A line across the arc at each limit, and its figure outside; a single one says what it is."""
    lines = [
        f'<path class="limit" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'
        for (x1, y1), (x2, y2) in ((_point(p, RADIUS - 17), _point(p, RADIUS + 17)) for p in places)
    ]
    if len(places) == 1 and places[0] == 0.5:
        name = _text("limit-name", CENTRE_X, CENTRE_Y - RADIUS - 24, _LIMIT.put(limit=words[0]))
        return [*lines, name]
    figures = zip(_apart(places), words, strict=True)
    return [*lines, *(_around("limit-name", where, RADIUS + 21, figure) for where, figure in figures)]


def _around(style: str, where: float, radius: float, text: Text) -> str:
    """A figure outside of the arc: on the left it ends there, on the right it begins."""
    x, y = _point(where, radius)
    return _text(f"{style} {'left' if where < 0.5 else 'right'}", x, y + 4, text)


def _needle(where: float) -> str:
    # A rotation from the left end, so that the style sheet can let it glide.
    x, y = CENTRE_X - RADIUS, CENTRE_Y
    return (
        f'<g class="needle" style="transform:rotate({180 * where:.2f}deg)">'
        f'<circle cx="{x:g}" cy="{y:g}" r="11"/></g>'
    )


def _text(style: str, x: float, y: float, text: Text) -> str:
    return tag("text", text, class_=style, x=f"{x:.1f}", y=f"{y:.1f}")
