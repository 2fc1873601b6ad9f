"""Small plots as SVG of our own: lines on two axes, and a trend without axes."""

from collections.abc import Sequence
from typing import NamedTuple

from ui.words.text import Text, attribute, joined, tag

WIDTH, HEIGHT = 380.0, 270.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 62.0, 24.0, 14.0, 46.0

_NOW = Text("now", "maintenant")

Point = tuple[float, float]


class Axis(NamedTuple):
    """A range with its ticks, each a value and its words, and what is measured."""

    low: float
    high: float
    ticks: Sequence[tuple[float, Text]]
    name: Text

    def share(self, value: float) -> float:
        """Where a value stands, from 0 to 1."""
        return (value - self.low) / ((self.high - self.low) or 1.0)


class Line(NamedTuple):
    """Points that are joined; `style` is a class of the style sheet, `dots` marks each point."""

    style: str
    points: Sequence[Point]
    dots: bool = False


def plot(
    x: Axis, y: Axis, lines: Sequence[Line], summary: Text, marks: Sequence[tuple[float, Text]] = ()
) -> str:
    """Lines on two axes as an `<svg>`; `said` tells it to those who do not see it.

    `marks` are upright lines at a value of x, with words at their top, one below the other.
    """
    head = (
        f'<svg class="plot" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" {attribute("aria-label", summary)}>'
    )
    parts = [*(_x_tick(x, *tick) for tick in x.ticks), *(_y_tick(y, *tick) for tick in y.ticks)]
    parts += [_line(x, y, line) for line in lines]
    parts += [_mark(x, i, *mark) for i, mark in enumerate(marks)]
    parts.append(_word("axis", (_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, x.name))
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(tag("text", y.name, class_="axis", transform=f"translate(11 {middle:g}) rotate(-90)"))
    return head + "".join(parts) + "</svg>"


def percent_ticks(values: Sequence[float]) -> list[tuple[float, Text]]:
    """Shares as ticks in percent."""
    return [(value, Text.figures(f"{value * 100:g}\N{NO-BREAK SPACE}%")) for value in values]


def trend(
    lines: Sequence[tuple[str, Sequence[float]]], summary: Text, places: int, since: Text, most: Text
) -> str:
    """How figures moved, the newest at the right, all on one scale from 0, with the two ends of its time.

    There is room for so many `places`: what was not looked at yet stays empty. `since` names the left
    end, `most` the largest value, which stands in the summary too. A single value is a dot, and
    what was never more than 0 is not drawn.
    """
    largest = max((value for _, values in lines for value in values), default=0.0)
    drawn = ""
    for style, values in lines if largest else ():
        points = [
            f"{100 * (places - len(values) + i) / (places - 1):.2f},{38 - 34 * value / largest:.2f}"
            for i, value in enumerate(values)
        ]
        if len(points) == 1:  # a line of one point to itself is drawn as a dot by its round caps
            style, points = f"{style} dot", points * 2
        drawn += f'<polyline class="{style}" points="{" ".join(points)}" vector-effect="non-scaling-stroke"/>'
    said = joined([summary, most], ": ")
    return (
        f'<svg class="trend" viewBox="0 0 100 40" preserveAspectRatio="none" role="img" '
        f"{attribute('aria-label', said)}>{drawn}</svg>"
        f'<div class="ends">{tag("span", since)}{tag("span", most)}{tag("span", _NOW)}</div>'
    )


def _place(x: Axis, y: Axis, point: Point) -> Point:
    return (
        _LEFT + (WIDTH - _LEFT - _RIGHT) * x.share(point[0]),
        HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * y.share(point[1]),
    )


def _line(x: Axis, y: Axis, line: Line) -> str:
    places = [_place(x, y, point) for point in line.points]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4"/>' for a, b in places) if line.dots else ""
    return f'<g class="{line.style}"><polyline points="{path}"/>{dots}</g>'


def _x_tick(x: Axis, value: float, text: Text) -> str:
    place = _LEFT + (WIDTH - _LEFT - _RIGHT) * x.share(value)
    grid = f'<path class="grid" d="M{place:.1f} {_TOP:g}V{HEIGHT - _BOTTOM:g}"/>'
    return grid + _word("tick", place, HEIGHT - _BOTTOM + 18, text)


def _y_tick(y: Axis, value: float, text: Text) -> str:
    place = HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * y.share(value)
    grid = f'<path class="grid" d="M{_LEFT:g} {place:.1f}H{WIDTH - _RIGHT:g}"/>'
    return grid + _word("tick end", _LEFT - 8, place + 4, text)


def _mark(x: Axis, line_number: int, value: float, text: Text) -> str:
    place = _LEFT + (WIDTH - _LEFT - _RIGHT) * x.share(value)
    line = f'<path class="mark" d="M{place:.1f} {_TOP:g}V{HEIGHT - _BOTTOM:g}"/>'
    return line + _word("tick start", place + 6, _TOP + 12 + 15 * line_number, text)


def _word(style: str, x: float, y: float, text: Text) -> str:
    return tag("text", text, class_=style, x=f"{x:.1f}", y=f"{y:.1f}")
