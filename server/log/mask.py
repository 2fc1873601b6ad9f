"""Keeps personal fields out of the prediction log: dropped, hashed or bucketed.

A bundle marks a feature as personal in its schema (`"personal": "hash"`), the
setting `HOTROW_LOG_MASK` overrules it. A body without masked fields is copied as
it came; one with them is written anew, after the response is sent.
"""

from collections.abc import Mapping
from typing import Any

from server.errors import SettingsError
from server.log.masked import DROP, HASH, Mask
from server.model.bundle import Bundle
from server.model.distribution import Distribution, Reference
from server.model.reference import BINS, read_reference
from server.model.schema import Feature

KEEP, BUCKET = "keep", "bucket"
RULES = (KEEP, DROP, HASH, BUCKET)


class Masking:
    """What is masked in the log of every bundle a server has.

    `rules` are those of `HOTROW_LOG_MASK` by feature name. The key is never in
    the log's folder. Raises `SettingsError` if a hash has no key, or a rule no
    feature it can apply to.
    """

    def __init__(self, rules: Mapping[str, str] | None = None, key: bytes | None = None) -> None:
        self._own_rules = dict(rules or {})
        self._key = key

    def rule(self, feature: Feature) -> str:
        """What happens to this feature: the setting's rule, or else the bundle's."""
        return self._own_rules.get(feature.name, feature.personal or KEEP)

    def rules(self, bundle: Bundle) -> dict[str, Any]:
        """What `Mask` hides fields by, as JSON: `drop`, `hash`, or the edges and names of buckets.

        Raises `SettingsError` if a field cannot be hidden so.
        """
        self._check(bundle)
        rules: dict[str, Any] = {}
        for feature in _fields(bundle):
            rule = self.rule(feature)
            if rule == HASH:
                self._check_key(feature)
            if rule == BUCKET:
                distribution = bucketing(feature, read_reference(bundle))
                rules[feature.name] = [distribution.edges, bucket_names(distribution)]
            elif rule != KEEP:
                rules[feature.name] = rule
        return rules

    def mask(self, bundle: Bundle) -> Mask | None:
        """The mask of a bundle, None if every field is logged as it comes; raises as `rules`."""
        rules = self.rules(bundle)
        return Mask(rules, self._key) if rules else None

    def masked(self, bundle: Bundle) -> dict[str, str]:
        """The rules of the features that are not logged as they come."""
        return {f.name: self.rule(f) for f in _fields(bundle) if self.rule(f) != KEEP}

    def hidden(self, bundle: Bundle) -> set[str]:
        """The features whose values the log does not tell."""
        return {f.name for f in _fields(bundle) if self.rule(f) in (DROP, HASH)}

    def _check_key(self, feature: Feature) -> None:
        if self._key is None:
            raise SettingsError(
                f"expected a key to hash {feature.name} with, got none: "
                "set HOTROW_LOG_KEY_FILE to a file of random bytes"
            )

    def _check(self, bundle: Bundle) -> None:
        for field in bundle.context:
            if self.rule(field) == BUCKET:
                raise SettingsError(
                    f"expected drop or hash for {field.name}, got bucket: a context field has no known range"
                )
        for feature in _fields(bundle):
            if self.rule(feature) not in RULES:
                raise SettingsError(
                    f"expected one of {', '.join(RULES)} for {feature.name}, got {self.rule(feature)!r}"
                )
            if self.rule(feature) == BUCKET and feature.form_kind in ("category", "flag"):
                raise SettingsError(
                    f"expected a number to put into buckets, got {feature.name}, a {feature.form_kind}: "
                    "drop or hash it"
                )


def _fields(bundle: Bundle) -> tuple[Feature, ...]:
    """Everything that a row may hold and the log tells: inputs of the model, and context."""
    return (*bundle.schema.features, *bundle.context)


def bucketing(feature: Feature, reference: Reference | None) -> Distribution:
    """The bins a number is put into: those of the reference, or tenths of its range."""
    if reference is not None and reference.features[feature.name].edges:
        return reference.features[feature.name]
    low, high = feature.form_range
    if low is None or high is None:
        raise SettingsError(
            f"expected a range or a reference distribution of {feature.name} for its buckets, got neither: "
            "drop or hash it"
        )
    step = (high - low) / BINS
    edges = tuple(low + i * step for i in range(1, BINS))
    return Distribution(0, 0.0, edges, (0.0,) * BINS)


def bucket_names(distribution: Distribution) -> tuple[str, ...]:
    """The words that stand for the bins: `..20`, `20..30`, `30..`; the upper edge is included."""
    edges = [f"{edge:.9g}" for edge in distribution.edges]
    return tuple(f"{low}..{high}" for low, high in zip(["", *edges], [*edges, ""], strict=True))
