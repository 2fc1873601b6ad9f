"""Keeps personal fields out of the prediction log: dropped, hashed or bucketed.

A bundle marks a feature as personal in its schema (`"personal": "hash"`), the
setting `HOTROW_LOG_MASK` overrules it. A body without masked fields is copied as
it came; one with them is written anew, after the answer is sent.
"""

import hmac
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from server.errors import SettingsError
from server.model.bundle import Bundle
from server.model.reference import BINS, Distribution, Reference
from server.model.schema import Feature

KEEP, DROP, HASH, BUCKET = "keep", "drop", "hash", "bucket"
RULES = (KEEP, DROP, HASH, BUCKET)
_MIN_KEY_BYTES = 16
HASH_HEX_DIGITS = 32


class Mask:
    """Masks the rows of one bundle."""

    def __init__(self, fields: Mapping[str, Callable[[Any], Any] | None]) -> None:
        self._fields = dict(fields)

    def apply(self, body: bytes) -> bytes:
        """The JSON object `body`, or the objects in its `rows`, with masked fields; UTF-8 JSON."""
        content = orjson.loads(body)
        rows = content.get("rows")
        for row in rows if isinstance(rows, list) else (content,):
            for name, replace in self._fields.items():
                if replace is None:
                    row.pop(name, None)
                elif row.get(name) is not None:
                    row[name] = replace(row[name])
        return orjson.dumps(content)


class Masking:
    """What is masked in the log of every bundle a server has.

    `rules` are those of `HOTROW_LOG_MASK` by feature name. The key is never in
    the log's folder. Raises `SettingsError` if a hash has no key, or a rule no
    feature it can apply to.
    """

    def __init__(self, rules: Mapping[str, str] | None = None, key: bytes | None = None) -> None:
        self._rules = dict(rules or {})
        self._key = key

    def rule(self, feature: Feature) -> str:
        """What happens to this feature: the setting's rule, or else the bundle's."""
        return self._rules.get(feature.name, feature.personal or KEEP)

    def mask(self, bundle: Bundle) -> Mask | None:
        """The mask of a bundle, None if every field is logged as it comes."""
        self._check(bundle)
        fields: dict[str, Callable[[Any], Any] | None] = {}
        for feature in bundle.schema.features:
            rule = self.rule(feature)
            if rule == DROP:
                fields[feature.name] = None
            elif rule == HASH:
                fields[feature.name] = partial(hashed, self._secret(feature), feature.name)
            elif rule == BUCKET:
                distribution = bucketing(feature, Reference.of(bundle))
                fields[feature.name] = partial(_bucket, distribution, bucket_names(distribution))
        return Mask(fields) if fields else None

    def codes(self, bundle: Bundle) -> dict[str, dict[Any, int]]:
        """The words in the log's lines and the bins they stand for, by feature."""
        codes: dict[str, dict[Any, int]] = {}
        for feature in bundle.schema.features:
            if self.rule(feature) == BUCKET:
                names = bucket_names(bucketing(feature, Reference.of(bundle)))
                codes[feature.name] = {name: i for i, name in enumerate(names)}
            elif feature.kind == "category":
                codes[feature.name] = {name: i for i, name in enumerate(feature.categories)}
        return codes

    def masked(self, bundle: Bundle) -> dict[str, str]:
        """The rules of the features that are not logged as they come."""
        return {f.name: self.rule(f) for f in bundle.schema.features if self.rule(f) != KEEP}

    def hidden(self, bundle: Bundle) -> set[str]:
        """The features whose values the log does not tell."""
        return {f.name for f in bundle.schema.features if self.rule(f) in (DROP, HASH)}

    def _secret(self, feature: Feature) -> bytes:
        if self._key is None:
            raise SettingsError(
                f"expected a key to hash {feature.name} with, got none: "
                "set HOTROW_LOG_KEY_FILE to a file of random bytes"
            )
        return self._key

    def _check(self, bundle: Bundle) -> None:
        for feature in bundle.schema.features:
            if self.rule(feature) not in RULES:
                raise SettingsError(
                    f"expected one of {', '.join(RULES)} for {feature.name}, got {self.rule(feature)!r}"
                )
            if self.rule(feature) == BUCKET and feature.form_kind in ("category", "flag"):
                raise SettingsError(
                    f"expected a number to put into buckets, got {feature.name}, a {feature.form_kind}: "
                    "drop or hash it"
                )


def read_key(file: Path | None, log_directory: Path) -> bytes | None:
    """The key of the hashes; raises `SettingsError` if it is short, or lies with the log."""
    if file is None:
        return None
    if log_directory.resolve() in file.resolve().parents:
        raise SettingsError(
            f"expected HOTROW_LOG_KEY_FILE outside of {log_directory}, got {file}: "
            "whoever may read the log must not find the key"
        )
    try:
        key = file.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"expected HOTROW_LOG_KEY_FILE to be readable, got: {error.strerror}") from None
    if len(key) < _MIN_KEY_BYTES:
        raise SettingsError(
            f"expected a key of at least {_MIN_KEY_BYTES} bytes in {file}, got {len(key)}: "
            "write one with `head -c 32 /dev/urandom | base64`"
        )
    return key


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


def hashed(key: bytes, name: str, value: Any) -> str:
    """What the log shows instead of a value of the field `name`: HMAC-SHA-256, shortened to 128 bits."""
    # The name is part of it: equal values of two fields do not look equal. JSON
    # numbers that the model takes as one (1, 1.0, true) hash as one.
    text = value if isinstance(value, str) else repr(float(value))
    return hmac.digest(key, f"{name}\0{text}".encode(), "sha256").hex()[:HASH_HEX_DIGITS]


def _bucket(distribution: Distribution, names: tuple[str, ...], value: Any) -> str:
    return names[distribution.bin(value)]
