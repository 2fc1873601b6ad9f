"""The plots of a model's evaluation: ROC, calibration, cost by threshold, and by group."""

from collections.abc import Mapping, Sequence
from typing import Any

from ui.drawing.plots import Axis, Line, percent_ticks, plot
from ui.words.bands import ScoreBand, limits_in_words
from ui.words.text import NBSP, Text, table, tag
from ui.words.wording import Wording, percent

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_ROC = Text("ROC curve", "Courbe ROC")
_ROC_SAID = Text("ROC curve with an area of {auc}", "Courbe ROC, aire {auc}")
_ROC_NOTE = Text(
    "Area {auc} (95 % interval {low} to {high}); the straight line is chance.",
    "Aire {auc} (intervalle à 95 % : {low} à {high}) ; la droite est le hasard.",
)
_FALSE = Text("{otherwise}, of those without the outcome", "{otherwise}, parmi les cas sans l'événement")
_TRUE = Text("{otherwise}, of those with it", "{otherwise}, parmi les cas avec l'événement")
_CALIBRATION = Text("Calibration", "Calibration")
_CALIBRATION_SAID = Text(
    "Predicted {p} against what happened, in ten parts: from {low} to {high} predicted",
    f"{{p}}, prédiction et observation en dix parts{NBSP}: de {{low}} à {{high}} prévus",
)
_CALIBRATION_NOTE = Text(
    "Each point is a tenth of the cases; on the line, what was predicted is what happened.",
    "Chaque point est un dixième des cas ; sur la droite, le prédit est l'observé.",
)
_PREDICTED, _HAPPENED = Text("predicted", "prédit"), Text("happened", "observé")
_COST = Text("Cost by limit", "Coût selon la limite")
_COST_SAID = Text(
    "Cost a case by limit: lowest {low}, {cost} at the limit of {limit}",
    "Coût par cas selon la limite : au plus bas {low}, {cost} à la limite de {limit}",
)
_COST_NOTE = Text(
    "{below} for all costs {all}, {otherwise} for all {none}, this model {model}.",
    f"Coût d'une même réponse pour tous{NBSP}: {{all}} ({{below}}), {{none}} ({{otherwise}}). Ce modèle"
    f"{NBSP}: {{model}}.",
)
_LIMIT_AXIS, _COST_AXIS = Text("limit", "limite"), Text("cost a case", "coût par cas")
_LIMIT_MARK = Text("limit {limit}", "limite {limit}")
_GROUPS = Text("By group", "Par groupe")
_GROUP_HEADS = (
    Text("group", "groupe"),
    Text("cases", "cas"),
    Text("had the outcome", "avec l'événement"),
    Text("mean prediction", "prédiction moyenne"),
    Text("{otherwise}", "{otherwise}"),
    _FALSE,
)
_ROWS = Text("{count} held-out cases.", "{count} cas mis de côté.")


def evaluation_html(
    figures: Mapping[str, Any], bands: Sequence[ScoreBand], french: Mapping[str, str], words: Wording
) -> str:
    """What the held-out cases showed, as far as the bundle holds it; `french` names groups."""
    curves = figures.get("curves", {})
    plots = [
        *([_roc(figures, curves["roc"], words)] if curves.get("roc") else []),
        *([_calibration(figures["calibration"]["bins"])] if "calibration" in figures else []),
        *([_cost(figures, curves["cost"], bands, words)] if curves.get("cost") and bands else []),
    ]
    rows = tag("p", _ROWS.put(count=Text.figures(f"{figures['rows']:,}")), class_="note")
    groups = "".join(
        _group(name, entries, french, words) for name, entries in figures.get("groups", {}).items()
    )
    return f'{rows}<div class="plots">{"".join(plots)}</div>{groups}'


def _figure(heading: Text, drawn: str, note: Text) -> str:
    return f"<figure>{tag('h3', heading)}{drawn}{tag('figcaption', note)}</figure>"


