"""Trees inside something of scikit-learn: the last step of a pipeline, the members of an ensemble of models.

skl2onnx converts what is around them. Where it meets one of them it leaves a
mark, and the mark is replaced by our own operator, so a tree compares and adds
there as it does alone.
"""

import contextvars
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

from export.errors import ExportRefused
from export.forest.conversion import Conversion
from export.forest.evidence import Evidence
from export.forest.graph import tree_nodes
from export.forest.trees import Forest, Split
from export.reader import member_of
from export.sklearn.parts import parts
from export.sklearn.transformers.operators import Operators
from export.sklearn.trees import Ensemble, raw_scores
from export.sklearn.trees import read_ensemble as read_sklearn
from server.model.link import Margins, float32
from server.model.schema import Matrix

_DOMAIN = "hotrow"
_MARK = "Trees"
_FLOAT, _DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
_LARGEST_EXPONENT = float32(88.7)  # as in `server.model.link`
#: What converters of ensembles of models may ask of a member's converter: a calibration that of the margin.
_OPTIONS = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [True, False]}
_RAW = {"raw_scores": [True, False]}


@dataclass(frozen=True)
class Member:
    """The forest of a fitted estimator, the link after it, and the estimator's own sums of leaves.

    `categories` are the values of the columns that the forest compares by their positions in these.
    """

    forest: Forest
    link: dict[str, Any]
    raw: Callable[[Matrix], Margins]
    categories: Mapping[int, tuple[Any, ...]] = field(default_factory=dict)


#: What is known of the columns beside the estimator, for members that hold lists of pandas categories.
evidence_of_columns: contextvars.ContextVar[Evidence] = contextvars.ContextVar(
    "evidence_of_columns",
    default=Evidence(),  # noqa: B039  # frozen
)


def read_member(estimator: Any) -> Member | None:
    """The trees of a fitted estimator of LightGBM, XGBoost or scikit-learn, None if it is none of trees.

    Raises `ExportRefused` for a construct whose equality is not proven.
    """
    library = type(estimator).__module__.partition(".")[0]
    if library == "sklearn":
        found = read_sklearn(estimator)
        return _sklearn(estimator, found) if found else None
    if not hasattr(estimator, "get_params"):  # a bare booster is no member of an ensemble
        return None
    return {"lightgbm": _lightgbm, "xgboost": _xgboost}.get(library, lambda _: None)(estimator)


def _sklearn(estimator: Any, ensemble: Ensemble) -> Member:
    raw = partial(raw_scores, estimator)
    numbers = all(isinstance(v, int | float) for values in ensemble.categories.values() for v in values)
    if numbers:  # what a transformer before it gives are the values themselves
        return Member(_by_value(ensemble), ensemble.link, raw)
    return Member(ensemble.forest, ensemble.link, raw, ensemble.categories)


def _by_value(ensemble: Ensemble) -> Forest:
    """The forest with the values of its categories as members, not their positions."""

    def valued(split: Split) -> Split:
        values = [float(ensemble.categories[split.feature][i]) for i in split.members]
        if not all(value.is_integer() for value in values):
            raise ExportRefused(
                "expected whole numbers as categories of HistGradientBoosting in a pipeline, got "
                f"{values[0]:g}: encode them with an OrdinalEncoder before it"
            )
        return replace(split, members=tuple(sorted(map(int, values)))) if values else split

    trees = ensemble.forest.trees if ensemble.categories else ()
    made = tuple(replace(tree, splits=tuple(map(valued, tree.splits))) for tree in trees)
    return replace(ensemble.forest, trees=made) if made else ensemble.forest


def _lightgbm(estimator: Any) -> Member:
    from export.lightgbm.model import convert_lightgbm

    text = member_of(estimator, "best")["text"]
    return _converted(convert_lightgbm(text, evidence=evidence_of_columns.get()))


def _xgboost(estimator: Any) -> Member | None:
    from export.xgboost.model import convert_xgboost

    content = bytes(estimator.get_booster().save_raw("json"))
    member = _converted(convert_xgboost(content, missing=getattr(estimator, "missing", None)))
    if "c" in (estimator.get_booster().feature_types or ()) and not member.categories:
        raise ExportRefused(
            "expected the names of XGBoost's categories inside a scikit-learn model, got a file without: "
            "XGBoost writes them since 3.1 and cuts those that are not ASCII; rename them, or encode the "
            "column in a pipeline"
        )
    if not getattr(estimator, "reads_sparse_rows_", False):
        return member
    forest = replace(member.forest, sparse=True)
    return replace(member, forest=forest, raw=lambda rows: member.raw(np.where(rows == 0.0, np.nan, rows)))


def _converted(conversion: Conversion) -> Member:
    forest = constant_leaves(conversion, "inside of a scikit-learn model")
    return Member(forest, conversion.link, conversion.source.margins, conversion.values)


