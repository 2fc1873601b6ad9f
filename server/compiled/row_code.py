"""The compiled code that scores one row, as a worker runs it: without a compiler, and without ONNX.

A process of its own makes it (`row_compiler.py`), compares it with ONNX Runtime, and keeps it under the
digest of the bundle in the user's cache. It is plain machine code that calls nothing.
"""

import ctypes
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from server.compiled.kept import (
    cache_folder,
    executable,
    packed,
    read_sealed,
    sources_digest,
    unpacked,
    unsealed,
    write_sealed,
)
from server.compiled.row_walk import CALL, RowTable
from server.compiled.walk import node_kinds
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.schema import Row

#: Behind code; else it is a sentence that says why there is none.
_END = b"\0code"
_signature = ctypes.PYFUNCTYPE(ctypes.c_double, ctypes.c_char_p, ctypes.c_void_p)


class RowCode(NamedTuple):
    """Machine code of `row_walk.row_function`, and the tables of the forest of one bundle.

    `dtype` is that of the sum, `row_dtype` that of what the trees compare; `digest` the bundle's.
    """

    digest: str
    width: int
    dtype: np.dtype[Any]
    row_dtype: np.dtype[Any]
    table: RowTable
    machine_code: bytes

    def packed(self) -> bytes:
        """All of it, as `unpacked` takes it."""
        pieces = [self.machine_code, *(array.tobytes() for array in self.table), _END]
        types = [self.dtype.str, self.row_dtype.str]
        return packed({"digest": self.digest, "width": self.width, "types": types}, pieces)

    @classmethod
    def unpacked(cls, made: bytes) -> "RowCode":
        head, (machine_code, nodes, weights, roots, _) = unpacked(made)
        dtype, row_dtype = map(np.dtype, head["types"])
        table = RowTable(
            np.frombuffer(nodes, node_kinds(row_dtype)),
            np.frombuffer(weights, dtype),
            np.frombuffer(roots, np.int32),
        )
        return cls(head["digest"], head["width"], dtype, row_dtype, table, machine_code)


def path_of(bundle: Bundle) -> Path:
    """Where the code of a bundle is kept: under its digest, and that of what makes and judges the code."""
    digest = sources_digest()
    for part in (bundle.digest, platform.machine(), onnxruntime.__version__):
        digest.update(part.encode() + b"\n")
    return cache_folder() / f"{digest.hexdigest()}.row"


def kept_code(bundle: Bundle) -> RowCode | str | None:
    """The code of a bundle that was made before, or why none was; None if that was not tried."""
    return _of(read_sealed(path_of(bundle)), bundle)


def keep(path: Path, code: RowCode | str) -> None:
    """Keep the code of a bundle, or why there is none, if that can be."""
    write_sealed(path, content_of(code))


def content_of(code: RowCode | str) -> bytes:
    """The bytes of either."""
    return code.packed() if isinstance(code, RowCode) else code.encode()


def code_in(content: bytes, bundle: Bundle) -> RowCode | str | None:
    """What a process has made (`kept.sealed`) for a bundle; None if it is not whole, or another's."""
    return _of(unsealed(content), bundle)


def _of(made: bytes | None, bundle: Bundle) -> RowCode | str | None:
    if made is None or not made.endswith(_END):
        return None if made is None else made.decode(errors="replace")
    code = RowCode.unpacked(made)
    return code if code.digest == bundle.digest else None


def margin_by(code: RowCode, predictor: Predictor) -> Callable[[Row], float]:
    """`Predictor.margin` by this code, which puts the margin where `last_margins` finds it.

    Raises `OSError` where the system runs no code that a process brings.
    """
    page = executable(code.machine_code)
    row = np.zeros(code.width, np.float32)
    table, margin = code.table, predictor.margin_array
    numbers = {
        "nodes": table.nodes.ctypes.data,
        "weights": table.weights.ctypes.data,
        "roots": table.roots.ctypes.data,
        "trees": len(table.roots),
        "margin": margin.ctypes.data,
        "row": row.ctypes.data,
        "width": code.width,
    }
    call = np.array([numbers[name] for name in CALL], np.uint64)
    # Not `CFUNCTYPE`: to let go of the interpreter for a microsecond costs more than it gives.
    function, at = _signature(np.frombuffer(page, np.uint8).ctypes.data), call.ctypes.data
    size = 8 * code.width

    def score(features: Row, keep: Any = (page, row, table, margin, call)) -> float:  # noqa: ARG001
        if len(features) != size:  # the code looks no further than it is told, but not at how much there is
            raise ValueError(f"expected {size} bytes of a row, got {len(features)}")
        return function(features, at)  # type: ignore[no-any-return]

    return score
