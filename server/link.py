"""From the model's margin to its answer, in the formulas of the library that trained it.

The formulas are computed in Python floats with `math.exp`, which is the C
library's own `exp`, as LightGBM uses it. NumPy's vectorised `exp` and ONNX
Runtime's `Sigmoid` differ from it in the last bit.
"""

import math
from collections.abc import Callable


def logistic(scale: float = 1.0) -> Callable[[float], float]:
    """`margin -> 1 / (1 + exp(-scale * margin))`, the probability of the positive class.

    Source: `BinaryLogloss::ConvertOutput` in LightGBM's `binary_objective.hpp`.
    """
    exp = math.exp

    def probability(margin: float) -> float:
        try:
            return 1.0 / (1.0 + exp(-scale * margin))
        except OverflowError:  # C's exp gives infinity there, and 1 / inf is 0
            return 0.0

    return probability
