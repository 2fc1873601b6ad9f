"""The forest in a bundle's graph, read by ONNX's own library; code that is kept does without."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from server.compiled.forest import (
    LESS,
    LESS_OR_EQUAL,
    MEMBER,
    GraphForest,
    GraphTree,
    Node,
    NotCompilable,
)

_SUM, _NO_TRANSFORM = 1, 0


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
        trees,
        table.targets,
        width,
        table.dtype,
        _before(model, before, ensemble.input[0]),
        row_dtype,
        all(node.op_type == "Cast" for node in before),
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
