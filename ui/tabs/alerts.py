"""Which of the shipped alert rules hold now, by what figure, and for how long: pending, then firing."""

from collections.abc import Mapping
from typing import NamedTuple

from ui.tabs.alert_rules import DASH, RULES, Judged, Rule, Seen
from ui.words.text import EMPTY, NBSP, Text, joined, tag

#: Between two looks further apart nobody knows whether a rule held: its time begins anew.
_UNSEEN_SECONDS = 60.0

HEADING = Text("Alerts", "Alertes")
_NONE = Text("None of the rules holds now.", "Aucune règle n'est vérifiée en ce moment.")
_NOTE = Text(
    "The rules of monitoring/prometheus/alerts.yml, judged by this server's own figures of 24 hours at most: "
    "pending once one holds, firing once it has held for its time, of drift and memory as far as somebody "
    "has looked at this tab. Prometheus alone wakes somebody, and tells of restarts, of memory that grows, "
    "of outcomes, and of a server that is gone.",
    "Les règles de monitoring/prometheus/alerts.yml, jugées d'après les chiffres de ce serveur, 24 heures au "
    "plus : en attente dès que l'une est vérifiée, active quand elle l'est depuis son délai, pour la dérive "
    "et la mémoire tant que quelqu'un regarde cet onglet. Seul Prometheus réveille quelqu'un et voit les "
    "redémarrages, une mémoire qui croît, les issues et un serveur disparu.",
)
_PSI = Text(
    "PSI says how far the values of an input have moved from training: 0 is not at all, 0.25 far. Above its "
    "limit it is drift; the limit is lower where one share is judged, of the missing or of a rare value.",
    f"Le PSI dit de combien les valeurs d'une donnée se sont éloignées de l'entraînement{NBSP}: 0, pas du "
    "tout ; 0,25, loin. Au-dessus de sa limite, c'est une dérive ; la limite est plus basse quand une seule "
    "part est jugée, celle des valeurs manquantes ou rares.",
)
_NO_HISTORY = Text("without a log not known", "inconnu sans journal")
_NOTHING_YET = Text("nothing to judge yet", "rien à juger encore")
_LIMIT = Text("{figure}, limit {limit}", f"{{figure}}, limite{NBSP}: {{limit}}")
_PAGE, _TICKET = Text("wakes somebody", "réveille quelqu'un"), Text("ticket", "ticket")
_FIRING = Text("firing", "active")
_PENDING = Text(
    "pending, {held} of {wait} {wait:minute|minutes}", "en attente, {held} {held:minute|minutes} sur {wait}"
)


class State(NamedTuple):
    """What is known of a rule now: None of one without a history, and for how many minutes it has held."""

    rule: Rule
    found: Judged | None
    held: float = 0.0

    @property
    def is_firing(self) -> bool:
        """Whether it holds, and has held for its time."""
        return self.holds and self.held >= self.rule.wait

    @property
    def holds(self) -> bool:
        """Whether it holds now."""
        return self.found is not None and self.found.holds


class Alerts:
    """Judges every rule at each look; `features` are the words of the model's inputs by name."""

    def __init__(self, features: Mapping[str, Text]) -> None:
        self._features = features
        self._since: dict[str, float] = {}
        self._looked = float("-inf")

    def html(self, seen: Seen) -> str:
        """The content of the card: what fires, what is pending, then the others, each with its figure."""
        states = sorted(self.states(seen), key=lambda state: (not state.is_firing, not state.holds))
        said = "" if states[0].holds else tag("p", _NONE)
        entries = "".join(map(self._entry, states))
        notes = "".join(tag("p", note, class_="note") for note in (_PSI, _NOTE))
        return f'{said}<ul class="alerts">{entries}</ul>{notes}'

    def states(self, seen: Seen) -> list[State]:
        """What each rule says of what is seen now."""
        if seen.look.at - self._looked > _UNSEEN_SECONDS:
            self._since.clear()
        self._looked = seen.look.at
        return [self._state(rule, seen) for rule in RULES]

    def _state(self, rule: Rule, seen: Seen) -> State:
        if rule.of_history and seen.minutes is None:
            return State(rule, None)
        found = rule.judge(seen)
        if not found.holds:
            self._since.pop(rule.alert, None)
            return State(rule, found)
        since = self._since.setdefault(rule.alert, seen.look.at)
        looked = (seen.look.at - since) / 60
        held = _held(rule, seen) if rule.of_history else max(found.held, looked)
        return State(rule, found, held)

    def _entry(self, state: State) -> str:
        rule, found = state.rule, state.found or Judged(holds=False)
        name = joined([rule.name, self._features.get(found.of, EMPTY)], ": ")
        figure = _LIMIT.put(figure=found.figure, limit=found.limit)
        if found.figure is DASH:
            figure = _NO_HISTORY if state.found is None else _NOTHING_YET
        kind = ' class="firing"' if state.is_firing else ' class="pending"' if state.holds else ""
        more = tag("small", _more(state)) if state.holds else ""
        return f"<li{kind}>{tag('span', name)}{tag('span', figure, class_='figure')}{more}</li>"


def _held(rule: Rule, seen: Seen) -> int:
    """For how many minutes a rule has held, no more than it has to, as the history tells."""
    for ago in range(1, rule.wait + 1):
        if not rule.judge(seen._replace(now=seen.now - ago)).holds:
            return ago - 1
    return rule.wait


def _more(state: State) -> Text:
    rule = state.rule
    pending = _PENDING.put(held=str(int(state.held)), wait=str(rule.wait))
    known = _FIRING if state.is_firing else pending
    return joined(
        [known.sentence(), rule.action, Text.same(rule.alert), _PAGE if rule.wakes else _TICKET], " · "
    )
