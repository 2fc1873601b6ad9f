"""The converters of skl2onnx that stand in for its own while an estimator is converted, and only then.

Who goes on with skl2onnx in this process would else get graphs with marks of ours in them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skl2onnx._parse import sklearn_parsers_map
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._registration import _converter_pool, _shape_calculator_pool

from export.sklearn.discriminant import register_discriminant
from export.sklearn.functions import FUNCTIONS
from export.sklearn.members import register_members
from export.sklearn.parts import parts
from export.sklearn.plain import PLAIN
from export.sklearn.tables import TABLES
from export.sklearn.target import register_target
from export.sklearn.transformers.bins import BINS
from export.sklearn.transformers.imputer import IMPUTERS
from export.sklearn.transformers.norms import NORMS
from export.sklearn.transformers.operators import register
from export.sklearn.transformers.polynomials import POLYNOMIALS
from export.sklearn.transformers.powers import POWERS
from export.sklearn.transformers.quantiles import QUANTILES
from export.sklearn.transformers.splines import SPLINES

#: Where `update_registered_converter` writes; skl2onnx has no way to take something back.
_REGISTRY: tuple[dict[Any, Any], ...] = (
    sklearn_parsers_map,
    sklearn_operator_name_map,
    _converter_pool,
    _shape_calculator_pool,
)


@contextmanager
def own_converters(estimator: Any) -> Iterator[None]:
    """Convert with what is ours, also for the members of this estimator."""
    before = [dict(table) for table in _REGISTRY]
    try:
        register(BINS | FUNCTIONS | IMPUTERS | NORMS | PLAIN | POLYNOMIALS)
        register(POWERS | QUANTILES | SPLINES | TABLES)
        register_target()
        register_discriminant()
        register_members(estimator)
        yield
    finally:
        for table, kept in zip(_REGISTRY, before, strict=True):
            table.clear()
            table.update(kept)


#: Steps that skl2onnx converts to what ONNX Runtime does not load.
_UNLOADABLE = ("KNNImputer", "RandomTreesEmbedding")


def unknown_steps(estimator: Any) -> list[str]:
    """The transformers inside an estimator that have no converter that works, by their classes' names."""
    with own_converters(estimator):
        kinds = [type(part) for part in parts(estimator) if hasattr(part, "transform")]
        return [kind.__name__ for kind in kinds if kind.__name__ in _UNLOADABLE or not _is_known(kind)]


def _is_known(kind: type) -> bool:
    alias = sklearn_operator_name_map.get(kind)
    return kind in sklearn_parsers_map or (alias in _converter_pool and alias in _shape_calculator_pool)
