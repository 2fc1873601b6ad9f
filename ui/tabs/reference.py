"""What drift is measured against: how training was spread, and, beside it, the rows of the last 24 hours."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from server.model.bundle import Bundle
from server.model.distribution import Distribution
from server.model.reference import read_reference
from server.model.schema import Feature
from ui.words.labels import Labels
from ui.words.text import NBSP, Text, attribute, joined, tag
from ui.words.values import format_number
from ui.words.wording import percent

#: Of a wide model the inputs that move the score most are drawn.
LISTED = 60

_LEAD = Text(
    "How the {count} training rows were spread: shares of the rows in each bin.",
    "Répartition des {count} lignes d'entraînement : part des lignes dans chaque classe.",
)
_LEAD_NOW = Text(
    "Bars: how the {count} training rows were spread. Lines: the {now} {now:row|rows} of the last 24 hours.",
    f"Barres{NBSP}: répartition des {{count}} lignes d'entraînement. Traits{NBSP}: {{now}} "
    "{now:ligne|lignes} des dernières 24 heures.",
)
_NONE = Text(
    "This bundle holds no reference: no drift is measured.",
    "Ce modèle n'a pas de référence : aucune dérive n'est mesurée.",
)
_SCORE = Text("score", "score")
_MISSING = Text("unknown {share}", "inconnu {share}")
_MISSING_NOW = Text("unknown {share}, now {now}", "inconnu {share}, maintenant {now}")
_BINS = Text(
    "{name}: shares of {bins} {bins:bin|bins}", f"{{name}}{NBSP}: parts de {{bins}} {{bins:classe|classes}}"
)
_MOVED = Text(
    "most moved: {then} in training, {now} now",
    "plus grand écart : {then} à l'entraînement, {now} maintenant",
)


class ReferencePlots:
    """Draws them for one bundle; `order` names the features, the most important first."""

    def __init__(self, bundle: Bundle, order: Sequence[str]) -> None:
        self._schema, self._labels = bundle.schema, Labels.of(bundle)
        self._reference = read_reference(bundle)
        known = self._reference.features if self._reference is not None else {}
        self._names = [name for name in order if name in known][:LISTED]

    def html(self, held: Mapping[str, Sequence[int]]) -> str:
        """The plots; `held` are counts of inputs by bin and, last, of missing ones, where any are known."""
        if self._reference is None:
            return tag("p", _NONE)
        score = self._reference.score
        told = {name: counts for name, counts in held.items() if self._fits(name, counts)}
        now = max((sum(counts) for counts in told.values()), default=0)
        lead = (_LEAD_NOW if now else _LEAD).put(count=_figure(score.n), now=_figure(now))
        drawn = _plot(_SCORE, score, (), is_number=bool(score.edges))
        for name in self._names:
            feature, found = self._schema[name], self._reference.features[name]
            counts, label = told.get(name, ()), self._labels.label(feature)
            drawn += _plot(label, found, counts, is_number=_is_number(feature, found))
        return f'{tag("p", lead)}<ul class="reference">{drawn}</ul>'

    def _fits(self, name: str, counts: Sequence[int]) -> bool:
        found = self._reference.features.get(name) if self._reference is not None else None
        return found is not None and len(counts) == len(found.shares) + 1 and sum(counts) > 0


def _is_number(feature: Feature, found: Distribution) -> bool:
    return feature.form_kind in ("number", "integer") and bool(found.edges)


def _plot(name: Text, found: Distribution, now: Sequence[int], *, is_number: bool) -> str:
    """A histogram: of a number a bar is as wide as its bin, and as high as rows are dense in it."""
    widths = _widths(found) if is_number else [1.0] * len(found.shares)
    present = sum(now[:-1])
    shares = [count / present for count in now[:-1]] if present else []
    most = max([*_heights(found.shares, widths), *_heights(shares, widths), 1e-300])
    bars = _bars(found.shares, widths, most)
    lines = f'<span class="now">{_bars(shares, widths, most)}</span>' if shares else ""
    said = _BINS.put(name=name, bins=str(len(found.shares)))
    if shares:
        then, moved = max(zip(found.shares, shares, strict=True), key=lambda pair: abs(pair[1] - pair[0]))
        said = joined([said, _MOVED.put(then=percent(then), now=percent(moved))], ", ")
    axis = _ends(found) if is_number else ""
    return (
        f"<li>{tag('span', name.sentence())}"
        f'<span class="small-bars" role="img" {attribute("aria-label", said)}>{bars}{lines}</span>{axis}'
        f"{tag('small', _missing(found, now))}</li>"
    )


def _missing(found: Distribution, now: Sequence[int]) -> Text:
    if now and (found.missing_rate or now[-1]):
        return _MISSING_NOW.put(share=percent(found.missing_rate), now=percent(now[-1] / sum(now)))
    return _MISSING.put(share=percent(found.missing_rate)) if found.missing_rate else Text("", "")


def _heights(shares: Sequence[float], widths: Sequence[float]) -> list[float]:
    return [share / width for share, width in zip(shares, widths, strict=True)] if shares else []


def _bars(shares: Sequence[float], widths: Sequence[float], most: float) -> str:
    heights = _heights(shares, widths)
    return "".join(
        f'<i style="flex:{width / max(widths):.4f};height:{100 * height / most:.0f}%"></i>'
        for width, height in zip(widths, heights, strict=True)
    )


def _ends(found: Distribution) -> str:
    """The outermost edges, of which a column of one value has none."""
    ends = [Text.figures(format_number(float(f"{edge:.3g}"))) for edge in (found.edges[0], found.edges[-1])]
    return f'<span class="ends">{"".join(tag("span", end) for end in ends)}</span>'


def _widths(found: Distribution) -> list[float]:
    """Of each bin; the outer ones are open, and drawn as wide as their neighbours."""
    inner = [b - a for a, b in pairwise(found.edges)] or [1.0]
    return [inner[0], *inner, inner[-1]] if len(found.edges) > 1 else [1.0] * len(found.shares)


def _figure(count: int) -> Text:
    return Text.figures(f"{count:,}")
