"""Trees to one ONNX operator that walks them exactly as their library does.

`TreeEnsemble` (ai.onnx.ml 5) with splits, leaves and rows of the library's own
precision compares what the library compares and adds leaves in its order; its
only output is the raw margin. Three of LightGBM's habits are folded in:

* A value with `|x| <= 1e-35` (as a float32: 1.0000000180025095e-35) is taken for
  0.0 before the trees (`kZeroThreshold` in LightGBM's `meta.h`). Such a value may
  only differ from 0.0 at a threshold inside that band, so `exact_threshold` moves
  those to the band's edge.
* A missing value in a feature without missing values in training becomes 0.0, so
  there NaN goes where 0.0 goes.
* Where zero counts as missing (`zero_as_missing`), values of that band become NaN
  before the operator.

XGBoost computes in float32, so its rows are cast first; scikit-learn's forests
round the rows to float32 and compare and add in float64. A sum that starts from
a base gets it as a first tree whose two leaves are the base.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportRefused
from export.forest.extremes import ZERO_BAND
from export.forest.trees import Forest, Split, Tree
from server.errors import first_line
from server.model.files import INPUT, OUTPUT

#: The first ai.onnx.ml version with `TreeEnsemble`, and the onnx version beside it.
OPSETS = {"": 18, "ai.onnx.ml": 5}
IR_VERSION = 10

# `nodes_modes` of the operator.
_LESS_OR_EQUAL, _LESS, _MEMBER = 0, 1, 6
_SUM = 1  # in the operator's `aggregate_function`
_NO_TRANSFORM = 0  # in the operator's `post_transform`
_TYPES: dict[str, tuple[Any, int]] = {
    "float64": (np.float64, TensorProto.DOUBLE),
    "float32": (np.float32, TensorProto.FLOAT),
}


class _Child(NamedTuple):
    target: int
    is_leaf: bool


class _Nodes:
    """The operator's attribute columns, filled tree by tree."""

    def __init__(self, forest: Forest) -> None:
        self._mode = _LESS if forest.strict else _LESS_OR_EQUAL
        self._threshold = exact_threshold if forest.band else float
        self.features: list[int] = []
        self.splits: list[float] = []
        self.modes: list[int] = []
        self.members: list[float] = []
        self.missing_left: list[int] = []
        self.left: list[_Child] = []
        self.right: list[_Child] = []
        self.roots: list[int] = []
        self.leaves: list[float] = []
        self.targets: list[int] = []

    def add_tree(self, tree: Tree, target: int) -> None:
        first_node, first_leaf = len(self.features), len(self.leaves)
        self.roots.append(first_node)
        self.leaves.extend(tree.leaves)
        self.targets.extend([target] * len(tree.leaves))
        if not tree.splits:
            self._add_stem(first_leaf)

        def child(index: int) -> _Child:
            return _Child(first_leaf + ~index, True) if index < 0 else _Child(first_node + index, False)

        for split in tree.splits:
            self._add(_merged(split, tree), child(split.left), child(split.right))

    def _add_stem(self, leaf: int) -> None:
        # The operator has no tree without a node: both ways lead to a leaf.
        # Two equal ones: with one leaf for both ways ONNX Runtime 1.32 takes the tree for a
        # leaf, and then puts leaves of later trees with categories on other targets.
        self.leaves.append(self.leaves[leaf])
        self.targets.append(self.targets[leaf])
        stem = Split(0, 0.0, default_left=True, missing="nan", left=-1, right=-2)
        self._add(stem, _Child(leaf, is_leaf=True), _Child(leaf + 1, is_leaf=True))

    def _add(self, split: Split, left: _Child, right: _Child) -> None:
        self.features.append(split.feature)
        self.left.append(left)
        self.right.append(right)
        if split.members:
            self.modes.append(_MEMBER)
            self.splits.append(0.0)
            self.missing_left.append(int(split.default_left))
            self.members += [*map(float, split.members), math.nan]  # NaN ends a set
        else:
            self.modes.append(self._mode)
            self.splits.append(self._threshold(split.threshold))
            self.missing_left.append(int(missing_goes_left(split)))


