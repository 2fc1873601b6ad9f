"""Trees inside something of scikit-learn: the last step of a pipeline, the members of an ensemble of models.

skl2onnx converts what is around them. Where it meets one of them it leaves a
mark, and the mark is replaced by our own operator, so a tree compares and adds
there as it does alone.
"""

import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

from export.errors import ExportRefused
from export.forest.graph import tree_nodes
from export.forest.trees import Forest
from export.sklearn.parts import parts
from export.sklearn.trees import raw_scores
from export.sklearn.trees import read_ensemble as read_sklearn
from server.model.link import Margins
from server.model.schema import Matrix

_DOMAIN = "hotrow"
_MARK = "Trees"
#: What converters of ensembles of models may ask of a member's converter: a calibration that of the margin.
_OPTIONS = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [True, False]}
_RAW = {"raw_scores": [True, False]}


@dataclass(frozen=True)
class Member:
    """The forest of a fitted estimator, the link after it, and the estimator's own sums of leaves."""

    forest: Forest
    link: dict[str, Any]
    raw: Callable[[Matrix], Margins]


def read_member(estimator: Any) -> Member | None:
    """The trees of a fitted estimator of LightGBM, XGBoost or scikit-learn, None if it is none of trees.

    Raises `ExportRefused` for a construct whose equality is not proven.
    """
    library = type(estimator).__module__.partition(".")[0]
    if library == "sklearn":
        found = read_sklearn(estimator)
        return Member(found.forest, found.link, partial(raw_scores, estimator)) if found else None
    if not hasattr(estimator, "get_params"):  # a bare booster is no member of an ensemble
        return None
    return {"lightgbm": _lightgbm, "xgboost": _xgboost}.get(library, lambda _: None)(estimator)


def _lightgbm(estimator: Any) -> Member:
    from export.lightgbm.model import convert_lightgbm

    best = int(estimator.booster_.best_iteration or 0)
    text = estimator.booster_.model_to_string(num_iteration=best if best > 0 else -1)
    found = convert_lightgbm(text)
    if found.categories:
        raise ExportRefused(
            "expected numbers before LightGBM in a pipeline, got pandas categories: encode them in the "
            "pipeline, or save pipeline[-1].booster_ with save_model and serve that"
        )
    assert found.forest is not None
    return Member(found.forest, found.link, found.source.margins)


def _xgboost(estimator: Any) -> Member:
    from export.xgboost.model import convert_xgboost

    content = bytes(estimator.get_booster().save_raw("json"))
    found = convert_xgboost(content, missing=getattr(estimator, "missing", None))
    assert found.forest is not None
    return Member(found.forest, found.link, found.source.margins)


_marked: contextvars.ContextVar[list[Member]] = contextvars.ContextVar("marked")


def register_members(estimator: Any) -> None:
    """Make skl2onnx leave a mark for every kind of tree ensemble inside `estimator`."""
    _marked.set([])
    for kind in {type(part) for part in parts(estimator) if read_member(part) is not None}:
        options = _OPTIONS | (_RAW if hasattr(kind, "decision_function") else {})
        update_registered_converter(
            kind, f"Hotrow{kind.__name__}", _shapes, _mark, overwrite=True, options=options
        )


def _shapes(operator: Any) -> None:
    rows, estimator = operator.inputs[0].get_first_dimension(), operator.raw_operator
    number = FloatTensorType if isinstance(operator.inputs[0].type, FloatTensorType) else DoubleTensorType
    if not hasattr(estimator, "classes_"):
        operator.outputs[0].type = number([rows, 1])
        return
    is_whole = np.issubdtype(np.asarray(estimator.classes_).dtype, np.number)
    operator.outputs[0].type = (Int64TensorType if is_whole else StringTensorType)([rows])
    operator.outputs[1].type = number([rows, len(estimator.classes_)])


