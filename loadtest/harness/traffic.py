"""What clients send: varied rows, some values missing, and a share of bad requests.

The rows are made from what `GET /model` says of the features and, where the
bundle's golden rows are at hand, from those. Nothing here needs Locust.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

MISSING_SHARE = 0.1
REDRAWN_SHARE = 0.3
#: Where a feature has no upper bound.
UNBOUNDED = 1000.0

Features = Sequence[Mapping[str, Any]]


class Prepared(NamedTuple):
    """A request body and the status it deserves."""

    body: bytes
    status: int


class Traffic:
    """Draws requests for one model; equal seeds draw equal requests.

    `features` are those of `GET /model`, `golden` rows as a client would send
    them (may be empty), `bad_share` the part of requests that must be refused.
    """

    def __init__(
        self,
        features: Features,
        golden: Sequence[Mapping[str, Any]] = (),
        *,
        bad_share: float = 0.02,
        seed: int = 0,
    ) -> None:
        self._features = features
        self._golden = golden
        self._bad_share = bad_share
        self._random = random.Random(seed)

    def draw(self, count: int) -> list[Prepared]:
        """So many requests."""
        return [self._bad() if self._chance(self._bad_share) else self._good() for _ in range(count)]

    def row(self) -> dict[str, Any]:
        """A valid row: a golden one with values redrawn or left out, or one of the schema alone."""
        base = self._random.choice(self._golden) if self._golden else {}
        row = {}
        for feature in self._features:
            name = feature["name"]
            if feature.get("nullable", True) and self._chance(MISSING_SHARE):
                continue
            if name in base and not self._chance(REDRAWN_SHARE):
                row[name] = base[name]
            elif not base or name in base:
                row[name] = self._value(feature)
        return row

    def _good(self) -> Prepared:
        return Prepared(orjson.dumps(self.row()), 200)

    def _bad(self) -> Prepared:
        row = self.row()
        feature = self._random.choice(self._features)["name"]
        bad = [
            Prepared(orjson.dumps(row)[:-1], 400),
            Prepared(b"", 400),
            Prepared(orjson.dumps(row | {"no such feature": 1}), 422),
            Prepared(orjson.dumps(row | {feature: [1]}), 422),
            Prepared(orjson.dumps([row]), 422),
        ]
        return self._random.choice(bad)

    def _value(self, feature: Mapping[str, Any]) -> Any:
        kind = feature.get("kind", "number")
        if kind == "category":
            return self._random.choice(feature["categories"])
        if kind == "flag":
            return self._random.choice((0, 1, True, False))
        low = feature.get("minimum", 0.0)
        high = feature.get("maximum", low + UNBOUNDED)
        if kind == "integer":
            return self._random.randint(round(low), round(high))
        return self._random.uniform(low, high)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share
