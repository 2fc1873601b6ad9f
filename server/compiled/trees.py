"""The compiled backend of `server.batch`: equal bits, or it is not used.

The code is made for one bundle and one processor, compared with ONNX Runtime on rows
at and around every threshold before it is used for the first time, and kept under the
digest of both in the user's cache: there it is found without a look at the graph. Code
from elsewhere is never run.
"""

import ctypes
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import llvmlite
import llvmlite.binding as llvm
import numpy as np
import numpy.typing as npt
import onnxruntime

from server.compiled.code import LANES, MAX_SPLITS, Code
from server.compiled.forest import GraphForest, NotCompilable, categories, thresholds
from server.compiled.kept import KeptCode, alone, cache_folder, read_kept, sources_digest, write_kept
from server.compiled.walk import NodeTable, WalkCode
from server.model.bundle import GRAPH_FILE, Bundle
from server.model.files import INPUT
from server.model.link import Margins
from server.model.predictor import Predictor, one_thread_session
from server.model.schema import Matrix

#: Rows that one group of trees goes through before the next: their values stay in the second cache.
CHUNK_ROWS = 2048
#: Rows that are compared before the first use, beside the golden rows.
PARITY_ROWS = 16_384

_Function: TypeAlias = Callable[..., None]
_signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
_walk_signature = ctypes.CFUNCTYPE(
    None, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64
)


class Compiled(NamedTuple):
    """The margins of many rows by compiled trees, and what there is to say of it."""

    margins: Callable[[Matrix], Margins]
    note: str


def compiled(bundle: Bundle, predictor: Predictor) -> Compiled:
    """The backend of a bundle; raises `NotCompilable` where ONNX Runtime has to do."""
    path = _path(bundle)
    kept = read_kept(path)
    if kept is None:
        with alone(path):
            kept = read_kept(path)
            if kept is None:
                return _made(path, bundle, predictor)
    return Compiled(CompiledTrees(kept, bundle).margins, "scored by compiled trees")


def _made(path: Path, bundle: Bundle, predictor: Predictor) -> Compiled:
    started = time.perf_counter()
    forest = forest_of(bundle)
    code = _code(forest)
    made = KeptCode(
        code.names,
        forest.targets,
        forest.width,
        np.dtype(forest.dtype),
        np.dtype(forest.row_dtype),
        forest.before,
        code.tables if isinstance(code, WalkCode) else None,
        _machine().emit_object(llvm.parse_assembly(code.text)),
    )
    trees = CompiledTrees(made, bundle)
    _check_parity(trees, predictor, forest)
    write_kept(path, made)
    seconds = time.perf_counter() - started
    return Compiled(trees.margins, f"scored by compiled trees, compiled in {seconds:.1f} s")


def is_kept(bundle: Bundle) -> bool:
    """Whether the code of a bundle is there from an earlier run."""
    return _path(bundle).exists()


def forest_of(bundle: Bundle) -> GraphForest:
    """The forest in a bundle's graph; raises `NotCompilable`."""
    from server.compiled.graph import read_forest  # ONNX takes a tenth of a second to import

    try:
        forest = read_forest(bundle.read(GRAPH_FILE))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise NotCompilable(f"its forest cannot be read ({error!r})") from None
    if forest.targets != bundle.outputs:
        raise NotCompilable("its sums are not its margins")
    if any(bundle.schema.features[i].kind == "number" for i in categories(forest)):
        # Of 2.5 the operator asks for another member than a compare does.
        raise NotCompilable("a split by categories has a feature of other numbers than codes")
    return forest


def _code(forest: GraphForest) -> Code | WalkCode:
    """All splits compared where the trees are small, or else walked."""
    large = max((tree.splits for tree in forest.trees), default=0)
    return Code(forest) if large <= MAX_SPLITS else WalkCode(forest)


