"""LightGBM's `linear_tree` as a graph: leaves that are sums of coefficient times feature.

Source: `Tree::Predict` in LightGBM's `tree.h`. A leaf's sum starts at its constant and adds one term
after the other; where one of its features is missing the leaf has a value of its own instead. Values
next to zero count as zero here, too.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from export.forest.extremes import ZERO_BAND
from export.forest.graph import OPSETS, serialize, tree_nodes
from export.forest.trees import Forest, LinearLeaf
from server.model.files import INPUT, OUTPUT


def linear_tree_graph(forest: Forest, metadata: Mapping[str, str]) -> bytes:
    """The ONNX file of a forest of linear leaves: `features` float64 [N, F] -> `margin` [N, targets].

    The trees give the number of the leaf each, tables what that leaf adds up; `CumSum` adds one
    number after the other, which a sum over an axis does not promise.
    """
    trees, constants = _leaf_numbers(forest)
    constants += [numpy_helper.from_array(np.asarray(table), name) for name, table in _tables(forest).items()]
    make = helper.make_node
    nodes = [
        *trees,
        make("Cast", ["number"], ["leaf"], to=TensorProto.INT64),
        make("Abs", [INPUT], ["magnitude"]),
        make("LessOrEqual", ["magnitude", "band"], ["is_zero"]),
        make("Where", ["is_zero", "zero", INPUT], ["rows"]),
        make("Pad", ["rows", "behind", "zero"], ["wide"]),  # leaves of fewer terms add a zero
        make("Gather", ["feature", "leaf"], ["places"], axis=0),
        make("Reshape", ["places", "flat"], ["places_flat"]),
        make("GatherND", ["wide", "places_flat"], ["values_flat"], batch_dims=1),
        make("Reshape", ["values_flat", "by_tree"], ["values"]),
        make("Gather", ["coefficient", "leaf"], ["coefficients"], axis=0),
        make("Mul", ["coefficients", "values"], ["terms"]),
        make("Gather", ["constant", "leaf"], ["start"], axis=0),
        make("Concat", ["start", "terms"], ["summands"], axis=2),
        make("CumSum", ["summands", "second"], ["sums"]),
        make("Gather", ["sums", "last_term"], ["linear"], axis=2),
        make("IsNaN", ["values"], ["is_nan"]),
        make("Cast", ["is_nan"], ["nan_marks"], to=TensorProto.INT32),
        make("ReduceMax", ["nan_marks", "second_axes"], ["nan_mark"], keepdims=0),
        make("Cast", ["nan_mark"], ["is_missing"], to=TensorProto.BOOL),
        make("Gather", ["plain", "leaf"], ["otherwise"], axis=0),
        make("Where", ["is_missing", "otherwise", "linear"], ["added"]),
        make("Reshape", ["added", "by_round"], ["rounds"]),
        make("CumSum", ["rounds", "first"], ["totals"]),
        make("Gather", ["totals", "last_round"], [OUTPUT], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear_trees",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, ["N", forest.width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, ["N", forest.targets])],
        constants,
    )
    return serialize(graph, OPSETS, metadata)


def _leaf_numbers(forest: Forest) -> tuple[list[Any], list[Any]]:
    """Nodes that give float64 [N, trees]: of each tree the number of the leaf, counted over all trees."""
    numbered, count = [], 0
    for tree in forest.trees:
        numbers = tuple(float(count + i) for i in range(len(tree.leaves)))
        numbered.append(replace(tree, leaves=numbers, linear=()))
        count += len(numbers)
    counted = replace(forest, trees=tuple(numbered), targets=len(numbered), groups=())
    return tree_nodes(counted, INPUT, "number")


def _tables(forest: Forest) -> dict[str, Any]:
    """What each leaf adds up: start [L, 1], features and coefficients [L, K], and its value [L] otherwise."""
    values = [value for tree in forest.trees for value in tree.leaves]
    leaves = [
        leaf for tree in forest.trees for leaf in tree.linear or (LinearLeaf(v, (), ()) for v in tree.leaves)
    ]
    terms = max(1, *(len(leaf.features) for leaf in leaves))
    feature = np.full((len(leaves), terms), forest.width, dtype=np.int64)
    coefficient = np.zeros((len(leaves), terms))
    for i, leaf in enumerate(leaves):
        feature[i, : len(leaf.features)] = leaf.features
        coefficient[i, : len(leaf.features)] = leaf.coefficients
    trees, whole = len(forest.trees), np.int64
    return {
        "feature": feature,
        "coefficient": coefficient,
        "constant": np.array([[leaf.constant] for leaf in leaves]),
        "plain": np.array(values),
        "band": np.float64(ZERO_BAND),
        "zero": np.float64(0.0),
        "behind": np.array([0, 0, 0, 1], dtype=whole),
        "flat": np.array([0, trees * terms, 1], dtype=whole),
        "by_tree": np.array([0, trees, terms], dtype=whole),
        "by_round": np.array([0, trees // forest.targets, forest.targets], dtype=whole),
        "first": whole(1),
        "second": whole(2),
        "second_axes": np.array([2], dtype=whole),
        "last_term": whole(terms),
        "last_round": whole(trees // forest.targets - 1),
    }
