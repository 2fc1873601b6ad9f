"""Compiled code on the disk, with all that is needed to run it: of nobody but this user, and whole."""

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from server.compiled.walk import NodeTable, node_kinds

_DIGEST_BYTES, _LENGTH_BYTES = 32, 8
#: Below a file: nothing is read from there, and nothing written.
_NOWHERE = Path(os.devnull, "hotrow")


class KeptCode(NamedTuple):
    """An object with the functions `names`, and of its forest what it takes to call them.

    `dtype` is that of the sums, `row_dtype` that of the rows (see `GraphForest`); `tables` are those of a
    forest that is walked.
    """

    names: tuple[str, ...]
    targets: int
    width: int
    dtype: np.dtype[Any]
    row_dtype: np.dtype[Any]
    before: bytes | None
    tables: list[NodeTable] | None
    object: bytes


def cache_folder() -> Path:
    """The user's cache (XDG Base Directory specification); of a user without a home one that is not there."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hotrow"
    except RuntimeError:  # an id alone, as containers and services have them
        return _NOWHERE


def sources_digest() -> "hashlib._Hash":
    """Of what makes the code: another version makes it anew."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest


def read_kept(path: Path) -> KeptCode | None:
    """What was kept of a bundle; None if nothing was."""
    made = read_sealed(path)
    return None if made is None else _unpacked(made)


def write_kept(path: Path, code: KeptCode) -> None:
    """Keep it; what cannot be written is made again the next time."""
    write_sealed(path, _packed(code))


def sealed(made: bytes) -> bytes:
    """The same behind its digest."""
    return hashlib.sha256(made).digest() + made


def unsealed(content: bytes) -> bytes | None:
    """What stands behind a digest; None if it is another's."""
    digest, made = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return made if hashlib.sha256(made).digest() == digest else None


def read_sealed(path: Path) -> bytes | None:
    """What `write_sealed` wrote: whole, and written by nobody but this user; None otherwise."""
    try:
        status = path.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            return None
        return unsealed(path.read_bytes())
    except OSError:
        return None


def write_sealed(path: Path, made: bytes) -> None:
    """Write a file in one step, if that can be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as draft:
            draft.write(sealed(made))
        Path(draft.name).replace(path)
    except OSError:
        return


def packed(head: Mapping[str, Any], pieces: Sequence[bytes]) -> bytes:
    """The length of a head in JSON, the head, and the pieces whose lengths it tells."""
    content = orjson.dumps({**head, "pieces": list(map(len, pieces))})
    return b"".join([len(content).to_bytes(_LENGTH_BYTES, "little"), content, *pieces])


def unpacked(made: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The head and the pieces that `packed` was given."""
    at = _LENGTH_BYTES + int.from_bytes(made[:_LENGTH_BYTES], "little")
    head = orjson.loads(made[_LENGTH_BYTES:at])
    pieces = []
    for length in head.pop("pieces"):
        pieces.append(made[at : at + length])
        at += length
    return head, pieces


def _packed(code: KeptCode) -> bytes:
    pieces = [code.object, code.before or b""]
    for table in code.tables or ():
        pieces += [table.nodes.tobytes(), table.weights.tobytes()]
    head = {
        "names": code.names,
        "targets": code.targets,
        "width": code.width,
        "types": [code.dtype.str, code.row_dtype.str],
        "tables": None if code.tables is None else [table.target for table in code.tables],
    }
    return packed(head, pieces)


def _unpacked(made: bytes) -> KeptCode:
    head, pieces = unpacked(made)
    dtype, row_dtype = map(np.dtype, head["types"])
    tables = None
    if head["tables"] is not None:
        tables = [
            NodeTable(np.frombuffer(nodes, node_kinds(row_dtype)), np.frombuffer(weights, dtype), target)
            for target, nodes, weights in zip(head["tables"], pieces[2::2], pieces[3::2], strict=True)
        ]
    names = tuple(head["names"])
    return KeptCode(
        names, head["targets"], head["width"], dtype, row_dtype, pieces[1] or None, tables, pieces[0]
    )
