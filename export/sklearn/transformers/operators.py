"""The operators that stand for a fitted transformer, added to skl2onnx's container one by one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from onnx import TensorProto, numpy_helper
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import FloatTensorType

#: By class of transformer how many columns it makes of its inputs, and the name of what it makes of
#: `Operators.rows`.
Formulas: TypeAlias = dict[type, tuple[Callable[[Any, Any], int], Callable[["Operators", Any], str]]]


class Operators:
    """Adds one operator at a time to a graph, and gives the name of what it makes.

    `dtype` is that of the rows, and of the constants where nothing else is said.
    """

    def __init__(self, scope: Any, inputs: Sequence[Any], container: Any) -> None:
        self._scope, self._inputs, self._container = scope, inputs, container
        is_narrow = bool(inputs) and isinstance(inputs[0].type, FloatTensorType)
        self.dtype = np.float32 if is_narrow else np.float64

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The name of what this operator makes of its inputs."""
        made = str(self._scope.get_unique_variable_name(kind.lower()))
        name = self._scope.get_unique_operator_name(kind)
        self._container.add_node(kind, list(inputs), [made], name=name, **attributes)
        return made

    def constant(self, values: Any, dtype: Any = None) -> str:
        """The name of a tensor of these values."""
        name = str(self._scope.get_unique_variable_name("constant"))
        array = np.asarray(values, dtype=dtype or self.dtype)
        self._container.initializers.append(numpy_helper.from_array(array, name))
        return name

    def rows(self) -> str:
        """The rows that the transformer is given, [N, F]."""
        names = [variable.full_name for variable in self._inputs]
        return str(names[0]) if len(names) == 1 else self("Concat", *names, axis=1)

    def columns(self, rows: str, places: Any) -> str:
        return self("Gather", rows, self.constant(places, np.int64), axis=1)

    def as_numbers(self, marks: str) -> str:
        """True and false, or whole numbers, as numbers of the rows' kind."""
        return self("Cast", marks, to=TensorProto.FLOAT if self.dtype is np.float32 else TensorProto.DOUBLE)

    def add_nodes(self, nodes: list[Any], constants: list[Any]) -> None:
        """Add operators that are made already."""
        self._container.nodes.extend(nodes)
        self._container.initializers.extend(constants)

    def name(self, word: str) -> str:
        """A name that nothing else has."""
        return str(self._scope.get_unique_variable_name(word))


def register(formulas: Formulas) -> None:
    """Make skl2onnx convert transformers of these classes in this way."""
    for kind, (width, formula) in formulas.items():
        shapes, convert = partial(_shapes, width), partial(_convert, formula)
        update_registered_converter(kind, f"Hotrow{kind.__name__}", shapes, convert, overwrite=True)


def _shapes(width: Callable[[Any, Any], int], operator: Any) -> None:
    made = width(operator.raw_operator, operator.inputs)
    operator.outputs[0].type = type(operator.inputs[0].type)([None, made])


def _convert(formula: Callable[[Operators, Any], str], scope: Any, operator: Any, container: Any) -> None:
    made = formula(Operators(scope, operator.inputs, container), operator.raw_operator)
    name = scope.get_unique_operator_name("Identity")
    container.add_node("Identity", [made], [operator.outputs[0].full_name], name=name)
