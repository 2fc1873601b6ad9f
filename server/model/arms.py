"""Other models beside a served one, its challengers: where they lie, and which requests are one's.

A model served from `models/credit` has its challenger in `models/credit.challenger`, a bundle of
the same name. There `split.json` may say that it answers a share of the requests. Those that the
settings name (`--challenger`) answer none.
"""

import hashlib
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson

from server.errors import BundleError, first_line
from server.model.bundle import Bundle
from server.model.files import MANIFEST_FILE, read_manifest

SPLIT_FILE = "split.json"
#: More are not taken: each is a process of 30 MiB and more with a queue of 4 MiB, and the observer
#: writes each answer into every queue.
MAX_CHALLENGERS = 8
#: Requests are split by their `X-Request-ID`, or by a field of the row.
BY_REQUEST_ID = "request_id"
#: Keys are drawn into so many equal parts.
_PARTS = 2**64
#: How members begin that have the request id as it came.
_ID_FIRST = re.compile(rb',"request_id":"([^"\\]*)"').match


class TrafficSplit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `share`, in percent, of the requests that the challenger answers, drawn `by` a key of theirs."""

    share: Annotated[float, msgspec.Meta(gt=0.0, le=100.0)]
    by: str = BY_REQUEST_ID

    def draws(self, label: str) -> Callable[[bytes], bool]:
        """Whether a key is the challenger's, which is `label`: the same on every machine, for ever.

        A polynomial of the key's CRC-32 (of second degree, modulo 2^64, its coefficients the BLAKE2 of
        the label) is a number from 0 to 1, and a key the challenger's if it lies below the share: a
        larger share takes keys from the champion and gives none back. Each challenger draws anew. The
        CRC alone, or a line through it, is no draw: keys that are counted up lie on it evenly, or in
        heaps. A hash made for it takes a microsecond of every request.
        """
        crc32, below, last = zlib.crc32, int(self.share / 100 * _PARTS), _PARTS - 1
        digest = hashlib.blake2b(label.encode(), digest_size=16).digest()
        factor, shift = int.from_bytes(digest[:8]) | 1, int.from_bytes(digest[8:])

        def drawn(key: bytes) -> bool:
            number = crc32(key)
            return ((number * factor + shift) * (number + 1) & last) < below

        return drawn


def challenger_folder(served: Path) -> Path:
    """Where the challenger of the model in a folder lies, whether there is one or not."""
    served = served.resolve()  # of a link, beside the folder it points to
    return served.with_name(f"{served.name}.challenger")


def has_challenger(served: Path) -> bool:
    """Whether the model in a folder has a challenger; itself, left by a promotion cut short, is none."""
    try:
        manifest = (challenger_folder(served) / MANIFEST_FILE).read_bytes()
        return manifest != (served / MANIFEST_FILE).read_bytes()
    except OSError:
        return False


def challengers_of(
    served: Bundle, named: Iterable[Path], say: Callable[[BundleError], object] | None = None
) -> list[Bundle]:
    """What scores beside a served model: its folder's challenger, and other versions of it that are `named`.

    Of one that cannot be read `say` is told why; it ends nothing. A version counts once, and the served
    one, as it is after a promotion, not at all.
    """
    own = [challenger_folder(served.directory)] if has_challenger(served.directory) else []
    found: dict[str, Bundle] = {}
    for folder in (*own, *named):
        try:
            bundle = described(folder)
        except BundleError as error:
            if say is not None:
                say(error)
            continue
        if bundle.name == served.name and bundle.label != served.label:
            found.setdefault(bundle.label, bundle)
    return list(found.values())


def described(folder: Path) -> Bundle:
    """A bundle as its manifest tells, its files not looked at; raises `BundleError`."""
    try:
        return Bundle.from_manifest(folder, *read_manifest(folder))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"expected a bundle in {folder}, got: {first_line(error)}") from None


def split_of(served: Path) -> TrafficSplit | None:
    """Which requests the challenger of the model in a folder answers, None if it answers none.

    Raises `BundleError`.
    """
    file = challenger_folder(served) / SPLIT_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=TrafficSplit) if has_challenger(served) else None
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise BundleError(
            f"expected a share of more than 0 and at most 100 percent in {file}, got: {first_line(error)}"
        ) from None


def key_of(by: str) -> Callable[[bytes, bytes], bytes]:
    """A function from the body and the line's members of a request to its key, empty if it has none."""
    return _header_id if by == BY_REQUEST_ID else _field(by)


def _header_id(_: bytes, members: bytes) -> bytes:
    """The `X-Request-ID`, of members as `RequestIdentity` has them; only unusual ones are read as JSON."""
    if found := _ID_FIRST(members):
        return found[1]
    said = orjson.loads(b"{%b}" % members[1:]) if members else {}
    return _text(said.get("header_request_id", said.get(BY_REQUEST_ID)))


def _field(name: str) -> Callable[[bytes, bytes], bytes]:
    """What reads one field of a row and passes over the others: they are read with the row."""
    one = msgspec.defstruct("OneField", [("value", Any, msgspec.field(name=name, default=None))], gc=False)
    decode = msgspec.json.Decoder(one).decode

    def field(body: bytes, _: bytes) -> bytes:
        try:
            return _text(decode(body).value)  # type: ignore[attr-defined]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return b""  # the row's own decoder words what this is

    return field


def _text(value: Any) -> bytes:
    """The same for 7, 7.0 and "7"; empty for what is no text or number."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return orjson.dumps(value) if type(value) is float else b"%d" % value if isinstance(value, int) else b""
