"""How scores from 0 to 1 are spread: bars in the colours of the bands, the limits, and a key."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from ui.words.bands import ScoreBand, key_html
from ui.words.text import NBSP, Text, attribute, tag

_ENDS = '<div class="ends">' + "".join(f"<span>{p}{NBSP}%</span>" for p in (0, 25, 50, 75, 100)) + "</div>"
_BY_SCORE = Text(
    "As the score alone decides: a case that the policy refers or refuses stands at its score.",
    f"Selon le score seul{NBSP}: un dossier que la politique renvoie ou refuse figure à son score.",
)


class Look(NamedTuple):
    """A bar: the classes of the band its middle lies in, and its ground where limits cut it, else ""."""

    style: str
    ground: str


def looks(bands: Sequence[ScoreBand], edges: Sequence[float]) -> list[Look]:
    """How the bar between each two edges is drawn."""
    return [_look(bands, low, high) for low, high in pairwise(edges)]


def histogram(bands: Sequence[ScoreBand], bars: str, summary: Text, *, has_policy: bool) -> str:
    """The bars in a frame with a line at each limit; `summary` tells them to those who do not see them.

    Without bars the frame is for a script to fill. With a policy a sentence says that they are by score.
    """
    limits = "".join(f'<b style="--limit:{100 * band.low:.2f}%"></b>' for band in bands[1:])
    said = f' role="img" {attribute("aria-label", summary)}' if bars else ""
    return (
        f'<div class="histogram"><div class="bars"{said}>{bars}</div>{limits}</div>{_ENDS}{key_html(bands)}'
        f"{tag('p', _BY_SCORE, class_='note') if has_policy else ''}"
    )


def bars_html(
    counts: Sequence[float], bands: Sequence[ScoreBand], edges: Sequence[float], titles: Sequence[Text]
) -> str:
    """A bar for each count, between each two edges."""
    most = max([*counts, 1.0])
    return "".join(
        f'<i class="{look.style}" style="height:{100 * count / most:.1f}%{_property(look.ground)}" '
        f"{attribute('title', title)}></i>"
        for count, look, title in zip(counts, looks(bands, edges), titles, strict=True)
    )


def _look(bands: Sequence[ScoreBand], low: float, high: float) -> Look:
    within = [band for band in bands if band.low < high and band.high > low] or list(bands[-1:])
    middle = (low + high) / 2
    style = next((band.style for band in within if band.high > middle), within[-1].style)
    if len(within) == 1:
        return Look(style, "")
    stops = (
        f"var(--{band.style.split()[-1]}) {_cut(band.low, low, high)} {_cut(band.high, low, high)}"
        for band in within
    )
    return Look(style, f"linear-gradient(90deg, {', '.join(stops)})")


def _cut(limit: float, low: float, high: float) -> str:
    return f"{100 * min(1.0, max(0.0, (limit - low) / (high - low))):.1f}%"


def _property(ground: str) -> str:
    return f";--ground:{ground}" if ground else ""
