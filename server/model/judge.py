"""A bundle's policy applied to scored rows: the one rule of every way to a decision.

A verdict is one integer: the band that the score lies in, and a bit for each reason
that spoke. So a row without a reason costs a comparison each, and many rows are
judged in NumPy; a test holds the two against each other.
"""

import math
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from server.model.policy import Check, Policy, Term, Unusual
from server.model.schema import Matrix, Row

Verdicts: TypeAlias = npt.NDArray[np.int64]
#: Whether a reason speaks: of one row, F floats, a truth; of the columns of many, [F, n], n truths.
#: A comparison with NaN, a missing input, is false.
Fires: TypeAlias = Callable[[Any], Any]
#: Between reasons where a text holds them all: a cell of a table, an element of a tensor.
BETWEEN = ";"
_MISSING = struct.pack("=d", math.nan)


class Judge:
    """Decides by a policy for one bundle's schema.

    `decisions` are all there can be, those of the score first: what `outcome` indexes.
    `limits` are the probabilities at which the score's decision changes.
    """

    def __init__(
        self, policy: Policy, names: Sequence[str], threshold: float, below: str, otherwise: str
    ) -> None:
        self.decisions = policy.decisions(below, otherwise)
        self.reasons = policy.reasons()
        self._policy = policy
        self._index = {name: i for i, name in enumerate(names)}
        self.limits = policy.limits(threshold)
        self._bands = len(self.limits) + 1
        self._least_known = len(names) - (policy.needed.known_at_least if policy.needed else 0)
        self._enough = (policy.needed.unless_below or 0.0) if policy.needed else 0.0
        self._always = [self._index[name] for name in policy.needed.always] if policy.needed else []
        first = int(policy.needed is not None)
        fires = [self._check(check) for check in policy.checks]
        if policy.unusual is not None:
            fires.append(self._unusual(policy.unusual))
        self._fires = [(1 << bit, one) for bit, one in enumerate(fires, start=first)]
        #: The verdict on a probability and its encoded row.
        self.verdict = _verdict(policy, names, self.limits)
        #: The decision of each reason, the first of which counts; -1 of a note.
        self._thens = [
            self.decisions.index(then) if then else -1
            for then in (
                *([policy.needed.then] if policy.needed else []),
                *(check.then for check in policy.checks),
                *([policy.unusual.then] if policy.unusual else []),
            )
        ]
        self.outcome = lru_cache(1024)(self._outcome)

    def verdicts(self, probabilities: npt.NDArray[np.float64], rows: Matrix) -> Verdicts:
        """The verdicts on n encoded rows, float64 [n, F], int64 [n]."""
        reasons = np.zeros(len(rows), dtype=np.int64)
        if self._policy.needed is not None:
            missing = np.isnan(rows)
            lacks = (missing.sum(axis=1) > self._least_known) | missing[:, self._always].any(axis=1)
            reasons |= lacks & (probabilities >= self._enough)
        for bit, fires in self._fires:
            reasons |= np.asarray(fires(rows.T)) * np.int64(bit)
        return reasons * self._bands + np.searchsorted(self.limits, probabilities, side="right")

    def outcomes(self, verdicts: Verdicts) -> npt.NDArray[np.intp]:
        """The index of the decision of each verdict."""
        different, places = np.unique(verdicts, return_inverse=True)
        return np.array([self.outcome(verdict) for verdict in different.tolist()], dtype=np.intp)[places]

    def by_score(self, verdict: int) -> int:
        """The index of the decision that the score alone gives."""
        return verdict % self._bands

    def because(self, verdict: int) -> list[str]:
        """The reasons that spoke, in the policy's order; none if the score alone decided."""
        bits = verdict // self._bands
        return [reason for bit, reason in enumerate(self.reasons) if bits >> bit & 1]

    def members(self, verdict: int) -> dict[str, Any]:
        """What a response says of it: the decision, what spoke beside the score, and what that alone says."""
        outcome, by_score = self.outcome(verdict), self.by_score(verdict)
        members: dict[str, Any] = {"decision": self.decisions[outcome]}
        if because := self.because(verdict):
            members["because"] = because
        if outcome != by_score:
            members["by_score"] = self.decisions[by_score]
        return members

    def columns(self, verdicts: list[int]) -> dict[str, list[Any]]:
        """The same of many rows in lists: `because`, and `by_score` of every row."""
        said = {v: (self.because(v), self.decisions[self.by_score(v)]) for v in set(verdicts)}  # few
        return {"because": [said[v][0] for v in verdicts], "by_score": [said[v][1] for v in verdicts]}

    def cells(self, verdict: int) -> list[str]:
        """The same as two texts, for a line of a table."""
        return [BETWEEN.join(self.because(verdict)), self.decisions[self.by_score(verdict)]]

    def _outcome(self, verdict: int) -> int:
        bits, band = divmod(verdict, self._bands)
        spoken = (then for bit, then in enumerate(self._thens) if bits >> bit & 1 and then >= 0)
        return next(spoken, band)

    def _check(self, check: Check) -> Fires:
        i = self._index[check.feature]
        limit = check.limit
        if isinstance(limit, Term):
            j, times, plus = self._index[limit.feature], limit.times, limit.plus
            if check.at_most is not None:
                return lambda row: row[i] > row[j] * times + plus
            return lambda row: row[i] < row[j] * times + plus
        if check.at_most is not None:
            return lambda row: row[i] > limit
        return lambda row: row[i] < limit

    def _unusual(self, unusual: Unusual) -> Fires:
        limits = [(self._index[name], low, high) for name, (low, high) in unusual.limits.items()]

        def fires(row: Any) -> Any:
            count = 0
            for i, low, high in limits:
                count = count + ((row[i] < low) | (row[i] > high))  # not +=: it may be an array
            return count >= unusual.inputs

        return fires


