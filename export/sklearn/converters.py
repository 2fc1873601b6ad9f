"""The converters of skl2onnx that stand in for its own while an estimator is converted, and only then.

Who goes on with skl2onnx in this process would else get graphs with marks of ours in them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skl2onnx._parse import sklearn_parsers_map
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._registration import _converter_pool, _shape_calculator_pool, register_converter
from skl2onnx.operator_converters.pipelines import convert_pipeline

from export.sklearn.discriminant import register_discriminant
from export.sklearn.functions import FUNCTIONS
from export.sklearn.members import register_members
from export.sklearn.parts import LIBRARIES, parts
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
        register_converter(_PIPELINE, _convert_pipeline, overwrite=True, options=_PIPELINE_OPTIONS)
        yield
    finally:
        for table, kept in zip(_REGISTRY, before, strict=True):
            table.clear()
            table.update(kept)


#: What a calibration, and who calls `to_onnx`, may ask of a pipeline's converter.
_PIPELINE = "SklearnPipeline"
_PIPELINE_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
    "raw_scores": [True, False],
}


def _convert_pipeline(scope: Any, operator: Any, container: Any) -> None:
    """A pipeline inside an estimator: the margin that a calibration asks of it is that of its last step.

    skl2onnx takes the option and forgets it: the calibrator was given probabilities.
    """
    pipeline = operator.raw_operator
    last = pipeline.steps[-1][1]
    is_raw = bool(container.get_options(pipeline, {}).get("raw_scores"))
    if is_raw and hasattr(last, "decision_function"):
        for options in (container, scope):
            options.add_options(id(last), {"raw_scores": True})
    convert_pipeline(scope, operator, container)


#: Steps that skl2onnx converts to what ONNX Runtime does not load.
_UNLOADABLE = ("KNNImputer", "RandomTreesEmbedding")


def unknown_steps(estimator: Any) -> list[str]:
    """The transformers inside an estimator that have no converter that works, by their classes' names."""
    with own_converters(estimator):
        kinds = [type(part) for part in parts(estimator) if hasattr(part, "transform")]
        unknown = [kind.__name__ for kind in kinds if kind.__name__ in _UNLOADABLE or not _is_known(kind)]
    return unknown + _foreign_steps(estimator)


def _foreign_steps(estimator: Any) -> list[str]:
    """Those of libraries that `parts` does not look into, such as category_encoders', with its name."""
    given = estimator.get_params(deep=True).values() if hasattr(estimator, "get_params") else ()
    kinds = [type(value) for value in given if hasattr(value, "transform") and not isinstance(value, type)]
    homes = [(kind, kind.__module__.partition(".")[0]) for kind in kinds]
    return [f"{kind.__name__} of {home}" for kind, home in homes if home not in LIBRARIES]


def _is_known(kind: type) -> bool:
    alias = sklearn_operator_name_map.get(kind)
    return kind in sklearn_parsers_map or (alias in _converter_pool and alias in _shape_calculator_pool)
