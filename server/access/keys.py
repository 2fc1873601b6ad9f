"""Callers and their scopes, found by the SHA-256 of their keys: no key is kept, in the file or in memory.

A line of the file is `NAME SCOPES SHA256`, the scopes separated by commas; empty lines and
those with # are passed over. A name may stand there twice, while its key is replaced.
"""

import hashlib
import re
import secrets
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from server.access.scopes import SCOPES, scopes_for
from server.errors import Forbidden, SettingsError, Unauthorized, listed

#: 256 random bits: a digest of them needs no salt, and none of them is ever guessed.
KEY_BYTES = 32
KEYS_OF_A_NAME = 2
_BEARER = b"bearer "
_NAME = re.compile(r"[\w.@-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: Headers whose values no memory and no log may keep.
CREDENTIALS = frozenset({b"authorization", b"x-api-key"})


class Caller(NamedTuple):
    """Whose key it is, and what it may be used for."""

    name: str
    scopes: frozenset[str]


class Keys:
    """The callers of a file; raises `SettingsError` for one that cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._callers: dict[bytes, Caller] = {}
        self.read()

    def read(self) -> None:
        """Read the file again; the callers stay as they are if that raises `SettingsError`."""
        self._callers = dict(read_callers(self.path))

    def caller(self, headers: Iterable[tuple[bytes, bytes]], path: str) -> Caller:
        """Who asks for this path, by headers with names in lower case.

        Raises `Unauthorized` without a known key, and `Forbidden` for one of other scopes.
        """
        found = self.find(given_key(headers))
        needed = scopes_for(path)
        if needed.isdisjoint(found.scopes):
            scope = next(scope for scope in SCOPES if scope in needed)
            raise Forbidden(
                f"expected a key for {scope}, got one for {', '.join(sorted(found.scopes))}",
                headers=_challenge(f'error="insufficient_scope", scope="{scope}"'),
            )
        return found

    def find(self, key: bytes) -> Caller:
        """Whose key it is; raises `Unauthorized`.

        Looked up by its digest, so how long that takes tells nothing of a key: nobody
        can choose digests to compare.
        """
        caller = self._callers.get(hashlib.sha256(key).digest()) if key else None
        if caller is None:
            raise Unauthorized(
                f"expected a key of this server in Authorization: Bearer or X-API-Key, got "
                f"{'another' if key else 'none'}",
                headers=_challenge('error="invalid_token"' if key else ""),
            )
        return caller


def given_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The key in some headers, b"" if there is none; raises `Unauthorized` if there are several."""
    keys = set()
    for name, value in headers:
        if name == b"x-api-key":
            keys.add(value.strip())
        elif name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            keys.add(value[len(_BEARER) :].strip())
    if len(keys) > 1:
        raise Unauthorized("expected one key, got several", headers=_challenge('error="invalid_request"'))
    return next(iter(keys), b"")


def _challenge(words: str) -> dict[str, str]:
    """RFC 6750, section 3."""
    return {"WWW-Authenticate": 'Bearer realm="Hotrow"' + (f", {words}" if words else "")}


def read_callers(path: Path) -> Iterator[tuple[bytes, Caller]]:
    """Each digest of a file with its caller; raises `SettingsError`, which repeats no digest."""
    names: Counter[str] = Counter()
    known: set[str] = set()
    for number, line in enumerate(_lines(path), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        caller, digest = _caller(words, f"line {number} of {path}")
        names[caller.name] += 1
        if digest in known or names[caller.name] > KEYS_OF_A_NAME:
            what = "a key that no line before has" if digest in known else f"{KEYS_OF_A_NAME} keys of a name"
            raise SettingsError(f"expected {what} in line {number} of {path}, got another")
        known.add(digest)
        yield bytes.fromhex(digest), caller
    if not known:
        raise SettingsError(
            f"expected a key in {path}, got none: `python -m server.keys new NAME --file {path}` makes one"
        )


def _lines(path: Path) -> list[str]:
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise SettingsError(
                f"expected nobody but its owner to read and write {path}, got mode {stat.S_IMODE(mode):o}: "
                f"run `chmod 600 {path}`"
            )
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"expected HOTROW_KEYS_FILE to be a text file, got: {error}") from None


def _caller(words: Sequence[str], where: str) -> tuple[Caller, str]:
    if len(words) != 3 or not _NAME.fullmatch(words[0]) or not _DIGEST.fullmatch(words[2].lower()):
        raise SettingsError(f"expected NAME SCOPES SHA256 in {where}, got something else")
    return Caller(words[0], read_scopes(words[1], where)), words[2].lower()


def read_scopes(text: str, where: str) -> frozenset[str]:
    """Scopes separated by commas; raises `SettingsError` for one that there is not."""
    scopes = frozenset(filter(None, text.split(",")))
    if not scopes or not scopes <= set(SCOPES):
        got = listed(sorted(scopes - set(SCOPES))) or "none"
        raise SettingsError(f"expected scopes of {', '.join(SCOPES)} in {where}, got {got}")
    return scopes


def new_key(name: str, scopes: str) -> tuple[str, str]:
    """A key that nobody has, and its line for the file; raises `SettingsError` for a bad name or scope."""
    key = f"hr_{secrets.token_urlsafe(KEY_BYTES)}"
    words = [name, scopes, hashlib.sha256(key.encode()).hexdigest()]
    _caller(words, "the new line")
    return key, " ".join(words) + "\n"
