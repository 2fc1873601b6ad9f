"""Ways to score a large batch of an XGBoost model with ONNX Runtime: what was tried against its own speed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import onnxruntime

from export.conversion import Conversion
from export.graph import build_graph
from export.trees import Forest, Split, Tree
from server.model.schema import Matrix

#: From a conversion, its rows float64 [n, F] and a number of threads to a call that scores them all.
Layout: TypeAlias = Callable[[Conversion, Matrix, int], Callable[[], Any]]


def _session(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def whole(conversion: Conversion, rows: Matrix, threads: int) -> Callable[[], Any]:
    """The served graph, the whole batch in one call."""
    session = _session(conversion.graph({}), threads)
    return lambda: session.run(None, {"features": rows})


def blocks(size: int) -> Layout:
    """The served graph, rows in blocks that fit a cache, shared out to Python threads."""

    def layout(conversion: Conversion, rows: Matrix, threads: int) -> Callable[[], Any]:
        session = _session(conversion.graph({}), 1)
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        pool = ThreadPoolExecutor(threads)

        def score() -> Any:
            return list(pool.map(lambda part: session.run(None, {"features": part}), parts))

        return score

    return layout


def breadth_first(conversion: Conversion, rows: Matrix, threads: int) -> Callable[[], Any]:
    """The nodes of each tree in the order of their depth, so that the upper ones lie together."""
    assert conversion.forest is not None
    forest = replace(conversion.forest, trees=tuple(map(_by_depth, conversion.forest.trees)))
    session = _session(build_graph(forest, {}), threads)
    return lambda: session.run(None, {"features": rows})


def slices(count: int) -> Layout:
    """The trees in several graphs that follow each other: fewer nodes compete for the cache.

    Sums of parts round elsewhere: the last bit is lost.
    """

    def layout(conversion: Conversion, rows: Matrix, threads: int) -> Callable[[], Any]:
        forest = conversion.forest
        assert forest is not None
        size = -(-len(forest.trees) // count)
        parts = [_part(forest, start, size, threads) for start in range(0, len(forest.trees), size)]
        return lambda: np.sum([part.run(None, {"features": rows})[0] for part in parts], axis=0)

    return layout


def _part(forest: Forest, start: int, size: int, threads: int) -> onnxruntime.InferenceSession:
    trees = forest.trees[start : start + size]
    part = replace(forest, trees=trees, groups=(0,) * len(trees), base=() if start else forest.base)
    return _session(build_graph(part, {}), threads)


def _by_depth(tree: Tree) -> Tree:
    order, level = [], [0] if tree.splits else []
    while level:
        order += level
        level = [child for i in level for child in (tree.splits[i].left, tree.splits[i].right) if child >= 0]
    number = {old: new for new, old in enumerate(order)}
    return Tree(tuple(_renumbered(tree.splits[old], number) for old in order), tree.leaves)


def _renumbered(split: Split, number: dict[int, int]) -> Split:
    left, right = (number.get(child, child) for child in (split.left, split.right))
    return replace(split, left=left, right=right)


LAYOUTS: dict[str, Layout] = {
    "as served": whole,
    "breadth first": breadth_first,
    "blocks of 256 rows": blocks(256),
    "blocks of 2,048 rows": blocks(2048),
    "trees in 4 graphs": slices(4),
}