def _roc(figures: Mapping[str, Any], points: list[dict[str, float]], words: Wording) -> str:
    shares = percent_ticks(_SHARES)
    curve = [(p["false_positive_rate"], p["true_positive_rate"]) for p in points]
    lines = [Line("chance", [(0, 0), (1, 1)]), Line("curve", curve)]
    auc, (low, high) = figures["auc"], figures["auc_interval"]
    shown = {
        name: Text.figures(f"{value:.3f}") for name, value in (("auc", auc), ("low", low), ("high", high))
    }
    x = Axis(0, 1, shares, _FALSE.put(otherwise=words.otherwise))
    y = Axis(0, 1, shares, _TRUE.put(otherwise=words.otherwise))
    drawn = plot(x, y, lines, _ROC_SAID.put(auc=shown["auc"]))
    return _figure(_ROC, drawn, _ROC_NOTE.put(**shown))


def _calibration(bins: list[dict[str, float]]) -> str:
    most = max(max(b["probability"], b["default_rate"]) for b in bins)
    top = _top(most)
    ticks = percent_ticks([round(top * i / 4, 4) for i in range(5)])
    points = [(b["probability"], b["default_rate"]) for b in bins]
    lines = [Line("chance", [(0, 0), (top, top)]), Line("curve", points, dots=True)]
    said = _CALIBRATION_SAID.put(
        p=Text("risk", "risque"), low=percent(points[0][0]), high=percent(points[-1][0])
    )
    drawn = plot(Axis(0, top, ticks, _PREDICTED), Axis(0, top, ticks, _HAPPENED), lines, said)
    return _figure(_CALIBRATION, drawn, _CALIBRATION_NOTE)


def _top(share: float) -> float:
    """The end of an axis of shares on which this one is seen."""
    return next(top for top in (0.04, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0) if top >= min(share, 1.0))


def _cost(
    figures: Mapping[str, Any], points: list[dict[str, float]], bands: Sequence[ScoreBand], words: Wording
) -> str:
    # Beyond a few times the limit almost nobody is refused and the curve is flat.
    right = _top(4 * bands[-1].low)
    shown = [(p["threshold"], p["cost"]) for p in points if p["threshold"] <= right]
    costs = [cost for _, cost in shown]
    low, high = min(costs) * 0.9, max(costs) * 1.02
    ticks = [
        (value, Text.figures(f"{value:.2f}")) for value in (low + (high - low) * i / 4 for i in range(5))
    ]
    cost = figures["cost"]
    limits = limits_in_words(bands)
    said = _COST_SAID.put(
        low=Text.figures(f"{min(costs):.3f}"), cost=Text.figures(f"{cost['model']:.3f}"), limit=limits[-1]
    )
    x = Axis(0, right, percent_ticks([round(right * i / 4, 4) for i in range(5)]), _LIMIT_AXIS)
    marks = [(band.low, _LIMIT_MARK.put(limit=limit)) for band, limit in zip(bands[1:], limits, strict=True)]
    drawn = plot(x, Axis(low, high, ticks, _COST_AXIS), [Line("curve", shown)], said, marks)
    names = {"all": "accept_all", "none": "refuse_all", "model": "model"}
    told = {k: Text.figures(f"{cost[v]:.3f}") for k, v in names.items()}
    return _figure(_COST, drawn, _COST_NOTE.put(below=words.below, otherwise=words.otherwise, **told))


def _group(
    name: str, entries: Mapping[str, Mapping[str, float]], french: Mapping[str, str], words: Wording
) -> str:
    heading = Text("{groups}: {name}", "{groups} : {name}").put(
        groups=_GROUPS, name=Text(name, french.get(name, name))
    )
    named = [head.put(otherwise=words.otherwise) for head in _GROUP_HEADS]
    rows = "".join(_group_row(Text(g, french.get(g, g)), entry) for g, entry in entries.items())
    return tag("h3", heading) + table(heading, named, rows)


def _group_row(name: Text, entry: Mapping[str, float]) -> str:
    shares = ("default_rate", "mean_probability", "refusal_rate", "false_positive_rate")
    cells = "".join(
        f'<td><span class="share">{tag("span", percent(entry[key]))}'
        f'<i style="width:{100 * entry[key]:.1f}%"></i></span></td>'
        for key in shares
    )
    count = Text.figures(f"{entry['rows']:,}")
    return f"<tr>{tag('th', name, scope='row')}{tag('td', count)}{cells}</tr>"
