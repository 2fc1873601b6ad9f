"""Champion and challenger in Operations: rows that each answered, and how often they agree."""

from ui.tabs.looks import MetricsSample
from ui.words.text import NBSP, Text, tag
from ui.words.wording import percent

HEADING = Text("Champion and challenger", "Champion et challenger")
_ANSWERED = Text("rows answered", "lignes répondues")
_AGREE = Text("agree", "d'accord")
_FLIPS = Text(
    "{challenger} scored {rows} {rows:row|rows} beside. Decided otherwise: {flipped}. Not scored: {lost}.",
    f"{{challenger}} a noté {{rows}} {{rows:ligne|lignes}} à côté. Décidées autrement{NBSP}: {{flipped}}. "
    f"Non notées{NBSP}: {{lost}}.",
)
_BESIDE = Text(
    "{challenger} has scored no row beside yet.", f"{{challenger}} n'a encore noté aucune ligne{NBSP}à côté."
)
_BETTER = Text(
    "Which is better outcomes tell: python -m monitoring challenge.",
    f"Les issues disent lequel est meilleur{NBSP}: python -m monitoring challenge.",
)


def arms_html(look: MetricsSample) -> str:
    """The content of the card, empty where one version answers alone and nothing scores beside it."""
    if len(look.arms) < 2 and not look.challengers:
        return ""
    entries = "".join(_arm(look, label) for label in sorted({*look.arms, *look.challengers}))
    notes = [_beside(challenger, results) for challenger, results in sorted(look.challengers.items())]
    said = "".join(tag("p", note, class_="note") for note in [*notes, _BETTER])
    return f'<ul class="workers">{entries}</ul>{said}'


def _arm(look: MetricsSample, label: str) -> str:
    scored, flipped = _scored(look.challengers.get(label, {}))
    agree = f"{tag('strong', percent(1 - flipped / scored))}{tag('small', _AGREE)}" if scored else ""
    answered = Text.figures(f"{look.arms.get(label, 0.0):,.0f}")
    return (
        f"<li>{tag('span', Text.same(label))}{tag('strong', answered)}{tag('small', _ANSWERED)}{agree}</li>"
    )


def _beside(challenger: str, results: dict[str, float]) -> Text:
    scored, flipped = _scored(results)
    if not scored:
        return _BESIDE.put(challenger=Text.same(challenger))
    lost = results.get("rejected", 0.0) + results.get("shed", 0.0)
    rows, otherwise, unscored = (Text.figures(f"{count:,.0f}") for count in (scored, flipped, lost))
    return _FLIPS.put(challenger=Text.same(challenger), rows=rows, flipped=otherwise, lost=unscored)


def _scored(results: dict[str, float]) -> tuple[float, float]:
    """The rows scored beside, and those of them decided otherwise."""
    flipped = results.get("flipped", 0.0)
    return results.get("same", 0.0) + flipped, flipped
