"""From a converter's graph to the one that is served: `features` in, `margin` out, nothing else.

Labels, ZipMap and everything else that the score does not need are left out;
what remains are the same operators on the same values, so the score is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from export.forest.graph import OPSETS, serialize, tree_nodes
from export.forest.trees import Forest
from export.onnx.safety import graphs
from server.model.files import INPUT, OUTPUT

_PREFIX = "source/"
#: Where a file imports no operators of ai.onnx, ours come from the first version that has all of them.
_OWN_OPSET = 13
#: Before version 4 weights had to be inputs too (as CatBoost and older PyTorch write them).
_LEAST_IR_VERSION = 8


@dataclass(frozen=True)
class Score:
    """The tensor of a graph that is served.

    `column` picks one of two classes' probabilities. `is_matrix` tells that the
    tensor has the shape [N, outputs] as it is. With a `forest` the tensor is what
    its trees read, and their sums are served.
    """

    tensor: str
    outputs: int
    column: int | None
    is_matrix: bool
    element: int = TensorProto.FLOAT
    forest: Forest | None = None

    @property
    def served_element(self) -> int:
        """The type of the margins: a float16 leaves as a float32."""
        return TensorProto.FLOAT if self.element == TensorProto.FLOAT16 else self.element


@dataclass(frozen=True)
class Entry:
    """How the rows reach the graph's inputs: nodes from `features` to `source/<input>`."""

    nodes: Sequence[onnx.NodeProto]
    constants: Sequence[TensorProto] = ()


def source_name(name: str) -> str:
    """The name that a tensor of the source graph has in the served one."""
    return _PREFIX + name


def matrix_entry(name: str, element: int, *, absent_is_zero: bool) -> Entry:
    """The rows as one matrix of the input's type, NaN replaced by 0 if absent means 0."""
    cast = helper.make_node("Cast", ["filled" if absent_is_zero else INPUT], [source_name(name)], to=element)
    if not absent_is_zero:
        return Entry([cast])
    zero = numpy_helper.from_array(np.array(0.0), "zero")
    nodes = [
        helper.make_node("IsNaN", [INPUT], ["is_absent"]),
        helper.make_node("Where", ["is_absent", "zero", INPUT], ["filled"]),
    ]
    return Entry([*nodes, cast], [zero])


def lean_graph(
    model: onnx.ModelProto, width: int, entry: Entry, score: Score, metadata: Mapping[str, str]
) -> bytes:
    """The file that serves one score of `model` for rows float64 [N, width]."""
    graph = compose.add_prefix(model, _PREFIX).graph
    wanted = source_name(score.tensor)
    body = _needed(graph, wanted)
    used = {name for node in body for name in _reads(node)}
    end, constants = _exit(wanted, score)
    if score.served_element != score.element:
        end[-1].output[0] = "narrow_margin"
        end.append(helper.make_node("Cast", ["narrow_margin"], [OUTPUT], to=score.served_element))
    served = helper.make_graph(
        [*entry.nodes, *body, *end],
        "served",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, ["N", width])],
        [helper.make_tensor_value_info(OUTPUT, score.served_element, ["N", score.outputs])],
        [*entry.constants, *constants, *(tensor for tensor in graph.initializer if tensor.name in used)],
    )
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    opsets.setdefault("", opsets.pop("ai.onnx", _OWN_OPSET))
    if score.forest or any(node.op_type == "TreeEnsemble" for node in body):
        opsets |= {"ai.onnx.ml": OPSETS["ai.onnx.ml"]}
    # Optimized files import every domain there is; one that is not used may be unknown elsewhere.
    domains = {"", *(node.domain for inner in graphs(served) for node in inner.node)}
    used_opsets = {domain: version for domain, version in opsets.items() if domain in domains}
    return serialize(served, used_opsets, metadata, max(model.ir_version, _LEAST_IR_VERSION))


def _exit(wanted: str, score: Score) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    if score.forest is not None:
        return tree_nodes(score.forest, wanted, OUTPUT)
    if score.column is not None:
        column = numpy_helper.from_array(np.array([score.column]), "column")
        return [helper.make_node("Gather", [wanted, "column"], [OUTPUT], axis=1)], [column]
    if score.is_matrix:
        return [helper.make_node("Identity", [wanted], [OUTPUT])], []
    shape = numpy_helper.from_array(np.array([-1, score.outputs]), "shape")
    return [helper.make_node("Reshape", [wanted, "shape"], [OUTPUT])], [shape]


def _needed(graph: onnx.GraphProto, wanted: str) -> list[onnx.NodeProto]:
    """The nodes the wanted tensor depends on, in their order."""
    names, kept = {wanted}, []
    for node in reversed(graph.node):  # an ONNX graph is sorted: producers come first
        if names & set(node.output):
            kept.append(node)
            names.update(_reads(node))
    return kept[::-1]


def _reads(node: onnx.NodeProto) -> set[str]:
    """All names a node reads, also from inside the graphs it holds."""
    names = set(node.input)
    for attribute in node.attribute:
        inner = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
        for graph in inner:
            names.update(name for child in graph.node for name in _reads(child))
    return names
