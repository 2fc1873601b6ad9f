"""A flame graph of recorded stacks: one SVG that needs no script and no network.

After B. Gregg, The Flame Graph (Communications of the ACM 59, 2016), upside down: a
frame's width is its share of the samples, what it calls lies below it. py-spy draws
one too, but of threads that wait as well: without C frames it cannot tell them from
those that work (benfred/py-spy#105).
"""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from loadtest.loop.stacks import from_event_loop, python_frames, tree

WIDTH, ROW_HEIGHT, TOP = 1200, 18, 46
#: A glyph of the font below is about this wide, in pixels.
_GLYPH = 6.4
#: Narrower frames are not drawn: nobody can point at them.
_MIN_WIDTH = 0.4
_WARM = ("#f6c667", "#f2a65a", "#f0b775", "#eb9f72", "#f3d17c")


class _Frame(NamedTuple):
    """A rectangle: its left edge, its depth from the top, its width and the name on it."""

    x: float
    depth: int
    width: float
    name: str
    share: float


def write_flame_graph(stacks: Mapping[str, int], file: Path) -> None:
    """Write the flame graph of folded stacks, Python's functions alone, from the event loop on."""
    file.write_text(draw(python_frames(from_event_loop(stacks))))


def draw(stacks: Mapping[str, float]) -> str:
    """The SVG of folded stacks; a name that does not fit loses its end, never its beginning."""
    root = tree(stacks, {})
    frames = list(_frames(root, 0.0, 0, WIDTH / root["value"] if root["value"] else 0.0, root["value"]))
    height = TOP + ROW_HEIGHT * (1 + max((frame.depth for frame in frames), default=0)) + 6
    shapes = "\n".join(_shape(frame) for frame in frames)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="10.5">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n'
        '<text x="6" y="18" font-size="14">Samples by Python function</text>\n'
        f'<text x="6" y="36" fill="#57606a">{root["value"]:,.0f} samples of work; waiting is left out. '
        "Point at a frame for its full name and share.</text>\n"
        f"{shapes}\n</svg>\n"
    )


def _frames(node: Mapping[str, Any], x: float, depth: int, scale: float, total: float) -> Iterator[_Frame]:
    """A node and all below it, widest first among neighbours."""
    width = node["value"] * scale
    if width < _MIN_WIDTH:
        return
    yield _Frame(x, depth, width, node["name"], node["value"] / total)
    for child in sorted(node["children"], key=lambda child: (-child["value"], child["name"])):
        yield from _frames(child, x, depth + 1, scale, total)
        x += child["value"] * scale


def _shape(frame: _Frame) -> str:
    y = TOP + frame.depth * ROW_HEIGHT
    room = int((frame.width - 6) / _GLYPH)
    text = frame.name if len(frame.name) <= room else f"{frame.name[: room - 1]}…" if room > 3 else ""
    colour = _WARM[crc32(frame.name.encode()) % len(_WARM)]
    return (
        f'<g><title>{escape(frame.name)}: {frame.share:.1%}</title><rect x="{frame.x:.1f}" y="{y}" '
        f'width="{frame.width:.1f}" height="{ROW_HEIGHT - 1}" rx="1" fill="{colour}" stroke="#fff" '
        f'stroke-width=".5"/><text x="{frame.x + 3:.1f}" y="{y + 12.5}">{escape(text)}</text></g>'
    )