class CompiledTrees:
    """Scores rows; for any thread."""

    def __init__(self, code: KeptCode, bundle: Bundle) -> None:
        self._width, self._targets, self._dtype = code.width, code.targets, code.dtype
        self._row_dtype, self._tables = code.row_dtype, code.tables
        self._several = bundle.classes != ()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code.object))
        self._engine.finalize_object()
        signature = _walk_signature if self._tables is not None else _signature
        addresses = map(self._engine.get_function_address, code.names)
        # They live as long as the engine.
        self._functions: list[_Function] = [signature(address) for address in addresses]
        self._before = one_thread_session(code.before) if code.before else None

    def margins(self, rows: Matrix) -> Margins:
        """`Predictor.margins`, equal to the bit."""
        if self._before is not None:
            (rows,) = self._before.run(None, {INPUT: rows})
        count = -(-len(rows) // LANES) * LANES
        sums = np.zeros((self._targets, count), self._dtype)
        if self._tables is None:
            self._compare(rows, sums)
        else:
            self._walk(rows, sums, self._tables)
        margins = sums[:, : len(rows)].T.astype(np.float64)
        return margins if self._several else margins[:, 0]

    def _compare(self, rows: Matrix, sums: npt.NDArray[np.floating]) -> None:
        count, size = sums.shape[1], self._dtype.itemsize
        columns = np.zeros((self._width, count), self._dtype)
        columns[:, : len(rows)] = rows.T
        for start in range(0, count, CHUNK_ROWS):
            offset, some = start * size, min(CHUNK_ROWS, count - start)
            for function in self._functions:  # the interpreter is free meanwhile
                function(columns.ctypes.data + offset, count, sums.ctypes.data + offset, some)

    def _walk(self, rows: Matrix, sums: npt.NDArray[np.floating], tables: list[NodeTable]) -> None:
        count, size = sums.shape[1], self._dtype.itemsize
        padded = np.zeros((count, self._width), self._row_dtype)
        padded[: len(rows)] = rows
        (walk,) = self._functions
        for start in range(0, count, CHUNK_ROWS):
            some, at = min(CHUNK_ROWS, count - start), padded.ctypes.data + start * padded.strides[0]
            for table in tables:
                to = sums.ctypes.data + (table.target * count + start) * size
                walk(table.nodes.ctypes.data, table.weights.ctypes.data, at, self._width, to, some)


def _machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )


def _path(bundle: Bundle) -> Path:
    """Under the digest of the bundle, of what makes the code, of the processor, and of the libraries.

    ONNX Runtime is one: with another version the margins are compared anew.
    """
    digest = sources_digest()
    digest.update(bundle.digest.encode())
    features = llvm.get_host_cpu_features().flatten()
    machine = (platform.machine(), llvm.get_host_cpu_name(), features)
    digest.update("\n".join((llvmlite.__version__, onnxruntime.__version__, *machine)).encode())
    return cache_folder() / f"{digest.hexdigest()}.o"


def _check_parity(trees: CompiledTrees, predictor: Predictor, forest: GraphForest) -> None:
    """Raise `NotCompilable` if one margin of rows around the thresholds differs by a bit."""
    rows = rows_to_compare(predictor.bundle, forest)
    ours, theirs = trees.margins(rows), predictor.margins(rows)
    if ours.shape != theirs.shape or ours.tobytes() != np.ascontiguousarray(theirs).tobytes():
        raise NotCompilable("its margins are not equal to the bit")


def rows_to_compare(bundle: Bundle, forest: GraphForest) -> Matrix:
    """What is scored both ways before the first use: `parity_rows` and the golden rows."""
    golden = [np.frombuffer(bundle.schema.encode(one.fields)) for one in bundle.golden_rows()]
    return np.concatenate([parity_rows(forest), *([np.array(golden)] if golden else [])])


def parity_rows(forest: GraphForest, count: int = PARITY_ROWS) -> Matrix:
    """Rows of values at, beside and between the thresholds of each feature, missing and extreme ones."""
    random = np.random.default_rng(0)
    rows = np.empty((count, forest.width))
    found, codes = thresholds(forest), categories(forest)
    for feature in range(forest.width):
        at = found.get(feature, np.zeros(1))
        rows[:, feature] = _codes(at, random, count) if feature in codes else _values(at, random, count)
    return rows


def _codes(at: npt.NDArray[np.float64], random: "np.random.Generator", count: int) -> npt.NDArray[np.float64]:
    codes = random.choice(np.concatenate([at, at + 1.0, [0.0]]), count)
    return np.where(random.random(count) < 0.1, np.nan, codes)


def _values(
    at: npt.NDArray[np.float64], random: "np.random.Generator", count: int
) -> npt.NDArray[np.float64]:
    base = random.choice(at, count)
    kind = random.integers(0, 8, count)
    other = random.choice(at, count)
    choices = [
        base,
        np.nextafter(base, np.inf),
        np.nextafter(base, -np.inf),
        np.nextafter(base.astype(np.float32), np.float32(np.inf)).astype(np.float64),
        base / 2 + other / 2,
        np.full(count, np.nan),
        random.choice([0.0, -0.0, 1e300, -1e300, 1e-40, 5e-324], count),
    ]
    return np.select([kind == i for i in range(len(choices))], choices, np.round(base))