def _merged(split: Split, tree: Tree) -> Split:
    """A set of categories whose missing values go as where ONNX Runtime makes one set of two.

    Version 1.32 does so where the next set of the same feature leads to an equal leaf, and lets
    missing values go by the first alone. Where they would end at such a leaf they may as well at once.
    """
    first = split
    while split.members and not split.default_left and split.left < 0 <= split.right:
        below = tree.splits[split.right]
        is_equal = below.left < 0 and tree.leaves[~below.left] == tree.leaves[~split.left]
        if not (below.members and below.feature == split.feature and is_equal):
            return first
        split = below
    return replace(first, default_left=True) if first.members and split.default_left else first


def exact_threshold(threshold: float) -> float:
    """The threshold at which raw `x <= t` is LightGBM's `(0.0 if |x| <= band else x) <= t`."""
    if abs(threshold) > ZERO_BAND:
        return threshold
    return ZERO_BAND if threshold >= 0.0 else math.nextafter(-ZERO_BAND, -math.inf)


def missing_goes_left(split: Split) -> bool:
    """Whether NaN goes left of a split of numbers; where nothing is missing it counts as 0.0."""
    return split.threshold >= 0.0 if split.missing == "none" else split.default_left


def build_graph(forest: Forest, metadata: Mapping[str, str]) -> bytes:
    """The ONNX file of a forest: `features` float64 [N, F] -> `margin` [N, targets].

    The margin has the forest's precision. `metadata` becomes the file's
    `metadata_props`. The bytes depend on nothing but the arguments and the
    installed onnx.
    """
    before, constants, rows = _preparation(forest, INPUT)
    graph = helper.make_graph(
        [*before, _ensemble(forest, rows)],
        "booster",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, ["N", forest.width])],
        [helper.make_tensor_value_info(OUTPUT, _TYPES[forest.precision][1], ["N", forest.targets])],
        constants,
    )
    return serialize(graph, OPSETS, metadata)


def tree_nodes(forest: Forest, rows: str, output: str) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """The nodes and constants from a tensor of rows of any number type to a forest's margin.

    Every name made here begins with the name of the output, so a graph may have many.
    """
    wide = helper.make_node("Cast", [rows], ["wide"], to=TensorProto.DOUBLE)
    before, constants, prepared = _preparation(forest, "wide")
    nodes = [wide, *before, _ensemble(forest, prepared)]
    inner = {name for node in nodes for name in node.output} | {constant.name for constant in constants}
    renamed = {name: output if name == OUTPUT else f"{output}/{name}" for name in inner}
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for constant in constants:
        constant.name = renamed[constant.name]
    return nodes, constants


def serialize(
    graph: onnx.GraphProto,
    opsets: Mapping[str, int],
    metadata: Mapping[str, str],
    ir_version: int = IR_VERSION,
) -> bytes:
    """The file of a graph, checked by onnx, the same bytes every time."""
    versions = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(graph, opset_imports=versions, ir_version=ir_version, producer_name="hotrow")
    helper.set_model_props(model, dict(metadata))
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:  # only a foreign graph can be wrong
        line = first_line(error)
        raise ExportRefused(
            f"expected a valid ONNX graph, got: {line}; convert it again with a newer onnx"
        ) from None
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _preparation(forest: Forest, source: str) -> tuple[list[onnx.NodeProto], list[TensorProto], str]:
    """What happens to the rows before the trees: nodes, constants, and the name of the result."""
    if forest.sparse:
        nodes, constants, present = _without_zeros(forest, source)
        more, others, rows = _preparation(replace(forest, sparse=False), present)
        return [*nodes, *more], [*constants, *others], rows
    if forest.precision == "float32":
        return _narrow(forest, source)
    if forest.rounded:
        narrow = helper.make_node("Cast", [source], ["narrow"], to=TensorProto.FLOAT)
        return [narrow, helper.make_node("Cast", ["narrow"], ["rows"], to=TensorProto.DOUBLE)], [], "rows"
    zero = zero_is_missing(forest)
    if not zero:
        return [], [], source
    band = np.full(forest.width, -1.0)  # |x| is never below: such a column stays as it is
    band[sorted(zero)] = ZERO_BAND
    constants = [
        numpy_helper.from_array(band, "band"),
        numpy_helper.from_array(np.array(math.nan), "missing"),
    ]
    nodes = [
        helper.make_node("Abs", [source], ["magnitude"]),
        helper.make_node("LessOrEqual", ["magnitude", "band"], ["is_zero"]),
        helper.make_node("Where", ["is_zero", "missing", source], ["rows"]),
    ]
    return nodes, constants, "rows"


