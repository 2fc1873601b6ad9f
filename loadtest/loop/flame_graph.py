"""Flame graphs of stacks, of a run or of what changed between two: SVG that needs no script and no network.

After B. Gregg, The Flame Graph (Communications of the ACM 59, 2016), upside down: a
frame's width is its share of the samples, what it calls lies below it. py-spy draws
one too, but of threads that wait as well: without C frames it cannot tell them from
those that work (benfred/py-spy#105).
"""

from collections.abc import Callable, Iterator, Mapping
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
_GREW, _AS_BEFORE, _SHRANK = (198, 40, 40), 244, (31, 95, 168)

Node = Mapping[str, Any]


class _Frame(NamedTuple):
    """A rectangle: its left edge, its depth from the top and its width, and the node it stands for."""

    x: float
    depth: int
    width: float
    node: Node


def write_flame_graph(stacks: Mapping[str, int], file: Path) -> None:
    """Write the flame graph of folded stacks, Python's functions alone, from the event loop on."""
    root = tree(python_frames(from_event_loop(stacks)), {})
    note = f"{root['value']:,.0f} samples of work; waiting is left out. "
    file.write_text(
        _draw(
            root,
            note + "Point at a frame for its full name and share.",
            lambda node: f"{node['name']}: {node['value'] / root['value']:.1%}",
            lambda node: _WARM[crc32(node["name"].encode()) % len(_WARM)],
        )
    )


def differential(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[str, str]:
    """Us of a request by stack as two flame graphs: in the widths of `after`, and in those of `before`.

    The colour is the change of a frame and all that it calls.
    """
    deltas = {s: after.get(s, 0.0) - before.get(s, 0.0) for s in before.keys() | after.keys()}
    roots = [tree(stacks, deltas) for stacks in (after, before)]
    largest = max((abs(f.node["delta"]) for root in roots for f in _frames_of(root)), default=0.0) or 1.0

    def colour(node: Node) -> str:
        # The root of the change is to be seen at once, small changes still apart from none.
        part = (abs(node["delta"]) / largest) ** 0.5
        to = _GREW if node["delta"] > 0 else _SHRANK
        return f"rgb({', '.join(f'{_AS_BEFORE + (c - _AS_BEFORE) * part:.0f}' for c in to)})"

    def words(node: Node) -> str:
        return f"{node['name']}: {node['value']:.2f} us of a request, {node['delta']:+.2f} us"

    note = "Point at a frame for its microseconds and their change."
    in_after, in_before = (_draw(root, note, words, colour) for root in roots)
    return in_after, in_before


def _draw(root: Node, note: str, words: Callable[[Node], str], colour: Callable[[Node], str]) -> str:
    """The SVG of a tree; a name that does not fit loses its end, never its beginning."""
    frames = list(_frames_of(root))
    height = TOP + ROW_HEIGHT * (1 + max((frame.depth for frame in frames), default=0)) + 6
    shapes = "\n".join(_shape(frame, words(frame.node), colour(frame.node)) for frame in frames)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="10.5">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n'
        '<text x="6" y="18" font-size="14">Samples by Python function</text>\n'
        f'<text x="6" y="36" fill="#57606a">{note}</text>\n{shapes}\n</svg>\n'
    )


def _frames_of(root: Node) -> Iterator[_Frame]:
    return _frames(root, 0.0, 0, WIDTH / root["value"] if root["value"] else 0.0)


def _frames(node: Node, x: float, depth: int, scale: float) -> Iterator[_Frame]:
    """A node and all below it, widest first among neighbours."""
    width = node["value"] * scale
    if width < _MIN_WIDTH:
        return
    yield _Frame(x, depth, width, node)
    for child in sorted(node["children"], key=lambda child: (-child["value"], child["name"])):
        yield from _frames(child, x, depth + 1, scale)
        x += child["value"] * scale


def _shape(frame: _Frame, title: str, colour: str) -> str:
    y, name = TOP + frame.depth * ROW_HEIGHT, frame.node["name"]
    room = int((frame.width - 6) / _GLYPH)
    text = name if len(name) <= room else f"{name[: room - 1]}…" if room > 3 else ""
    return (
        f'<g><title>{escape(title)}</title><rect x="{frame.x:.1f}" y="{y}" '
        f'width="{frame.width:.1f}" height="{ROW_HEIGHT - 1}" rx="1" fill="{colour}" stroke="#fff" '
        f'stroke-width=".5"/><text x="{frame.x + 3:.1f}" y="{y + 12.5}">{escape(text)}</text></g>'
    )
