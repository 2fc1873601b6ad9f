"""What an applicant could change to be decided otherwise: true, within her power, and never against a reason.

Only features that the bundle marks as actionable are changed, in their direction and range, one or two
at a time, to values beyond the model's own thresholds. Every proposal is scored by the served graph and
judged by the bundle's policy before it is made. How many rows are scored is bounded by the size of the model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from server.errors import NotOffered
from server.explain.explainer import Explainer
from server.explain.reasons import MAX_PRINCIPAL, ReasonTexts, largest
from server.explain.steps import Limits, limits_of, values_above, values_below
from server.model.bundle import Bundle
from server.model.link import Margins
from server.model.predictor import Predictor
from server.model.schema import Feature, Matrix, Row

UP, DOWN, YES = "up", "down", "yes"
#: What a feature is marked with that an applicant can change.
ACTIONABLE = frozenset({UP, DOWN, YES})
#: Rows that one request scores: of as many trees as `_TREES` allows in 50 ms, and of a small model.
MAX_ROWS, LEAST_ROWS, _TREES = 2048, 64, 1_000_000
#: Trees of a model that does not tell how many it has.
_UNKNOWN_TREES = 500
MAX_PROPOSALS = 4
#: What another category counts, against all thresholds of a number.
_OTHER_CATEGORY = 0.5
_TEXTS = {
    "en": {
        "good": "The decision is “{good}” as it is.",
        "some": "Each of these changes alone leads to the decision “{good}”.",
        "one": "This change leads to the decision “{good}”.",
        "none": "Nothing that can be changed leads to the decision “{good}”.",
        "incomplete": "More has to be known first: {missing}.",
    },
    "fr": {
        "good": "La décision est déjà «\xa0{good}\xa0».",
        "some": "Chacun de ces changements à lui seul mène à la décision «\xa0{good}\xa0».",
        "one": "Ce changement mène à la décision «\xa0{good}\xa0».",
        "none": "Rien de ce qui peut être changé ne mène à la décision «\xa0{good}\xa0».",
        "incomplete": "Il faut d'abord en savoir plus\xa0: {missing}.",
    },
}


class Move(NamedTuple):
    """A feature, by its place, with another value; `size` counts from 0 to 1 how far that is."""

    place: int
    value: float
    size: float


Moves: TypeAlias = tuple[Move, ...]


@dataclass(frozen=True)
class Proposal:
    """Moves made together, and the probability with them; the decision is the good one."""

    moves: Moves
    probability: float

    @property
    def size(self) -> float:
        """How far they go together."""
        return sum(move.size for move in self.moves)


@dataclass(frozen=True)
class Found:
    """What was found for one row; `tried` rows were scored."""

    probability: float
    outcome: int
    proposals: tuple[Proposal, ...]
    tried: int


class Recourse:
    """Finds what could be changed, for one binary model; for any thread."""

    def __init__(self, bundle: Bundle, predictor: Predictor, explainer: Explainer) -> None:
        self.bundle, self._predictor, self._explainer = bundle, predictor, explainer
        features = bundle.schema.features
        # Nobody is told to be somebody else, whatever a description says of the feature beside.
        self.actionable = [
            i for i, f in enumerate(features) if f.actionable in ACTIONABLE and not f.protected
        ]
        self._limits: Mapping[int, Limits] = limits_of(bundle, self.actionable) if self.actionable else {}
        trees = bundle.manifest.get("source", {}).get("trees")
        trees = trees if isinstance(trees, int) and trees > 0 else _UNKNOWN_TREES
        self._most = min(MAX_ROWS, max(LEAST_ROWS, _TREES // trees))

    def check_offered(self) -> None:
        """Raise `NotOffered` of a model that decides nothing, or of which nothing is marked as actionable."""
        if self.bundle.task != "binary":
            raise NotOffered(f"expected a model that decides, got one of {self.bundle.task}")
        if not self.actionable:
            raise NotOffered(
                "expected features that an applicant can change, got a model that marks none: say "
                "`actionable` (yes, up or down) of them in the description, and export it again"
            )

    def find(self, row: Row) -> Found:
        """Proposals for one encoded row, the smallest first, none where the decision is the good one."""
        values = np.frombuffer(row)
        rows = values.reshape(1, -1)
        margins = self._predictor.margins(rows)
        (probability,) = self._predictor.output_array(margins).tolist()
        outcome = int(self._predictor.outcomes(np.array([probability]), rows)[0])
        if outcome == 0:
            return Found(probability, outcome, (), 1)
        reasons = self._reasons(rows, margins)
        moves = {i: found for i in self.actionable if (found := self._moves(i, values, reasons))}
        proposals, tried = self._single(values, moves)
        alone = {proposal.moves[0].place for proposal in proposals}
        left = {i: found for i, found in moves.items() if i not in alone}
        if len(proposals) < MAX_PROPOSALS and len(left) > 1:
            pairs, more = self._pairs(values, left, self._most - tried)
            proposals, tried = proposals + pairs, tried + more
        proposals.sort(key=lambda proposal: (len(proposal.moves), proposal.size))
        return Found(probability, outcome, tuple(proposals[:MAX_PROPOSALS]), tried)

    def _reasons(self, rows: Matrix, margins: Margins) -> frozenset[int]:
        """The features that are reasons given for one row, all where the model cannot say."""
        if not self._explainer.is_offered:
            return frozenset(self.actionable)
        terms = self._explainer.terms_of(rows, margins)[0, :-1]
        return frozenset(largest(terms.tolist(), MAX_PRINCIPAL))

    def _moves(self, i: int, values: Matrix, reasons: frozenset[int]) -> list[Move]:
        """Other values of one feature, the nearest first."""
        feature, value = self.bundle.schema.features[i], float(values[i])
        if math.isnan(value):
            return []
        if feature.form_kind in ("category", "flag"):
            return [Move(i, code, _OTHER_CATEGORY) for code in _other_codes(feature, value)]
        found: list[Move] = []
        limits = self._limits[i]
        for way in _ways(feature, value, is_reason=i in reasons):
            others = (values_above if way == UP else values_below)(value, limits, feature)
            found += [Move(i, x, (n + 1) / max(1, len(limits))) for n, x in enumerate(others)]
        return sorted(found, key=lambda move: move.size)

    def _single(self, values: Matrix, moves: Mapping[int, list[Move]]) -> tuple[list[Proposal], int]:
        """Of each feature the smallest move that suffices, and how many rows were scored."""
        share = self._most // 2 // max(1, len(moves))
        tried = [(move,) for found in moves.values() for move in _thinned(found, share)]
        return self._best(values, tried), len(tried)

    def _pairs(
        self, values: Matrix, moves: Mapping[int, list[Move]], most: int
    ) -> tuple[list[Proposal], int]:
        """Of each two features that do not suffice alone the smallest moves that do together."""
        couples = list(combinations(moves, 2))[: max(0, most) // 4]
        side = math.isqrt(max(0, most) // max(1, len(couples)))
        tried = [
            (one, other)
            for a, b in couples
            for one in _thinned(moves[a], side)
            for other in _thinned(moves[b], side)
        ]
        return self._best(values, tried), len(tried)

    def _best(self, values: Matrix, tried: Sequence[Moves]) -> list[Proposal]:
        """Of all that suffice the smallest for each set of features."""
        if not tried:
            return []
        rows = np.tile(values, (len(tried), 1))
        for k, moves in enumerate(tried):
            for move in moves:
                rows[k, move.place] = move.value
        probabilities = self._predictor.output_array(self._predictor.margins(rows)).tolist()
        good: npt.NDArray[np.bool_] = self._predictor.outcomes(np.array(probabilities), rows) == 0
        best: dict[tuple[int, ...], Proposal] = {}
        for k in np.flatnonzero(good).tolist():
            proposal = Proposal(tried[k], probabilities[k])
            key = tuple(move.place for move in tried[k])
            if key not in best or proposal.size < best[key].size:
                best[key] = proposal
        return list(best.values())


def _ways(feature: Feature, value: float, *, is_reason: bool) -> list[str]:
    """The directions a number may go: as marked, but neither against what lowers the risk, nor a reason.

    A reason that may be read both ways is read by the typical value: more than that is too much.
    """
    ways = [UP, DOWN] if feature.actionable == YES else [feature.actionable]
    worse = feature.monotone if feature.monotone in (UP, DOWN) else ""
    typical = feature.default
    if is_reason and not worse and len(ways) == 2:
        if not isinstance(typical, (int, float)):
            return []
        worse = UP if value >= typical else DOWN
    return [way for way in ways if way != worse]


def _other_codes(feature: Feature, value: float) -> list[float]:
    codes = range(len(feature.categories)) if feature.kind == "category" else range(2)
    if feature.actionable == UP:
        return [float(code) for code in codes if code > value]
    if feature.actionable == DOWN:
        return [float(code) for code in codes if code < value]
    return [float(code) for code in codes if code != value]


def _thinned(moves: list[Move], most: int) -> list[Move]:
    """At most so many of them, evenly, the farthest among them."""
    if len(moves) <= most or not most:
        return moves[:most]
    places = np.unique(np.linspace(0, len(moves) - 1, most).round().astype(int))
    return [moves[place] for place in places.tolist()]


def recourse_response(
    found: Found, row: Row, bundle: Bundle, texts: ReasonTexts, language: str, called: str = ""
) -> dict[str, Any]:
    """What a response says of it; `called` is what its text calls the good decision."""
    schema, words = bundle.schema, _TEXTS.get(language, _TEXTS["en"])
    values = np.frombuffer(row).tolist()
    good = bundle.outcomes[0]
    missing = _missing(bundle, values) if found.outcome else []
    key = ("none" if found.outcome else "good", "one", "some")[min(len(found.proposals), 2)]
    if missing and not found.proposals:
        key = "incomplete"
    named = ", ".join(texts.label(schema.names.index(name), language) for name in missing)
    return {
        "model": bundle.label,
        "probability": found.probability,
        "decision": bundle.outcomes[found.outcome],
        "proposals": [
            {
                "changes": [_change(schema.features[m.place], m, values, texts, language)
                            for m in proposal.moves],
                "probability": proposal.probability,
                "decision": good,
            }
            for proposal in found.proposals
        ],
        "missing": missing,
        "tried": found.tried,
        "text": words[key].format(good=called or texts.first_decision(language), missing=named),
    }  # fmt: skip


def _missing(bundle: Bundle, values: Sequence[float]) -> list[str]:
    """What the policy needs and a row lacks: what is always needed, or all while too little is known."""
    needed = bundle.policy.needed if bundle.policy is not None else None
    if needed is None:
        return []
    names = bundle.schema.names
    unknown = [name for name, value in zip(names, values, strict=True) if math.isnan(value)]
    if len(names) - len(unknown) < needed.known_at_least:
        return unknown
    return [name for name in needed.always if name in unknown]


def _change(
    feature: Feature, move: Move, values: Sequence[float], texts: ReasonTexts, language: str
) -> dict[str, Any]:
    before = values[move.place]
    return {
        "feature": feature.name,
        "label": texts.label(move.place, language),
        "from": feature.decode(before),
        "to": feature.decode(move.value),
        "text": texts.change(move.place, before, move.value, language),
    }
