"""Compiled code on the disk, with all that is needed to run it."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from server.compiled.walk import NodeTable, node_kinds

_DIGEST_BYTES, _LENGTH_BYTES = 32, 8


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


def read_kept(path: Path) -> KeptCode | None:
    """What was kept: whole, and written by nobody but this user; None otherwise."""
    try:
        status = path.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    digest, made = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return _unpacked(made) if hashlib.sha256(made).digest() == digest else None


def write_kept(path: Path, code: KeptCode) -> None:
    """Keep it; what cannot be written is made again the next time."""
    made = _packed(code)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as draft:
            draft.write(hashlib.sha256(made).digest() + made)
        Path(draft.name).replace(path)
    except OSError:
        return


def _packed(code: KeptCode) -> bytes:
    """The length of a head in JSON, the head, and the pieces whose lengths it tells."""
    pieces = [code.object, code.before or b""]
    for table in code.tables or ():
        pieces += [table.nodes.tobytes(), table.weights.tobytes()]
    head = orjson.dumps(
        {
            "names": code.names,
            "targets": code.targets,
            "width": code.width,
            "types": [code.dtype.str, code.row_dtype.str],
            "tables": None if code.tables is None else [table.target for table in code.tables],
            "pieces": list(map(len, pieces)),
        }
    )
    return b"".join([len(head).to_bytes(_LENGTH_BYTES, "little"), head, *pieces])


def _unpacked(made: bytes) -> KeptCode:
    at = _LENGTH_BYTES + int.from_bytes(made[:_LENGTH_BYTES], "little")
    head = orjson.loads(made[_LENGTH_BYTES:at])
    pieces = []
    for length in head["pieces"]:
        pieces.append(made[at : at + length])
        at += length
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
