"""Trees to one ONNX operator that walks them exactly as LightGBM does.

`TreeEnsemble` (ai.onnx.ml 5) with float64 splits, leaves and rows compares what
LightGBM compares and adds leaves in LightGBM's order; its only output is the
raw margin. Two of LightGBM's habits are folded into the constants:

* A value with `|x| <= 1e-35` (as a float32: 1.0000000180025095e-35) is taken for
  0.0 before the trees (`kZeroThreshold` in LightGBM's `meta.h`). Such a value may
  only differ from 0.0 at a threshold inside that band, so `exact_threshold` moves
  those to the band's edge.
* A missing value in a feature without missing values in training becomes 0.0, so
  there NaN goes where 0.0 goes.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.booster import Booster, Split, Tree
from export.errors import ExportRefused
from server.predictor import INPUT, OUTPUT

#: `kZeroThreshold` of LightGBM: the float32 nearest 1e-35, as a float64.
ZERO_BAND = float(np.float32(1e-35))
#: The first ai.onnx.ml version with `TreeEnsemble`, and the onnx version beside it.
OPSETS = {"": 18, "ai.onnx.ml": 5}
IR_VERSION = 10

_LESS_OR_EQUAL = 0  # BRANCH_LEQ in the operator's `nodes_modes`
_SUM = 1  # in the operator's `aggregate_function`
_NO_TRANSFORM = 0  # in the operator's `post_transform`


class _Child(NamedTuple):
    target: int
    is_leaf: bool


class _Nodes:
    """The operator's attribute columns, filled tree by tree."""

    def __init__(self) -> None:
        self.features: list[int] = []
        self.splits: list[float] = []
        self.missing_left: list[int] = []
        self.left: list[_Child] = []
        self.right: list[_Child] = []
        self.roots: list[int] = []
        self.leaves: list[float] = []

    def add_tree(self, tree: Tree) -> None:
        first_node, first_leaf = len(self.features), len(self.leaves)
        self.roots.append(first_node)
        self.leaves.extend(tree.leaves)
        if not tree.splits:
            # The operator has no tree without a node: both ways lead to the leaf.
            leaf = _Child(first_leaf, is_leaf=True)
            self._add(0, 0.0, missing_left=True, left=leaf, right=leaf)

        def child(index: int) -> _Child:
            return _Child(first_leaf + ~index, True) if index < 0 else _Child(first_node + index, False)

        for split in tree.splits:
            threshold = exact_threshold(split.threshold)
            self._add(
                split.feature, threshold, _missing_goes_left(split), child(split.left), child(split.right)
            )

    def _add(self, feature: int, threshold: float, missing_left: bool, left: _Child, right: _Child) -> None:
        self.features.append(feature)
        self.splits.append(threshold)
        self.missing_left.append(int(missing_left))
        self.left.append(left)
        self.right.append(right)


def exact_threshold(threshold: float) -> float:
    """The threshold at which raw `x <= t` is LightGBM's `(0.0 if |x| <= band else x) <= t`."""
    if abs(threshold) > ZERO_BAND:
        return threshold
    return ZERO_BAND if threshold >= 0.0 else math.nextafter(-ZERO_BAND, -math.inf)


def _missing_goes_left(split: Split) -> bool:
    if split.missing == "zero":
        raise ExportRefused(
            "expected NaN as the only missing value, got zero_as_missing=true, which is not proven equal"
        )
    return split.default_left if split.missing == "nan" else split.threshold >= 0.0


def build_graph(booster: Booster, metadata: Mapping[str, str]) -> bytes:
    """The ONNX file of a booster: `features` float64 [N, F] -> `margin` float64 [N, 1].

    `metadata` becomes the file's `metadata_props`. The bytes depend on nothing
    but the arguments and the installed onnx.
    """
    nodes = _Nodes()
    for tree in booster.trees:
        nodes.add_tree(tree)
    width = len(booster.feature_names)
    graph = helper.make_graph(
        [_ensemble(nodes)],
        "booster",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, ["N", width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, ["N", 1])],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="hotrow")
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _ensemble(nodes: _Nodes) -> onnx.NodeProto:
    def tensor(name: str, values: list[float] | list[int], dtype: type[np.generic]) -> TensorProto:
        return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)

    count = len(nodes.features)
    return helper.make_node(
        "TreeEnsemble",
        [INPUT],
        [OUTPUT],
        domain="ai.onnx.ml",
        nodes_featureids=nodes.features,
        nodes_splits=tensor("splits", nodes.splits, np.float64),
        nodes_modes=tensor("modes", [_LESS_OR_EQUAL] * count, np.uint8),
        nodes_missing_value_tracks_true=nodes.missing_left,
        nodes_truenodeids=[child.target for child in nodes.left],
        nodes_trueleafs=[int(child.is_leaf) for child in nodes.left],
        nodes_falsenodeids=[child.target for child in nodes.right],
        nodes_falseleafs=[int(child.is_leaf) for child in nodes.right],
        leaf_targetids=[0] * len(nodes.leaves),
        leaf_weights=tensor("leaves", nodes.leaves, np.float64),
        tree_roots=nodes.roots,
        n_targets=1,
        aggregate_function=_SUM,
        post_transform=_NO_TRANSFORM,
    )
