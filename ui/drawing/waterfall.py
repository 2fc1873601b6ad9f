"""Contributions of a model as the steps of a waterfall, from where it starts to its answer.

A model of trees adds up terms in log-odds. A step is the difference the term makes
to the probability where it stands, so the steps add up to the answer exactly, and
their sizes depend on the order, which is the terms': the largest first.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from server.explain.reasons import MAX_PRINCIPAL, largest
from server.model.schema import Feature, Row, Schema
from ui.words.labels import Labels
from ui.words.text import Text, joined

#: Steps that are told one by one; the others are one step together.
MAX_STEPS = 8
_NUMBERED = re.compile(r"(.*\D)(\d+)")

_OTHERS = Text(
    "{count} other {count:input|inputs} together", "{count} {count:autre donnée|autres données} ensemble"
)
_UNKNOWN_ONE = Text("{labels} is unknown", "{labels}\N{NO-BREAK SPACE}: valeur inconnue")
_UNKNOWN_MORE = Text("{labels} are unknown", "{labels}\N{NO-BREAK SPACE}: valeurs inconnues")
_VALUE = Text("{label}: {value}", "{label}\N{NO-BREAK SPACE}: {value}")


class Step(NamedTuple):
    """One step: its features, its words, its term of the margin, and the answer before and after it."""

    features: tuple[str, ...]
    words: Text
    term: float
    before: float
    after: float
    principal: bool

    @property
    def change(self) -> float:
        """What the step adds to the answer."""
        return self.after - self.before


class Cause(NamedTuple):
    """What a step is made of before it has a place."""

    features: tuple[str, ...]
    words: Text
    term: float
    principal: bool = False


def causes(schema: Schema, labels: Labels, row: Row, terms: Sequence[float]) -> list[Cause]:
    """Every input once: unknown ones of a group together, those that add nothing left out.

    `row` is one encoded row and `terms` are its F contributions. The principal reasons are those of
    every other way to an answer (`largest`), each by itself.
    """
    values = memoryview(row).cast("d").tolist()
    principal = {schema.names[i] for i in largest(terms, MAX_PRINCIPAL)}
    found: list[Cause] = []
    unknown: dict[str, list[tuple[Feature, float]]] = {}
    for feature, code, term in zip(schema.features, values, terms, strict=True):
        if term == 0.0:
            continue
        value = feature.decode(code)
        if value is None:
            alone = feature.name in principal or not feature.group
            unknown.setdefault(feature.name if alone else feature.group, []).append((feature, term))
            continue
        words = _VALUE.put(label=labels.label(feature), value=labels.measured(feature, value))
        found.append(Cause((feature.name,), words, term, feature.name in principal))
    for together in unknown.values():
        names = tuple(feature.name for feature, _ in together)
        said = _UNKNOWN_ONE if len(together) == 1 else _UNKNOWN_MORE
        words = said.put(labels=_named([labels.label(feature) for feature, _ in together]))
        total = sum(term for _, term in together)
        found.append(Cause(names, words, total, not principal.isdisjoint(names)))
    return sorted(found, key=lambda cause: -abs(cause.term))


def steps(found: Sequence[Cause], base: float, answer: Callable[[float], float]) -> list[Step]:
    """The causes as steps; `answer` gives what follows from a sum of terms, `base` is where it starts.

    Principal reasons are always told one by one; what is too small to be told stands in one last step.
    """
    shown, margin, before = [], base, answer(base)
    for cause in _told(found):
        margin += cause.term
        after = answer(margin)
        shown.append(Step(cause.features, cause.words, cause.term, before, after, cause.principal))
        before = after
    return shown


def _told(found: Sequence[Cause]) -> list[Cause]:
    if len(found) <= MAX_STEPS:
        return list(found)
    first = sorted(found, key=lambda cause: not cause.principal)[: MAX_STEPS - 1]
    rest = [cause for cause in found if cause not in first]
    names = tuple(name for cause in rest for name in cause.features)
    told = [cause for cause in found if cause in first]
    return [*told, Cause(names, _OTHERS.put(count=str(len(names))), sum(cause.term for cause in rest))]


def _named(labels: list[Text]) -> Text:
    """Labels one after another; those that differ in a last number share the rest: External score 1 and 3."""
    pairs = [_NUMBERED.fullmatch(label.en) for label in labels]
    french = [_NUMBERED.fullmatch(label.fr) for label in labels]
    if len(labels) > 1 and all(pairs) and all(french):
        stems = {(p[1], f[1]) for p, f in zip(pairs, french, strict=True) if p and f}
        if len(stems) == 1:
            (stem,) = stems
            numbers = [Text.same(p[2]) for p in pairs if p]
            return joined([Text(*stem), _listed(numbers)], "")
    return _listed(labels)


def _listed(parts: list[Text]) -> Text:
    if len(parts) < 2:
        return parts[0]
    return joined(
        [joined(parts[:-1]), Text("and", "et"), parts[-1]],
        " ",
    )