def _without_zeros(forest: Forest, source: str) -> tuple[list[onnx.NodeProto], list[TensorProto], str]:
    """Rows as a sparse matrix holds them: a zero that is no code is missing."""
    zeros = np.zeros(forest.width)
    zeros[sorted(forest.coded)] = math.nan  # equal to nothing
    constants = [numpy_helper.from_array(zeros, "zeros"), numpy_helper.from_array(np.array(math.nan), "none")]
    nodes = [
        helper.make_node("Equal", [source, "zeros"], ["is_zero"]),
        helper.make_node("Where", ["is_zero", "none", source], ["dense"]),
    ]
    return nodes, constants, "dense"


def _narrow(forest: Forest, source: str) -> tuple[list[onnx.NodeProto], list[TensorProto], str]:
    """Rows as float32, the value that counts as missing replaced by NaN after the rounding."""
    cast = helper.make_node("Cast", [source], ["rows"], to=TensorProto.FLOAT)
    if forest.absent is None:
        return [cast], [], "rows"
    constants = [
        numpy_helper.from_array(np.array(forest.absent, dtype=np.float32), "absent"),
        numpy_helper.from_array(np.array(math.nan, dtype=np.float32), "missing"),
    ]
    nodes = [
        cast,
        helper.make_node("Equal", ["rows", "absent"], ["is_absent"]),
        helper.make_node("Where", ["is_absent", "missing", "rows"], ["present"]),
    ]
    return nodes, constants, "present"


def zero_is_missing(forest: Forest) -> set[int]:
    """The features in which zero is missing, in all of their splits."""
    zero: set[int] = set()
    other: set[int] = set()
    for split in forest.splits():
        (zero if split.missing == "zero" and not split.members else other).add(split.feature)
    if zero & other:
        raise ExportRefused(
            "expected zero to be missing in all splits of a feature or in none, got zero_as_missing=true "
            "in a part of them: train all trees with the same setting"
        )
    return zero


def _ensemble(forest: Forest, rows: str) -> onnx.NodeProto:
    nodes = _Nodes(forest)
    for target, base in enumerate(forest.base):
        nodes.add_tree(Tree((), (base,)), target)
    for i, tree in enumerate(forest.trees):
        nodes.add_tree(tree, forest.target(i))
    dtype = _TYPES[forest.precision][0]

    def tensor(name: str, values: list[float] | list[int], dtype: type[np.generic]) -> TensorProto:
        return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)

    optional: dict[str, Any] = {}
    if nodes.members:
        optional["membership_values"] = tensor("members", nodes.members, dtype)
    return helper.make_node(
        "TreeEnsemble",
        [rows],
        [OUTPUT],
        domain="ai.onnx.ml",
        nodes_featureids=nodes.features,
        nodes_splits=tensor("splits", nodes.splits, dtype),
        nodes_modes=tensor("modes", nodes.modes, np.uint8),
        nodes_missing_value_tracks_true=nodes.missing_left,
        nodes_truenodeids=[child.target for child in nodes.left],
        nodes_trueleafs=[int(child.is_leaf) for child in nodes.left],
        nodes_falsenodeids=[child.target for child in nodes.right],
        nodes_falseleafs=[int(child.is_leaf) for child in nodes.right],
        leaf_targetids=nodes.targets,
        leaf_weights=tensor("leaves", nodes.leaves, dtype),
        tree_roots=nodes.roots,
        n_targets=forest.targets,
        aggregate_function=_SUM,
        post_transform=_NO_TRANSFORM,
        **optional,
    )
