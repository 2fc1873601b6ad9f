"""Hides fields of rows as the rules say; imports nothing heavy, since the observer does it."""

from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from server.errors import SettingsError

DROP, HASH = "drop", "hash"
HASH_HEX_DIGITS = 32
_MIN_KEY_BYTES = 16


class Mask:
    """Masks the rows of one bundle by its rules (`Masking.rules`)."""

    def __init__(self, rules: Mapping[str, Any], key: bytes | None) -> None:
        self._rules = dict(rules)
        self._key = key

    def apply(self, body: bytes) -> bytes:
        """The JSON object `body`, or the objects in its `rows`, with masked fields; UTF-8 JSON."""
        content = orjson.loads(body)
        rows = content.get("rows")
        for row in rows if isinstance(rows, list) else (content,):
            self._hide(row)
        return orjson.dumps(content)

    def _hide(self, row: dict[str, Any]) -> None:
        for name, rule in self._rules.items():
            if rule == DROP:
                row.pop(name, None)
            elif row.get(name) is not None:
                row[name] = self._hidden(name, rule, row[name])

    def _hidden(self, name: str, rule: Any, value: Any) -> str:
        if rule == HASH:
            assert self._key is not None
            return hashed(self._key, name, value)
        edges, names = rule
        return str(names[bisect_left(edges, value)])


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


def hashed(key: bytes, name: str, value: Any) -> str:
    """What the log shows instead of a value of the field `name`: HMAC-SHA-256, shortened to 128 bits."""
    import hmac  # half a megabyte that an observer without masks does without

    # The name is part of it: equal values of two fields do not look equal. JSON
    # numbers that the model takes as one (1, 1.0, true) hash as one.
    text = value if isinstance(value, str) else repr(float(value))
    return hmac.digest(key, f"{name}\0{text}".encode(), "sha256").hex()[:HASH_HEX_DIGITS]
