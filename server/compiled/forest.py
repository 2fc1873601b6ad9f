"""The forest in a bundle's graph: the exporter's exact splits and leaves, and what stands around them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Modes of `TreeEnsemble` (ai.onnx.ml 5) that are compiled.
LESS_OR_EQUAL, LESS, MEMBER = 0, 1, 6
_SUM, _NO_TRANSFORM = 1, 0


class NotCompilable(Exception):
    """A graph that is left to ONNX Runtime; says why."""


class Node(NamedTuple):
    """A leaf (`weight`), or a split of `feature` at `value`, or by membership of `members`.

    `yes` and `no` are nodes; `missing_yes` says where NaN goes.
    """

    weight: float = 0.0
    feature: int = -1
    mode: int = LESS_OR_EQUAL
    value: float = 0.0
    members: tuple[float, ...] = ()
    missing_yes: bool = False
    yes: "Node | None" = None
    no: "Node | None" = None


class GraphTree(NamedTuple):
    """A tree, the target its leaves are added to, and the number of its splits."""

    root: Node
    target: int
    splits: int


class GraphForest(NamedTuple):
    """Trees in the order of their sum, in float32 or float64, over rows of `width` values.

    `before` is a graph from `features` to the rows that the trees compare, None if these
    are the features themselves. `row_dtype` holds every value of these rows: float32 also of a
    float64 forest whose rows were rounded before, as scikit-learn rounds them.
    """

    trees: list[GraphTree]
    targets: int
    width: int
    dtype: npt.DTypeLike
    before: bytes | None
    row_dtype: npt.DTypeLike


def read_forest(graph: bytes) -> GraphForest:
    """The forest of a graph whose last operator is a `TreeEnsemble`; raises `NotCompilable`."""
    model = onnx.load_from_string(graph)
    *before, ensemble = model.graph.node
    if ensemble.op_type != "TreeEnsemble" or ensemble.output[0] != model.graph.output[0].name:
        raise NotCompilable(f"its last operator is {ensemble.op_type}, not TreeEnsemble")
    if any(node.op_type.startswith("TreeEnsemble") for node in before):
        raise NotCompilable("it has several forests")
    table = _Table({a.name: helper.get_attribute_value(a) for a in ensemble.attribute})
    width = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    trees = [table.tree(root) for root in table.roots]
    row_dtype = np.float32 if _casts(before) == [TensorProto.FLOAT, TensorProto.DOUBLE] else table.dtype
    return GraphForest(
        trees, table.targets, width, table.dtype, _before(model, before, ensemble.input[0]), row_dtype
    )


def _casts(nodes: list[onnx.NodeProto]) -> list[int]:
    """The types that a chain of two casts, one behind the other, ends in; none if it is another chain."""
    casts = nodes[-2:]
    is_chain = [node.op_type for node in casts] == ["Cast", "Cast"] and casts[1].input[0] == casts[0].output[
        0
    ]
    return [helper.get_node_attr_value(node, "to") for node in casts] if is_chain else []


def _before(model: onnx.ModelProto, nodes: list[onnx.NodeProto], rows: str) -> bytes | None:
    if not nodes:
        return None
    head = onnx.ModelProto()
    head.CopyFrom(model)
    del head.graph.node[:]
    head.graph.node.extend(nodes)
    del head.graph.output[:]
    head.graph.output.append(onnx.ValueInfoProto(name=rows))
    content: bytes = head.SerializeToString()
    return content


class _Table:
    """The operator's attributes as arrays."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        if (
            attributes.get("aggregate_function", _SUM) != _SUM
            or attributes.get("post_transform", _NO_TRANSFORM) != _NO_TRANSFORM
        ):
            raise NotCompilable("its trees are not summed as they are")
        splits = numpy_helper.to_array(attributes["nodes_splits"])
        self.dtype = splits.dtype
        self._splits = splits.tolist()
        self._weights = numpy_helper.to_array(attributes["leaf_weights"]).tolist()
        self._modes = numpy_helper.to_array(attributes["nodes_modes"]).tolist()
        self._leaf_targets = attributes["leaf_targetids"]
        self._columns = {
            name: list(attributes[f"nodes_{name}"])
            for name in ("featureids", "truenodeids", "trueleafs", "falsenodeids", "falseleafs")
        }
        missing = attributes.get("nodes_missing_value_tracks_true")
        self._missing = list(missing) if missing is not None else [0] * len(self._splits)
        self._members = self._sets(attributes.get("membership_values"))
        self.roots, self.targets = list(attributes["tree_roots"]), int(attributes["n_targets"])

    def _sets(self, values: Any) -> dict[int, tuple[float, ...]]:
        """The set of each node that asks for membership: they follow one another, each ended by NaN."""
        if values is None:
            return {}
        sets: list[tuple[float, ...]] = []
        one: list[float] = []
        for value in numpy_helper.to_array(values).tolist():
            if value != value:
                sets.append(tuple(one))
                one = []
            else:
                one.append(value)
        asking = [i for i, mode in enumerate(self._modes) if mode == MEMBER]
        return dict(zip(asking, sets, strict=True))

    def tree(self, root: int) -> GraphTree:
        targets: set[int] = set()
        count = 0

        def node(index: int, is_leaf: int) -> Node:
            nonlocal count
            if is_leaf:
                targets.add(self._leaf_targets[index])
                return Node(weight=self._weights[index])
            count += 1
            mode = self._modes[index]
            if mode not in (LESS_OR_EQUAL, LESS, MEMBER):
                raise NotCompilable(f"it compares in mode {mode}")
            c = self._columns
            return Node(
                feature=c["featureids"][index],
                mode=mode,
                value=self._splits[index],
                members=self._members.get(index, ()),
                missing_yes=bool(self._missing[index]),
                yes=node(c["truenodeids"][index], c["trueleafs"][index]),
                no=node(c["falsenodeids"][index], c["falseleafs"][index]),
            )

        try:
            top = node(root, 0)
        except RecursionError:
            raise NotCompilable("a tree is too deep") from None
        if len(targets) != 1:
            raise NotCompilable("a tree has leaves of several outputs")
        return GraphTree(top, targets.pop(), count)


def thresholds(forest: GraphForest) -> dict[int, npt.NDArray[np.float64]]:
    """The values at which each feature is compared, ascending."""
    found: dict[int, set[float]] = {}
    for node in splits(forest):
        found.setdefault(node.feature, set()).update(node.members or (node.value,))
    return {feature: np.array(sorted(values)) for feature, values in found.items()}


def categories(forest: GraphForest) -> set[int]:
    """The features that a split asks for membership: their values are codes, whole numbers."""
    return {node.feature for node in splits(forest) if node.mode == MEMBER}


def splits(forest: GraphForest) -> Iterator[Node]:
    """Every split of every tree."""
    waiting = [tree.root for tree in forest.trees]
    while waiting:
        node = waiting.pop()
        if node.yes is not None and node.no is not None:
            yield node
            waiting += [node.yes, node.no]
