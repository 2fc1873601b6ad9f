"""A second model beside a served one, the challenger: where it lies, and which requests are its.

A model served from `models/credit` has its challenger in `models/credit.challenger`, a bundle of
the same name. There `split.json` may say that it answers a share of the requests.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson

from server.errors import BundleError, first_line
from server.model.bundle import Bundle
from server.model.files import MANIFEST_FILE, read_manifest

SPLIT_FILE = "split.json"
#: Requests are split by their `X-Request-ID`, or by a field of the row.
BY_REQUEST_ID = "request_id"
#: Keys are drawn into so many equal parts.
_PARTS = 2**64


class TrafficSplit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `share`, in percent, of the requests that the challenger answers, drawn `by` a key of theirs."""

    share: Annotated[float, msgspec.Meta(gt=0.0, le=100.0)]
    by: str = BY_REQUEST_ID

    def draws(self, label: str) -> Callable[[bytes], bool]:
        """Whether a key is the challenger's, which is `label`: the same on every machine, for ever.

        The keyed BLAKE2 of the key is a number from 0 to 1, and a key the challenger's if it lies
        below the share: a larger share takes keys from the champion and gives none back. Each
        challenger draws anew.
        """
        blake2b, number = hashlib.blake2b, int.from_bytes
        salt, below = label.encode(), int(self.share / 100 * _PARTS)
        if len(salt) > blake2b.MAX_KEY_SIZE:  # cut, it would lack the version
            salt = blake2b(salt).digest()

        def drawn(key: bytes) -> bool:
            return number(blake2b(key, digest_size=8, key=salt).digest()) < below

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


def described_challenger(served: Path) -> Bundle | None:
    """The challenger of the model in a folder as its manifest tells, its files not looked at.

    Raises `BundleError`.
    """
    if not has_challenger(served):
        return None
    folder = challenger_folder(served)
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

    def request_id(_: bytes, members: bytes) -> bytes:
        found = orjson.loads(b"{%b}" % members[1:]) if members else {}
        return _text(found.get("header_request_id", found.get(BY_REQUEST_ID)))

    def field(body: bytes, _: bytes) -> bytes:
        try:
            found: Mapping[str, Any] = orjson.loads(body)
            return _text(found.get(by))
        except (orjson.JSONDecodeError, AttributeError):
            return b""

    return request_id if by == BY_REQUEST_ID else field


def _text(value: Any) -> bytes:
    """The same for 7, 7.0 and "7"."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return b"" if value is None else orjson.dumps(value)
