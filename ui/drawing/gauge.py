"""The gauge: a half circle with the limit at its top, as SVG of our own."""

import math

from ui.words.text import NBSP, Text, attribute, tag

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

_SAID = Text("{name} {risk}, limit {limit}", "{name} {risk}, limite {limit}")
_LIMIT_ALONE = Text("{name}: limit {limit}", f"{{name}}{NBSP}: limite {{limit}}")
_LIMIT = Text("limit {limit}", "limite {limit}")


def place(probability: float, threshold: float) -> float:
    """Where on the gauge (0 left, 0.5 top, 1 right) a probability stands.

    The odds over the threshold's odds, squeezed into 0 to 1: the limit is always
    at the top, and the scale is widest around it, where decisions turn. With a
    threshold of 0.5 the scale is linear.
    """
    if not 0.0 < threshold < 1.0:
        return probability
    above, below = probability * (1.0 - threshold), threshold * (1.0 - probability)
    return above / (above + below)


def ticks(threshold: float) -> list[float]:
    """The shares marked on the scale, none too near the limit or another."""
    chosen: list[float] = []
    taken = [0.5]
    for share in sorted(_TICKS, key=lambda share: abs(place(share, threshold) - 0.5)):
        where = place(share, threshold)
        if 0.06 < where < 0.94 and all(abs(where - other) >= _TICK_GAP for other in taken):
            chosen.append(share)
            taken.append(where)
    return sorted(chosen)


def gauge(
    probability: float | None,
    threshold: float,
    *,
    risk: Text,
    limit: Text,
    name: Text,
    ends: tuple[Text, Text],
) -> str:
    """The gauge as an `<svg>`; without a probability it shows the limit alone.

    `risk` and `limit` are the two figures in words, `name` says of what, `ends`
    what is decided on the left and on the right.
    """
    shown = _SAID if probability is not None else _LIMIT_ALONE
    said = shown.put(name=name, risk=risk, limit=limit)
    parts = [
        _arc("zone below", 0.0, 0.495),
        _arc("zone otherwise", 0.505, 1.0),
        *(_tick(share, threshold) for share in ticks(threshold)),
        _limit(limit),
        _text("figure", CENTRE_X, CENTRE_Y - 30, risk),
        _text("name", CENTRE_X, CENTRE_Y - 4, name),
        _text("end", CENTRE_X - RADIUS, CENTRE_Y + 24, ends[0]),
        _text("end", CENTRE_X + RADIUS, CENTRE_Y + 24, ends[1]),
    ]
    if probability is not None:
        parts.append(_needle(place(probability, threshold)))
    head = f'<svg class="gauge" viewBox="0 0 340 204" role="img" {attribute("aria-label", said)}>'
    return head + "".join(parts) + "</svg>"


def _point(where: float, radius: float) -> tuple[float, float]:
    angle = math.pi * (1.0 - where)
    return CENTRE_X + radius * math.cos(angle), CENTRE_Y - radius * math.sin(angle)


def _arc(style: str, start: float, end: float) -> str:
    (x1, y1), (x2, y2) = _point(start, RADIUS), _point(end, RADIUS)
    return f'<path class="{style}" d="M{x1:.1f} {y1:.1f}A{RADIUS:g} {RADIUS:g} 0 0 1 {x2:.1f} {y2:.1f}"/>'


def _tick(share: float, threshold: float) -> str:
    where = place(share, threshold)
    x, y = _point(where, RADIUS + 15)
    return _text(
        "tick left" if where < 0.5 else "tick right", x, y + 4, Text.figures(f"{share * 100:g}{NBSP}%")
    )


def _limit(limit: Text) -> str:
    top = CENTRE_Y - RADIUS
    line = f'<path class="limit" d="M{CENTRE_X:g} {top - 17:g}V{top + 17:g}"/>'
    return line + _text("limit-name", CENTRE_X, top - 24, _LIMIT.put(limit=limit))


def _needle(where: float) -> str:
    # A rotation from the left end, so that the style sheet can let it glide.
    x, y = CENTRE_X - RADIUS, CENTRE_Y
    return (
        f'<g class="needle" style="transform:rotate({180 * where:.2f}deg)">'
        f'<circle cx="{x:g}" cy="{y:g}" r="11"/></g>'
    )


def _text(style: str, x: float, y: float, text: Text) -> str:
    return tag("text", text, class_=style, x=f"{x:.1f}", y=f"{y:.1f}")
