"""The bands of a score as they are drawn: what is decided in each, its limits and its look.

The one home of what the gauge, the histograms and their keys show of a bundle's limits.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from server.model.bundle import Bundle
from ui.words.text import EMPTY, NBSP, Text, tag
from ui.words.wording import Wording, decided, percents

_UNDER = Text("{decision}: under {high}", f"{{decision}}{NBSP}: moins de {{high}}")
_BETWEEN = Text("{decision}: {low} to {high}", f"{{decision}}{NBSP}: de {{low}} à {{high}}")
_FROM = Text("{decision}: from {low}", f"{{decision}}{NBSP}: à partir de {{low}}")


class ScoreBand(NamedTuple):
    """What the score alone decides from a probability `low` to below `high`.

    `words` are the decision's, `style` the band's classes in the style sheet.
    """

    decision: str
    words: Text
    low: float
    high: float
    style: str


def bands_of(bundle: Bundle) -> list[ScoreBand]:
    """The bands of a bundle's score, rising; none of a task without decisions."""
    if not (limits := bundle.limits):
        return []
    words = decided(bundle, Wording.of(bundle))
    ranges = pairwise([0.0, *limits, 1.0])
    return [
        ScoreBand(name, words[name], low, high, _style(i, len(limits)))
        for i, (name, (low, high)) in enumerate(zip(bundle.outcomes, ranges, strict=False))
    ]


def band_at(bands: Sequence[ScoreBand], probability: float) -> ScoreBand:
    """The band that a probability lies in: from its lower limit on, as `Judge` has it."""
    return bands[bisect_right([band.low for band in bands[1:]], probability)]


def limits_in_words(bands: Sequence[ScoreBand]) -> list[Text]:
    """The limits in percent, with as many decimals as it takes to tell them apart."""
    limits = [band.low for band in bands[1:]]
    return list(percents(*limits)) if limits else []


def key_html(bands: Sequence[ScoreBand]) -> str:
    """What each colour of a drawing stands for, and from where to where it goes."""
    limits = limits_in_words(bands)
    words = [_UNDER, *[_BETWEEN] * (len(bands) - 2), _FROM]
    said = [
        form.put(decision=band.words, low=low, high=high)
        for band, form, low, high in zip(bands, words, [EMPTY, *limits], [*limits, EMPTY], strict=True)
    ]
    entries = (
        f'<li class="{band.style}"><i></i>{tag("span", one)}</li>'
        for band, one in zip(bands, said, strict=True)
    )
    return f'<ul class="bands">{"".join(entries)}</ul>'


def _style(i: int, last: int) -> str:
    """Neighbours never look alike, of however many bands."""
    if i in (0, last):
        return "otherwise" if i else "below"
    return "between" if i % 2 else "between second"
