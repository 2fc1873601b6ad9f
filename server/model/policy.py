"""What a decision hangs on beside the model's score: bands, needed inputs, checks, unusual inputs.

A closed grammar, written in the bundle: nothing in it is evaluated but comparisons
of a feature with a number, or with another feature times and plus a constant.
"""

from collections.abc import Iterator, Mapping, Set
from difflib import get_close_matches
from itertools import chain, pairwise
from typing import Annotated, TypeAlias

import msgspec

Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Limit: TypeAlias = Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)]
Finite: TypeAlias = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
#: Texts by language, "en" among them, or one text.
Texts: TypeAlias = str | dict[str, str]

#: Each check is one bit of a verdict.
MAX_CHECKS = 32
INCOMPLETE, REFER, UNUSUAL, NEEDED = "incomplete", "refer", "unusual", "needed"


class Band(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is decided by the score alone below a probability; the last band has no limit."""

    decision: Name
    below: Limit | None = None


class Needed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Fewer known inputs than that, or one of `always` missing, and the decision is `then`.

    But for a probability `unless_below`: so low that what is missing decides nothing.
    """

    known_at_least: Count = 0
    always: tuple[Name, ...] = ()
    unless_below: Limit | None = None
    then: Name = INCOMPLETE


class Term(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Another feature, times and plus a constant."""

    feature: Name
    times: Finite = 1.0
    plus: Finite = 0.0


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A feature beyond what it may be at most or at least: `then` is decided, or "" for a note alone.

    A comparison with an input that is missing finds nothing. `name` says in an
    answer's `because` which check it was: that of the feature unless given.
    """

    feature: Name
    at_most: Finite | Term | None = None
    at_least: Finite | Term | None = None
    then: str = REFER
    name: str = ""
    text: Texts = ""

    @property
    def limit(self) -> float | Term:
        """What the feature is compared with."""
        limit = self.at_least if self.at_most is None else self.at_most
        assert limit is not None
        return limit

    @property
    def reason(self) -> str:
        """What a response says of it."""
        return self.name or self.feature


class Unusual(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """So many inputs outside of their limits, and the decision is `then`.

    `limits` are the least and the largest usual value by feature; `outside` says of
    which quantiles of the training data they are, for people.
    """

    limits: Mapping[Name, tuple[Finite, Finite]]
    inputs: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    then: Name = REFER
    outside: tuple[float, float] | None = None


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The policy of a bundle; what is absent decides nothing."""

    bands: tuple[Band, ...] = ()
    needed: Needed | None = None
    checks: tuple[Check, ...] = ()
    unusual: Unusual | None = None

    def decisions(self, below: str, otherwise: str) -> tuple[str, ...]:
        """All decisions there can be: those of the score in its order, then the others."""
        by_score = [band.decision for band in self.bands] or [below, otherwise]
        return tuple(dict.fromkeys([*by_score, *filter(None, self._others())]))

    def limits(self, threshold: float) -> list[float]:
        """The probabilities at which the score's decision changes, rising: the bands', or the threshold."""
        return [band.below for band in self.bands if band.below is not None] or [threshold]

    def _others(self) -> Iterator[str]:
        if self.needed is not None:
            yield self.needed.then
        yield from (check.then for check in self.checks)
        if self.unusual is not None:
            yield self.unusual.then

    def looked_at(self) -> frozenset[str]:
        """The inputs whose values are looked at: those that are needed, checked and may be unusual."""
        terms = [check.limit for check in self.checks]
        others = {term.feature for term in terms if isinstance(term, Term)}
        usual = set(self.unusual.limits) if self.unusual is not None else set()
        always = set(self.needed.always) if self.needed is not None else set()
        return frozenset({check.feature for check in self.checks} | others | usual | always)

    def reasons(self) -> tuple[str, ...]:
        """What `because` may hold, in the order it is said in."""
        found = [NEEDED] if self.needed is not None else []
        found += [check.reason for check in self.checks]
        return (*found, UNUSUAL) if self.unusual is not None else tuple(found)

    def problem(
        self, names: Set[str], numbers: Set[str], threshold: float, below: str, otherwise: str
    ) -> str:
        """What makes a policy of the right types unusable with these inputs, of which some are numbers.

        "" if nothing does.
        """
        # One after the other: the second looks at bands that the first has found right.
        problems = chain(
            self._band_problems(threshold, below, otherwise),
            self._needed_problems(names, threshold),
            self._check_problems(numbers),
            self._unusual_problems(numbers),
        )
        return next(filter(None, problems), "")

    def _band_problems(self, threshold: float, below: str, otherwise: str) -> Iterator[str]:
        if not self.bands:
            return
        limits = [band.below for band in self.bands]
        numbers = [limit for limit in limits if limit is not None]
        decisions = [band.decision for band in self.bands]
        if len(numbers) != len(limits) - 1 or limits[-1] is not None or not numbers:
            yield "bands: expected a limit `below` in each band but the last, got another list"
        elif any(a >= b for a, b in pairwise(numbers)):
            yield "bands: expected limits that rise, got others"
        elif len(set(decisions)) != len(decisions):
            yield "bands: expected each decision once, got one twice"
        elif (decisions[0], decisions[-1]) != (below, otherwise) or numbers[-1] != threshold:
            yield (
                f"bands: expected {below!r} first and {otherwise!r} from {threshold:g} on, as the decision "
                f"says, got {decisions[0]!r} first and {decisions[-1]!r} from {numbers[-1]:g} on"
            )

    def _needed_problems(self, names: Set[str], threshold: float) -> Iterator[str]:
        if self.needed is None:
            return
        for name in self.needed.always:
            yield _unknown("needed: always", name, names, "an input of the model")
        first = (self.bands[0].below if self.bands else None) or threshold
        if self.needed.unless_below is not None and self.needed.unless_below > first:
            yield (
                f"needed: expected unless_below to be at most {first:g}, below which the first decision "
                f"is made, got {self.needed.unless_below:g}"
            )
        if self.needed.known_at_least > len(names):
            yield f"needed: expected at most {len(names)} known inputs, got {self.needed.known_at_least}"

    def _check_problems(self, numbers: Set[str]) -> Iterator[str]:
        for number, check in enumerate(self.checks, start=1):
            where = f"check {number}"
            if (check.at_most is None) == (check.at_least is None):
                yield f"{where}: expected at_most or at_least, got both or none"
            terms = [term for term in (check.at_most, check.at_least) if isinstance(term, Term)]
            yield from (
                _unknown(where, name, numbers) for name in (check.feature, *(t.feature for t in terms))
            )
        if len(self.checks) > MAX_CHECKS:
            yield f"checks: expected at most {MAX_CHECKS}, got {len(self.checks)}"
        if len(set(self.reasons())) != len(self.reasons()):
            yield "checks: expected a `name` for each check of one feature, got one name twice"

    def _unusual_problems(self, numbers: Set[str]) -> Iterator[str]:
        if self.unusual is None:
            return
        yield from (_unknown("unusual", name, numbers) for name in self.unusual.limits)
        if any(low > high for low, high in self.unusual.limits.values()):
            yield "unusual: expected limits from the least to the largest, got them the other way round"


def _unknown(where: str, name: str, names: Set[str], what: str = "a number among the inputs") -> str:
    if name in names:
        return ""
    near = get_close_matches(name, names, 1, 0.5)
    return f"{where}: expected {what}, got {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
