"""One row as machine code: eight trees are walked at once.

`walk.py` waits for eight rows at a tree; a request has one row, so here the lanes are trees.
The code is the same for every forest, which is two tables: nodes and leaves of all trees. The
leaves are added in the order of the trees.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server.compiled.code import LANES
from server.compiled.forest import MEMBER, GraphForest, Node, NotCompilable
from server.compiled.walk import KINDS, MISSING_YES, at_most, descent, node_kinds

#: The function of `row_function`, and what it takes beside the features: addresses and numbers of 64 bits.
NAME, CALL = "one_row", ("nodes", "weights", "roots", "trees", "margin", "row", "width")


class RowTable(NamedTuple):
    """Nodes of all trees (`node_kinds`), the value of each that is a leaf, and the root of each tree.

    There are a multiple of `LANES` trees: those that fill up add -0.0, which changes no sum.
    """

    nodes: npt.NDArray[np.void]
    weights: npt.NDArray[np.floating]
    roots: npt.NDArray[np.int32]


def row_table(forest: GraphForest) -> RowTable:
    """The tables of a forest of one output; raises `NotCompilable`."""
    if forest.targets != 1:
        raise NotCompilable("it has several outputs")
    if forest.before is not None and not forest.only_casts:
        raise NotCompilable("its graph prepares the rows before the trees")
    nodes: list[Node] = []  # a pair for each split: where a yes leads, and a no
    pairs: dict[tuple[int, int], int] = {}
    roots = []
    trees = [_compares(tree.root, {}) for tree in forest.trees]
    trees += [Node(weight=-0.0)] * (-len(trees) % LANES)
    for root in trees:
        roots.append(len(nodes))
        nodes.append(root)
    place = 0
    while place < len(nodes):  # which grows meanwhile
        yes, no = nodes[place].yes, nodes[place].no
        if yes is not None and no is not None and (id(yes), id(no)) not in pairs:
            pairs[id(yes), id(no)] = len(nodes)
            nodes += [yes, no]
        place += 1
    rows = []
    for place, node in enumerate(nodes):
        if node.yes is None or node.no is None:
            rows.append((np.inf, MISSING_YES, place))
        else:
            feature = node.feature | node.missing_yes * MISSING_YES
            rows.append((at_most(node, forest), feature, pairs[id(node.yes), id(node.no)]))
    return RowTable(
        np.array(rows, node_kinds(forest.row_dtype)),
        np.array([node.weight for node in nodes], forest.dtype),
        np.array(roots, np.int32),
    )


def _compares(root: Node, made: dict[int, Node]) -> Node:
    """The same tree with a compare for each split; one by membership becomes a few by order.

    What it asks of are codes, whole numbers (`forest_of`), so a set is some intervals.
    """
    waiting = [root]
    while waiting:
        node = waiting[-1]
        if node.yes is None or node.no is None:
            made[id(node)] = node
        elif id(node.yes) in made and id(node.no) in made:
            yes, no = made[id(node.yes)], made[id(node.no)]
            if node.mode == MEMBER:
                made[id(node)] = _intervals(node, yes, no)
            else:
                made[id(node)] = node._replace(yes=yes, no=no)
        else:
            waiting += [node.no, node.yes]
            continue
        waiting.pop()
    return made[id(root)]


def _intervals(node: Node, yes: Node, no: Node) -> Node:
    """`yes` for the members of a split, `no` for other codes, by a balanced tree of compares."""
    codes = sorted(set(node.members))
    if any(code != int(code) for code in codes):
        raise NotCompilable("a split asks for categories that are no whole numbers")
    missing = yes if node.missing_yes else no
    if not codes:  # a compare that is true of no code tells a missing value apart
        return Node(feature=node.feature, value=-np.inf, missing_yes=True, yes=missing, no=no)
    breaks = [(a, b) for a, b in pairwise(codes) if b != a + 1]
    # The last code of each interval: of no members, members, no members, and so on; then no members.
    ends = [codes[0] - 1, *(end for a, b in breaks for end in (a, b - 1)), codes[-1]]
    leaves = [no if i % 2 == 0 else yes for i in range(len(ends) + 1)]

    def between(first: int, last: int) -> Node:
        """The tree of leaves `first` to `last`; a missing value goes where there is its leaf."""
        if first == last:
            return leaves[first]
        middle = (first + last) // 2
        goes_left = any(leaf is missing for leaf in leaves[first : middle + 1])
        return Node(
            feature=node.feature,
            value=ends[middle],
            missing_yes=goes_left,
            yes=between(first, middle),
            no=between(middle + 1, last),
        )

    return between(0, len(leaves) - 1)


def row_function(dtype: npt.DTypeLike, row_dtype: npt.DTypeLike) -> str:
    """The LLVM IR of `one_row` (features, call): a float64, the margin, which it also puts to its place.

    `features` are float64; `call` is what `CALL` names. Where the trees compare float32
    the features are rounded to such first, as a cast does.
    """
    kind, row_kind = KINDS[np.dtype(dtype)], KINDS[np.dtype(row_dtype)]
    lanes = range(LANES)
    members = "\n".join(
        f"%at_{name} = getelementptr i64, ptr %call, i32 {i}\n"
        f"%{name} = load {'i64' if name in ('trees', 'width') else 'ptr'}, ptr %at_{name}"
        for i, name in enumerate(CALL)
        if name != "row" or row_kind == "float"
    )
    head = "\n".join(
        f"%t{i} = add i64 %tree, {i}\n%pr{i} = getelementptr i32, ptr %roots, i64 %t{i}\n"
        f"%root{i} = load i32, ptr %pr{i}\n%x{i} = getelementptr {row_kind}, ptr %compared, i64 0"
        for i in lanes
    )
    sums = ["%sum", *(f"%s{i}" for i in lanes)]
    ends = "\n".join(
        f"%w{i} = getelementptr {kind}, ptr %weights, i32 %m{i}\n%leaf{i} = load {kind}, ptr %w{i}\n"
        f"{sums[i + 1]} = fadd {kind} {sums[i]}, %leaf{i}"
        for i in lanes
    )
    return (
        f"%node = type {{ {row_kind}, i32, i32 }}\n"
        f"define double @{NAME}(ptr noalias readonly %features, ptr noalias readonly %call) {{\n"
        f"entry:\n{members}\n{_compared(row_kind)}"
        "treeloop:\n%tree = phi i64 [0, %begin], [%next, %end]\n"
        f"%sum = phi {kind} [0.0, %begin], [{sums[-1]}, %end]\n{head}\n"
        f"{descent(row_kind, 'treeloop', [f'%root{i}' for i in lanes])}end:\n{ends}\n"
        f"%next = add i64 %tree, {LANES}\n%more = icmp ult i64 %next, %trees\n"
        "br i1 %more, label %treeloop, label %done\ndone:\n"
        f"store {kind} {sums[-1]}, ptr %margin\n{_result(kind, sums[-1])}}}\n"
    )


def _compared(row_kind: str) -> str:
    """What the trees compare: the features, or these rounded, one after the other."""
    if row_kind == "double":
        return (
            "br label %begin\nbegin:\n%compared = getelementptr double, ptr %features, i64 0\n"
            "br label %treeloop\n"
        )
    return (
        "br label %round\nround:\n%i = phi i64 [0, %entry], [%j, %round]\n"
        "%from = getelementptr double, ptr %features, i64 %i\n%wide = load double, ptr %from\n"
        "%short = fptrunc double %wide to float\n"
        "%to = getelementptr float, ptr %row, i64 %i\nstore float %short, ptr %to\n"
        "%j = add i64 %i, 1\n%left = icmp ult i64 %j, %width\nbr i1 %left, label %round, label %begin\n"
        "begin:\n%compared = getelementptr float, ptr %row, i64 0\nbr label %treeloop\n"
    )


def _result(kind: str, value: str) -> str:
    if kind == "double":
        return f"ret double {value}\n"
    return f"%result = fpext float {value} to double\nret double %result\n"