def _verdict(policy: Policy, names: Sequence[str], limits: Sequence[float]) -> Callable[[float, Row], int]:
    """A function from a probability and its encoded row to the verdict.

    It is written as one Python function of numbers alone, as a call or a loop a check would cost more
    than it compares. Only the inputs that are looked at become Python's floats; of NaN each comparison
    is false.
    """
    looked_at = policy.looked_at()
    place = {name: f"x{i}" for i, name in enumerate(names) if name in looked_at}
    lines = [f"[{', '.join(place.values())}] = unpack(row)"] if place else []
    lines += ["bits = count = 0"]
    needed, first = policy.needed, int(policy.needed is not None)
    if needed is not None:
        most = len(names) - needed.known_at_least
        # A search of the bytes never counts too few: only then is it worth counting.
        lacks = [f"{place[name]} != {place[name]}" for name in needed.always]
        lacks += [f"row.count(missing) > {most} and unknown(row) > {most}"]
        lines += [f"if probability >= {needed.unless_below or 0.0!r} and ({' or '.join(lacks)}): bits = 1"]
    for bit, check in enumerate(policy.checks, start=first):
        limit, sign = check.limit, "<" if check.at_most is None else ">"
        if isinstance(limit, Term):
            other = f"{place[limit.feature]} * {float(limit.times)!r} + {float(limit.plus)!r}"
        else:
            other = repr(float(limit))
        lines += [f"if {place[check.feature]} {sign} {other}: bits |= {1 << bit}"]
    if policy.unusual is not None:
        for name, (low, high) in policy.unusual.limits.items():
            x = place[name]
            lines += [f"if {x} < {float(low)!r} or {x} > {float(high)!r}: count += 1"]
        lines += [f"if count >= {policy.unusual.inputs}: bits |= {1 << first + len(policy.checks)}"]
    lines += [f"return bits * {len(limits) + 1} + bisect(limits, probability)"]
    return _function(lines, limits, "=" + "".join("d" if name in place else "8x" for name in names))


def _function(lines: Sequence[str], limits: Sequence[float], form: str) -> Callable[[float, Row], int]:
    """The function of these lines, which hold places and numbers and nothing of a bundle's text."""
    made: dict[str, Any] = {
        "unpack": struct.Struct(form).unpack,
        "missing": _MISSING,
        "bisect": bisect_right,
        "limits": limits,
        "unknown": lambda row: int(np.isnan(np.frombuffer(row)).sum()),
    }
    exec("def verdict(probability, row):" + "".join(f"\n    {line}" for line in lines), made)
    verdict: Callable[[float, Row], int] = made["verdict"]
    return verdict
