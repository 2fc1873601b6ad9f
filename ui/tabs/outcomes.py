"""How good the model was by outcomes in Operations, beside what its training promised."""

from server.metrics.measured import Measured, MeasuredFigure, Verdict
from ui.words.text import NBSP, Text, table, tag
from ui.words.values import format_number

HEADING = Text("Performance by outcomes", "Performance selon les issues")
_COMMAND = Text.same("python -m monitoring performance LOG --keep")
_NOT_MEASURED = Text(
    "Not measured yet. What became of the decisions tells the command {command}, by hand or by a timer.",
    "Pas encore mesurée. Ce que les décisions sont devenues, la commande {command} le dit, à la main ou par "
    "un minuteur.",
)
_OF_WHOM = Text(
    "{model}: of {decisions} {decisions:decision|decisions}, {joined} {joined:has|have} an outcome, and the "
    "figures speak of no others. Measured {at} UTC.",
    f"{{model}}{NBSP}: sur {{decisions}} {{decisions:décision|décisions}}, {{joined}} "
    f"{{joined:a une issue connue|ont une issue connue}}{NBSP}; les chiffres ne disent rien des autres. "
    "Mesuré le {at} UTC.",
)
_VERDICTS: dict[Verdict, Text] = {
    "worse": Text(
        "Worse than the model promised, beyond chance: the command says why, by period and by segment.",
        f"Moins bon que ce que le modèle promettait, au-delà du hasard{NBSP}: la commande dit pourquoi, par "
        "période et par segment.",
    ),
    "as promised": Text("As good as the model promised.", "Aussi bon que ce que le modèle promettait."),
    "too few": Text(
        "Too few outcomes to judge the model by.", "Trop peu d'issues connues pour juger le modèle."
    ),
    "no outcomes": Text(
        "No outcome of a decision is known yet: nothing is judged.",
        f"Aucune issue d'une décision n'est encore connue{NBSP}: rien n'est jugé.",
    ),
}
_NAMES = {
    "auc": Text.same("AUC"),
    "rate": Text("rate of the outcome", "taux de l'issue"),
    "brier": Text("Brier score", "score de Brier"),
    "cost": Text("cost of a decision", "coût d'une décision"),
    "mae": Text("mean absolute error", "erreur absolue moyenne"),
    "rmse": Text("root mean squared error", "erreur quadratique moyenne (racine)"),
    "bias": Text("prediction less outcome", "prédiction moins issue"),
    "r2": Text("R²", "R²"),
    "accuracy": Text("accuracy", "exactitude"),
    "log_loss": Text("log loss", "perte logarithmique"),
    "macro_auc": Text("AUC, mean of the classes", "AUC, moyenne des classes"),
}
_EXPECTED = "expected_"
_HEADS = (
    Text("figure", "chiffre"),
    Text("by outcomes", "selon les issues"),
    Text("training promised", "promesse de l'entraînement"),
)
_BY_SCORES = Text("the scores promise", "promesse des scores")
_BETWEEN = Text(f"{{value}} ({{low}}{NBSP}to{NBSP}{{high}})", f"{{value}} ({{low}}{NBSP}à{NBSP}{{high}})")
_NONE = Text.same("\N{EN DASH}")


def outcomes_html(measured: Measured | None) -> str:
    """The content of the card."""
    if measured is None:
        return tag("p", _NOT_MEASURED.put(command=_COMMAND))
    promises = {
        name.removeprefix(_EXPECTED): figure
        for name, figure in measured.figures.items()
        if name.startswith(_EXPECTED)
    }
    columns = [measured.figures, measured.promised, *([promises] if promises else [])]
    rows = "".join(
        f"<tr>{tag('th', words, scope='row')}{''.join(tag('td', _words(c.get(name))) for c in columns)}</tr>"
        for name, words in _NAMES.items()
        if name in measured.figures or name in promises
    )
    heads = (*_HEADS, _BY_SCORES) if promises else _HEADS
    said = _OF_WHOM.put(
        model=Text.same(measured.model),
        decisions=Text.figures(format_number(measured.decisions)),
        joined=Text.figures(format_number(measured.joined)),
        at=measured.at.strftime("%Y-%m-%d %H:%M"),
    )
    verdict = tag("p", _VERDICTS[measured.verdict])
    return verdict + (table(HEADING, heads, rows) if rows else "") + tag("p", said, class_="note")


def _words(figure: MeasuredFigure | None) -> Text:
    if figure is None:
        return _NONE
    value = _figure(figure.value)
    if figure.low is None or figure.high is None:
        return value
    return _BETWEEN.put(value=value, low=_figure(figure.low), high=_figure(figure.high))


def _figure(value: float) -> Text:
    return Text.figures(f"{value:.3f}" if abs(value) < 10 else f"{value:,.5g}")
