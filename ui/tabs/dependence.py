"""What moves the score: how much of it each input does, and the mean score at its values."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from server.explain.importance import ROWS, reference_rows
from server.model.predictor import Predictor
from server.model.schema import Matrix
from ui.cases.grids import Grids
from ui.words.labels import Labels
from ui.words.text import NBSP, Text, attribute, tag
from ui.words.wording import Wording, percent, value_words

#: Of a wide model so many are drawn; of a long grid so many values.
LISTED, _VALUES = 24, 21

_LEAD = Text(
    "Percentages: how much of what moves the score is this input's, by shuffling it among {count} rows.",
    f"Pourcentages{NBSP}: part de la donnée dans ce qui fait bouger le score, en la mélangeant parmi "
    "{count} lignes.",
)
_CURVES = Text(
    "Lines and bars: the mean {name} of the same rows if all had this value, from {low} to {high}.",
    f"Courbes et barres{NBSP}: {{name}} moyenne des mêmes lignes si toutes avaient cette valeur, de {{low}} "
    "à {high}.",
)
_FIGURE = Text("prediction", "prédiction")
_SAID = Text(
    "{label}: mean {name} {first} at {start}, {last} at {end}",
    f"{{label}}{NBSP}: {{name}} moyenne {{first}} pour {{start}}, {{last}} pour {{end}}",
)
_HIGHEST = Text("highest: {value}, {mean}", f"le plus haut{NBSP}: {{value}}, {{mean}}")
_AT = Text("{value}: {mean}", f"{{value}}{NBSP}: {{mean}}")


class _Curve(NamedTuple):
    """Values of an input as the model sees them, each with the mean output of the rows that have it."""

    values: list[float]
    means: list[float]


def dependence_html(predictor: Predictor, shares: Mapping[str, float], grids: Grids) -> str:
    """The inputs that move the score most, `shares` by name in this order; of several classes no curves."""
    bundle = predictor.bundle
    labels, rows = Labels.of(bundle), reference_rows(bundle)[:ROWS]
    names = list(islice(shares, LISTED))
    lead = tag("p", _LEAD.put(count=str(len(rows))))
    plots: dict[str, str] = {}
    if bundle.task != "multiclass":
        curves = _curves(predictor, rows, names, grids)
        told = percent if bundle.task == "binary" else value_words
        name = Wording.of(bundle).probability if bundle.task == "binary" else _FIGURE
        low = min(min(curve.means) for curve in curves.values())
        high = max(max(curve.means) for curve in curves.values())
        lead += tag("p", _CURVES.put(name=name, low=told(low), high=told(high)))
        for feature in map(bundle.schema.__getitem__, names):
            curve = curves[feature.name]
            heights = [100 * (mean - low) / ((high - low) or 1.0) for mean in curve.means]
            words = [
                (labels.value(feature, feature.decode(value)), told(mean))
                for value, mean in zip(*curve, strict=True)
            ]
            (start, first), (end, last) = words[0], words[-1]
            said = _SAID.put(
                label=labels.label(feature), name=name, first=first, start=start, last=last, end=end
            )
            draw = _bars if feature.form_kind in ("category", "flag") else _line
            plots[feature.name] = draw(heights, words, attribute("aria-label", said))
    drawn = "".join(
        f"<li>{tag('span', labels.label(bundle.schema[name]).sentence())}"
        f"{tag('small', percent(shares[name]))}{plots.get(name, '')}</li>"
        for name in names
    )
    return f'{lead}<ul class="reference dependence">{drawn}</ul>'


def _curves(predictor: Predictor, rows: Matrix, names: Sequence[str], grids: Grids) -> dict[str, _Curve]:
    """By partial dependence (Friedman, Greedy function approximation, 2001), all rows in one call."""
    places = predictor.bundle.schema.names
    values = {name: _few(grids.values[name]) for name in names}
    blocks = []
    for name, tried in values.items():
        block = np.tile(rows, (len(tried), 1))
        block[:, places.index(name)] = np.repeat(tried, len(rows))
        blocks.append(block)
    outputs = predictor.output_array(predictor.margins(np.concatenate(blocks)))
    means = iter(outputs.reshape(-1, len(rows)).mean(axis=1).tolist())
    return {name: _Curve(tried, list(islice(means, len(tried)))) for name, tried in values.items()}


def _few(grid: Sequence[float]) -> list[float]:
    """A long grid with fewer values, its ends among them."""
    if len(grid) <= _VALUES:
        return list(grid)
    return [grid[round(i)] for i in np.linspace(0, len(grid) - 1, _VALUES)]


def _line(heights: Sequence[float], words: Sequence[tuple[Text, Text]], label: str) -> str:
    step = 100 / max(1, len(heights) - 1)
    points = " ".join(f"{step * i:.1f},{100 - height:.1f}" for i, height in enumerate(heights))
    ends = "".join(tag("span", value) for value, _ in (words[0], words[-1]))
    return (
        f'<svg class="means" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" {label}>'
        f'<polyline points="{points}"/></svg><span class="ends">{ends}</span>'
    )


def _bars(heights: Sequence[float], words: Sequence[tuple[Text, Text]], label: str) -> str:
    bars = "".join(
        f'<i style="flex:1;height:{height:.0f}%" {attribute("title", _AT.put(value=value, mean=mean))}></i>'
        for height, (value, mean) in zip(heights, words, strict=True)
    )
    value, mean = words[heights.index(max(heights))]
    highest = tag("small", _HIGHEST.put(value=value, mean=mean))
    return f'<span class="small-bars" role="img" {label}>{bars}</span>{highest}'