def _mark(scope: Any, operator: Any, container: Any) -> None:
    """The mark, and the link after it, in the precision of the graph."""
    estimator = operator.raw_operator
    member = read_member(estimator)
    assert member is not None
    marked = _marked.get()
    marked.append(member)
    name = scope.get_unique_variable_name
    add = _Adder(container, name, np.float32 if _is_narrow(operator) else np.float64)
    margin = name("margin")
    container.add_node(
        _MARK, [operator.inputs[0].full_name], [margin], op_domain=_DOMAIN, op_version=1,
        name=scope.get_unique_operator_name(_MARK), number=len(marked) - 1,
    )  # fmt: skip
    is_raw = bool(container.get_options(estimator, {}).get("raw_scores"))
    answer = add("Cast", [margin], to=add.element) if is_raw else add.link(margin, member)
    if not hasattr(estimator, "classes_"):
        container.add_node("Identity", [answer], [operator.outputs[0].full_name], name=name("id"))
        return
    if len(estimator.classes_) == 2:
        other = add("Neg", [answer]) if is_raw else add("Sub", [add.constant(1.0), answer])
        answer = add("Concat", [other, answer], axis=1)
    container.add_node("Identity", [answer], [operator.outputs[1].full_name], name=name("id"))
    # Whoever asks for labels asks the wrapper; a graph that is served has none.
    container.add_node(
        "ArgMax", [answer], [operator.outputs[0].full_name], name=name("label"), axis=1, keepdims=0
    )


def _is_narrow(operator: Any) -> bool:
    return isinstance(operator.outputs[-1].type, FloatTensorType)


class _Adder:
    """Adds one node at a time to skl2onnx's container and returns the name of its output."""

    def __init__(self, container: Any, name: Callable[[str], str], dtype: Any) -> None:
        self._container = container
        self._name = name
        self.element = onnx.TensorProto.FLOAT if dtype is np.float32 else onnx.TensorProto.DOUBLE

    def __call__(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        output = self._name(kind.lower())
        self._container.add_node(kind, inputs, [output], name=self._name(kind), **attributes)
        return output

    def constant(self, value: float) -> str:
        """The name of a tensor [1] that holds a number."""
        name = self._name("constant")
        self._container.add_initializer(name, self.element, [1], [value])
        return name

    def link(self, margin: str, member: Member) -> str:
        """The answer from the margin: the formulas of `server.model.link` in operators."""
        rows = self("Cast", [margin], to=self.element)
        if (divisor := member.link.get("divisor", 1)) != 1:
            rows = self("Div", [rows, self.constant(float(divisor))])
        name, scale = member.link["name"].removesuffix("32"), member.link.get("scale", 1.0)
        if name in ("logistic", "one_vs_all"):
            power = self("Exp", [self("Mul", [rows, self.constant(-float(scale))])])
            return self("Div", [self.constant(1.0), self("Add", [self.constant(1.0), power])])
        if name == "exp":
            return self("Exp", [rows])
        if name == "softmax":
            return self("Softmax", [rows], axis=1)
        if name != "identity":
            raise ExportRefused(f"expected an objective whose link is known inside a pipeline, got {name}")
        return rows


def with_trees(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every mark replaced by the trees it stands for; the same model without marks."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.domain != _DOMAIN:
            nodes.append(node)
            continue
        (number,) = (attribute.i for attribute in node.attribute if attribute.name == "number")
        more, constants = tree_nodes(_marked.get()[number].forest, node.input[0], node.output[0])
        nodes += more
        model.graph.initializer.extend(constants)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if any(node.domain == "ai.onnx.ml" and node.op_type == "TreeEnsemble" for node in nodes):
        _import_trees(model)
    return model


def _import_trees(model: onnx.ModelProto) -> None:
    kept = [opset for opset in model.opset_import if opset.domain not in (_DOMAIN, "ai.onnx.ml")]
    del model.opset_import[:]
    model.opset_import.extend([*kept, onnx.helper.make_opsetid("ai.onnx.ml", 5)])
