"""Large trees as machine code: several rows walk down a tree at once.

Of a tree of thousands of leaves a row passes some dozen splits: comparing all of them, as
`code.py` does, would be dear. What makes a walk slow is waiting, for the branch that was guessed
wrongly and for the node that comes from the second cache. Here no step is a branch, and `LANES`
rows wait at once. The code is the same for every forest; its nodes are a table.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.compiled.code import LANES
from server.compiled.forest import LESS, MEMBER, GraphForest, GraphTree, Node, NotCompilable

#: In the sign of a node's feature: a missing value is a yes.
MISSING_YES = -(2**31)
KINDS = {np.dtype(np.float64): "double", np.dtype(np.float32): "float"}


class NodeTable(NamedTuple):
    """A tree's nodes from the root on, and the value of each that is a leaf.

    Of a node these are what its feature is compared with (at most: yes), the feature, and where the
    node after a yes stands, behind which is that after a no: the next node is a sum, which no compiler
    makes a branch of. A leaf leads to itself.
    """

    nodes: npt.NDArray[np.void]
    weights: npt.NDArray[np.floating]
    target: int


class WalkCode:
    """The LLVM IR of `walk` (nodes, weights, rows, width, sums, count), and the forest's tables.

    `rows` is [count, width] in the precision of rows, `sums` [count]; `count` is a multiple of `LANES`.
    """

    names = ("walk",)

    def __init__(self, forest: GraphForest) -> None:
        self.tables = [_table(tree, forest) for tree in forest.trees]
        kind, row_kind = (KINDS[np.dtype(dtype)] for dtype in (forest.dtype, forest.row_dtype))
        self.text = _function(kind, row_kind)


def node_kinds(row_dtype: npt.DTypeLike) -> np.dtype[np.void]:
    """What a node of a table is made of."""
    return np.dtype([("value", row_dtype), ("feature", np.int32), ("yes", np.int32)])


def _table(tree: GraphTree, forest: GraphForest) -> NodeTable:
    order: list[Node] = [tree.root]
    rows: list[tuple[float, int, int]] = []
    for place, node in enumerate(order):  # which grows meanwhile
        if node.yes is None or node.no is None:
            rows.append((np.inf, MISSING_YES, place))
        else:
            feature = node.feature | node.missing_yes * MISSING_YES
            rows.append((at_most(node, forest), feature, len(order)))
            order += [node.yes, node.no]
    weights = np.array([node.weight for node in order], forest.dtype)
    return NodeTable(np.array(rows, node_kinds(forest.row_dtype)), weights, tree.target)


def at_most(node: Node, forest: GraphForest) -> float:
    """The largest value of a row for which the answer is yes."""
    if node.mode == MEMBER:
        raise NotCompilable("a large tree asks for categories")
    lowest = np.array(-np.inf)
    value = np.array(node.value, np.float64)
    rounded = value.astype(forest.row_dtype)
    if rounded > value or (node.mode == LESS and rounded == value):
        rounded = np.nextafter(rounded, lowest.astype(forest.row_dtype))
    return float(rounded)


def _function(kind: str, row_kind: str) -> str:
    lanes = range(LANES)
    head = "\n".join(
        f"%r{i} = add i64 %row, {i}\n%o{i} = mul i64 %r{i}, %width\n"
        f"%x{i} = getelementptr {row_kind}, ptr %rows, i64 %o{i}"
        for i in lanes
    )
    ends = "\n".join(
        f"%w{i} = getelementptr {kind}, ptr %weights, i32 %m{i}\n%leaf{i} = load {kind}, ptr %w{i}\n"
        f"%s{i} = getelementptr {kind}, ptr %sums, i64 %r{i}\n%old{i} = load {kind}, ptr %s{i}\n"
        f"%new{i} = fadd {kind} %old{i}, %leaf{i}\nstore {kind} %new{i}, ptr %s{i}"
        for i in lanes
    )
    return (
        f"%node = type {{ {row_kind}, i32, i32 }}\n"
        "define void @walk(ptr noalias readonly %nodes, ptr noalias readonly %weights, "
        "ptr noalias readonly %rows, i64 %width, ptr noalias %sums, i64 %count) {\n"
        f"entry:\nbr label %rowloop\nrowloop:\n%row = phi i64 [0, %entry], [%next, %end]\n{head}\n"
        f"{descent(row_kind, 'rowloop', ['0'] * LANES)}end:\n{ends}\n"
        f"%next = add i64 %row, {LANES}\n%more = icmp ult i64 %next, %count\n"
        "br i1 %more, label %rowloop, label %done\ndone:\nret void\n}\n"
    )


def descent(kind: str, before: str, roots: Sequence[str]) -> str:
    """The block `step`, entered from `before` and left for `end`: all lanes go down, until none moves."""
    lanes = range(LANES)
    nodes = "\n".join(f"%n{i} = phi i32 [{root}, %{before}], [%m{i}, %step]" for i, root in enumerate(roots))
    steps = "\n".join(_step(i, kind) for i in lanes)
    moved = "\n".join(f"%any{i} = or i1 %any{i - 1}, %moved{i}" for i in lanes[1:])
    return (
        f"br label %step\nstep:\n{nodes}\n{steps}\n%any0 = or i1 %moved0, false\n{moved}\n"
        f"br i1 %any{LANES - 1}, label %step, label %end\n"
    )


def _step(i: int, kind: str) -> str:
    """One row's way to the next node; of a leaf the answer is always yes."""
    size = 8 if kind == "double" else 4
    return (
        f"%p{i} = getelementptr %node, ptr %nodes, i32 %n{i}\n%value{i} = load {kind}, ptr %p{i}\n"
        f"%pf{i} = getelementptr i8, ptr %p{i}, i64 {size}\n%sf{i} = load i32, ptr %pf{i}\n"
        f"%py{i} = getelementptr i8, ptr %p{i}, i64 {size + 4}\n%yes{i} = load i32, ptr %py{i}\n"
        f"%f{i} = and i32 %sf{i}, {2**31 - 1}\n%px{i} = getelementptr {kind}, ptr %x{i}, i32 %f{i}\n"
        f"%v{i} = load {kind}, ptr %px{i}\n%le{i} = fcmp ole {kind} %v{i}, %value{i}\n"
        f"%nan{i} = fcmp uno {kind} %v{i}, %v{i}\n%sign{i} = icmp slt i32 %sf{i}, 0\n"
        f"%mis{i} = and i1 %nan{i}, %sign{i}\n%is{i} = or i1 %le{i}, %mis{i}\n"
        f"%not{i} = xor i1 %is{i}, true\n%one{i} = zext i1 %not{i} to i32\n"
        f"%m{i} = add i32 %yes{i}, %one{i}\n%moved{i} = icmp ne i32 %m{i}, %n{i}"
    )
