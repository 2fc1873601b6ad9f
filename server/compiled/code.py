"""A forest as machine code: many rows at once, without a branch.

Each tree becomes a chain of vector compares and selects over `LANES` rows: every
split is compared, and the leaf is what is left of the selects. A processor never
guesses a branch wrongly, and a tree of 31 leaves costs 30 compares and 30 selects for
all lanes together. That pays as long as the trees are small; `MAX_SPLITS` bounds them.

What it computes is what the operator computes: the same compares in the same
precision, NaN where the operator sends it, and sums in the order of the trees.
"""

import struct
from collections.abc import Iterator

import numpy as np

from server.compiled.forest import LESS, MEMBER, GraphForest, GraphTree, Node, NotCompilable

#: Rows in a vector: two registers of AVX2 for float64. Sixteen compile for twice as long.
LANES = 8
#: Splits of one tree beyond which walking it is cheaper than comparing all of it.
MAX_SPLITS = 256
#: Splits of one function. Of 600 the compiler takes 18 s for the shipped model, of 100 it takes 2.
GROUP_SPLITS = 100
#: Compares of one split by membership.
MAX_MEMBERS = 64


class Code:
    """The LLVM IR of a forest: functions `group0` … of (rows, stride, sums, count), with their target.

    `rows` is [width, stride] in the forest's precision, one feature after the other, `sums`
    [targets, stride]; `count` is a multiple of `LANES`.
    """

    def __init__(self, forest: GraphForest) -> None:
        self._type = "double" if forest.dtype == np.float64 else "float"
        self._vector = f"<{LANES} x {self._type}>"
        self._mask = f"<{LANES} x i1>"
        groups = list(_groups(forest.trees))
        self.names = tuple(f"group{i}" for i in range(len(groups)))
        self.text = "\n".join(map(self._function, self.names, groups))

    def _function(self, name: str, trees: list[GraphTree]) -> str:
        self._lines: list[str] = []
        self._next = 0
        features = sorted({feature for tree in trees for feature in _features(tree.root)})
        loads = "\n".join(map(self._load, features))
        sums = {tree.target for tree in trees}
        old = "\n".join(
            f"%s{t} = mul i64 %stride, {t}\n%t{t} = add i64 %s{t}, %i\n"
            f"%a{t} = getelementptr {self._type}, ptr %sums, i64 %t{t}\n"
            f"%old{t} = load {self._vector}, ptr %a{t}, align {self._align}"
            for t in sorted(sums)
        )
        latest = {t: f"%old{t}" for t in sums}
        for tree in trees:
            leaf = self._value(tree.root)
            latest[tree.target] = self._emit(f"fadd {self._vector} {latest[tree.target]}, {leaf}")
        stores = "\n".join(
            f"store {self._vector} {latest[t]}, ptr %a{t}, align {self._align}" for t in sorted(sums)
        )
        body = "\n".join(self._lines)
        return (
            f"define void @{name}"
            "(ptr noalias readonly %rows, i64 %stride, ptr noalias %sums, i64 %count) {\n"
            f"entry:\nbr label %loop\nloop:\n%i = phi i64 [0, %entry], [%next, %loop]\n"
            f"{loads}\n{old}\n{body}\n{stores}\n"
            f"%next = add i64 %i, {LANES}\n%more = icmp ult i64 %next, %count\n"
            f"br i1 %more, label %loop, label %end\nend:\nret void\n}}\n"
        )

    @property
    def _align(self) -> int:
        return 8 if self._type == "double" else 4

    def _load(self, feature: int) -> str:
        return (
            f"%m{feature} = mul i64 %stride, {feature}\n%p{feature} = add i64 %m{feature}, %i\n"
            f"%q{feature} = getelementptr {self._type}, ptr %rows, i64 %p{feature}\n"
            f"%x{feature} = load {self._vector}, ptr %q{feature}, align {self._align}"
        )

    def _emit(self, instruction: str) -> str:
        name = f"%v{self._next}"
        self._next += 1
        self._lines.append(f"{name} = {instruction}")
        return name

    def _value(self, node: Node) -> str:
        """The leaf of each lane."""
        if node.yes is None or node.no is None:
            return self._splat(node.weight)
        yes, no = self._value(node.yes), self._value(node.no)
        return self._emit(
            f"select {self._mask} {self._test(node)}, {self._vector} {yes}, {self._vector} {no}"
        )

    def _test(self, node: Node) -> str:
        if node.mode == MEMBER:
            return self._member(node)
        # Unordered compares are true of NaN, ordered ones false.
        order = "u" if node.missing_yes else "o"
        compare = order + ("lt" if node.mode == LESS else "le")
        return self._emit(f"fcmp {compare} {self._vector} %x{node.feature}, {self._splat(node.value)}")

    def _member(self, node: Node) -> str:
        if len(node.members) > MAX_MEMBERS:
            raise NotCompilable(f"a split asks for one of {len(node.members)} categories")
        tests = [
            self._emit(f"fcmp oeq {self._vector} %x{node.feature}, {self._splat(value)}")
            for value in node.members
        ]
        if node.missing_yes or not tests:
            tests.append(self._emit(f"fcmp uno {self._vector} %x{node.feature}, %x{node.feature}"))
        found = tests[0]
        for test in tests[1:]:
            found = self._emit(f"or {self._mask} {found}, {test}")
        return found

    def _splat(self, value: float) -> str:
        # LLVM writes float32 too as the bits of the float64 of the same value.
        bits = struct.unpack("<Q", struct.pack("<d", value))[0]
        return f"splat ({self._type} 0x{bits:016X})"


def _features(node: Node) -> Iterator[int]:
    if node.yes is not None and node.no is not None:
        yield node.feature
        yield from _features(node.yes)
        yield from _features(node.no)


def _groups(trees: list[GraphTree]) -> Iterator[list[GraphTree]]:
    """The trees in their order, some in one function."""
    group: list[GraphTree] = []
    splits = 0
    for tree in trees:
        if group and splits + tree.splits > GROUP_SPLITS:
            yield group
            group, splits = [], 0
        group.append(tree)
        splits += tree.splits
    if group:
        yield group