def constant_leaves(conversion: Conversion, where: str) -> Forest:
    """The trees of a booster that stands there; raises `ExportRefused` where they are none that fit in."""
    if conversion.forest is None:
        raise ExportRefused(f"expected trees {where}, got gblinear: save it alone")
    if conversion.forest.is_linear:
        raise ExportRefused(
            f"expected leaves that are constants {where}, got linear_tree=true: save the booster alone and "
            "prepare its columns before, or train without it"
        )
    return conversion.forest


def native_columns(estimator: Any, names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """The values of the columns that members take as pandas categories, by name.

    Raises `ExportRefused` where a member has such columns that are not the whole's own.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for part in parts(estimator):
        member = read_member(part)
        if member is None or not member.categories:
            continue
        if list(map(str, getattr(part, "feature_names_in_", ()))) != list(names):
            raise ExportRefused(
                f"expected numbers before {type(part).__name__} in a pipeline, got pandas categories: encode "
                "them in the pipeline, or save the last step alone and serve that"
            )
        mine = {names[i]: values for i, values in member.categories.items()}
        if other := [name for name in mine if found.get(name, mine[name]) != mine[name]]:
            raise ExportRefused(
                f"expected the same categories of {other[0]} in every member, got others: a fold lacks a "
                "rare one; encode the column in a pipeline before the members are fitted"
            )
        found |= mine
    return found


_marked: contextvars.ContextVar[list[Member]] = contextvars.ContextVar("marked")


def register_members(estimator: Any) -> None:
    """Make skl2onnx leave a mark for every kind of tree ensemble inside `estimator`."""
    _marked.set([])
    for kind in {type(part) for part in parts(estimator) if read_member(part) is not None}:
        options = _OPTIONS | (_RAW if hasattr(kind, "decision_function") else {})
        if not hasattr(kind, "predict_proba"):
            options = {}  # with them skl2onnx would ask a regressor for its classes
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
    add = _Link(scope, operator, container)
    margin = add.name("margin")
    container.add_node(
        _MARK, [operator.inputs[0].full_name], [margin], op_domain=_DOMAIN, op_version=1,
        name=scope.get_unique_operator_name(_MARK), number=len(marked) - 1,
    )  # fmt: skip
    is_raw = bool(container.get_options(estimator, {}).get("raw_scores"))
    answer = add.as_numbers(margin) if is_raw else add.link(margin, member)
    if not hasattr(estimator, "classes_"):
        container.add_node("Identity", [answer], [operator.outputs[0].full_name], name=add.name("id"))
        return
    if len(estimator.classes_) == 2:
        other = add("Neg", answer) if is_raw else add("Sub", add.constant([1.0]), answer)
        answer = add("Concat", other, answer, axis=1)
    container.add_node("Identity", [answer], [operator.outputs[1].full_name], name=add.name("id"))
    # Whoever asks for labels asks the wrapper; a graph that is served has none.
    container.add_node(
        "ArgMax", [answer], [operator.outputs[0].full_name], name=add.name("label"), axis=1, keepdims=0
    )


class _Link(Operators):
    """The operators of a link, in the precision of the graph."""

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        super().__init__(scope, operator.inputs, container)
        self.dtype = np.float32 if isinstance(operator.outputs[-1].type, FloatTensorType) else np.float64

    def link(self, margin: str, member: Member) -> str:
        """The answer from the margin: the formulas of `server.model.link` in operators."""
        if member.link["name"].endswith("32"):
            return self.as_numbers(self._narrow(margin, member.link["name"]))
        rows = self.as_numbers(margin)
        if (divisor := member.link.get("divisor", 1)) != 1:
            rows = self("Div", rows, self.constant([divisor]))
        name, scale = member.link["name"], member.link.get("scale", 1.0)
        if name in ("logistic", "one_vs_all"):
            power = self("Exp", self("Mul", rows, self.constant([-float(scale)])))
            return self("Div", self.constant([1.0]), self("Add", self.constant([1.0]), power))
        if name == "exp":
            return self("Exp", rows)
        if name == "softmax":
            return self("Softmax", rows, axis=1)
        if name != "identity":
            raise ExportRefused(
                f"expected an objective whose link is known inside a pipeline, got {name}: save the "
                "booster alone"
            )
        return rows

    def _narrow(self, margin: str, name: str) -> str:
        """XGBoost's links in float32; the exponential in float64, rounded, is the C library's."""
        if name == "logistic32":
            largest = self.constant([_LARGEST_EXPONENT], np.float32)
            power = self._power(self("Min", self("Neg", margin), largest))
            one = self.constant([1.0], np.float32)
            return self("Div", one, self("Add", power, one))
        if name == "exp32":
            return self._power(margin)
        axis = self.constant([1], np.int64)
        power = self._power(self("Sub", margin, self("ReduceMax", margin, axis, keepdims=1)))
        total = self("ReduceSum", self("Cast", power, to=_DOUBLE), axis, keepdims=1)
        return self("Div", power, self("Cast", total, to=_FLOAT))

    def _power(self, exponent: str) -> str:
        return self("Cast", self("Exp", self("Cast", exponent, to=_DOUBLE)), to=_FLOAT)


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
