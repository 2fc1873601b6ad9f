"""From the model's margins to its response, in the formulas of the library that trained it.

Two habits make the responses equal to the library's to the bit. The formulas of
LightGBM are computed in Python floats with `math.exp`, which is the C library's
own `exp`, as LightGBM uses it; NumPy's vectorised `exp` and ONNX Runtime's
`Sigmoid` differ from it in the last bit. The formulas of XGBoost (`…32`) are
computed with the C library's `expf`, and every result is rounded to float32
before the next; float64 arithmetic rounded once more to float32 is float32
arithmetic (Figueroa, "When is double rounding innocuous?", 1995).

A bundle names its link: `{"name": "logistic", "scale": 1.0}`.
"""

import ctypes
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

#: Raw scores of n rows, [n], or of K classes [n, K].
Margins: TypeAlias = npt.NDArray[np.float64]
#: One margin to one response: a probability or a predicted value.
Link: TypeAlias = Callable[[float], float]
#: A column of float64 numbers, [n].
Column: TypeAlias = npt.NDArray[np.float64]
#: Margins, [n], to n responses.
ManyLink: TypeAlias = Callable[[Column], Column]
#: The margins of all classes to their probabilities.
ClassLink: TypeAlias = Callable[[list[float]], list[float]]

_float32 = struct.Struct("f")
_expf: Any = None


def link_of(description: Mapping[str, Any]) -> Link:
    """The link a bundle names for one margin; raises `ValueError` for an unknown name or parameter."""
    link = _make(_LINKS, description)
    trees = description.get("divisor", 1)
    # A forest's answer is a mean: LightGBM divides the sum once, in float64 (`GBDT::Predict`).
    return link if trees == 1 else lambda margin: link(margin / trees)


def c_exp(exponents: Column) -> Column:
    """`exp` of each, by the C library's; infinite where that is too large."""
    try:
        return np.fromiter(map(math.exp, exponents.tolist()), np.float64, len(exponents))
    except OverflowError:
        return np.fromiter(map(exponential, exponents.tolist()), np.float64, len(exponents))


def many_link_of(description: Mapping[str, Any], exp: ManyLink = c_exp) -> ManyLink:
    """The link for many margins, equal to `link_of` for each to the bit; raises `ValueError` as it does.

    `exp` must give the bits of `c_exp`. NumPy's own does not, its arithmetic does.
    """
    link = link_of(description)
    scale, trees = description.get("scale", 1.0), description.get("divisor", 1)
    if description["name"] == "logistic":
        return lambda margins: 1.0 / (1.0 + exp(margins / trees * -scale))
    if description["name"] == "exp":
        return lambda margins: exp(margins / trees)
    return lambda margins: np.fromiter(map(link, margins.tolist()), np.float64, len(margins))


def class_link_of(description: Mapping[str, Any]) -> ClassLink:
    """The link a bundle names for one margin a class; raises `ValueError` as `link_of` does."""
    link = _make(_CLASS_LINKS, description)
    trees = description.get("divisor", 1)
    return link if trees == 1 else lambda margins: link([margin / trees for margin in margins])


def _make(links: Mapping[str, Callable[[Mapping[str, Any]], Any]], description: Mapping[str, Any]) -> Any:
    """The link of this description, whose parameters would otherwise fail in a request."""
    name = description.get("name")
    if not isinstance(name, str) or name not in links:
        raise ValueError(f"expected a link named {', '.join(links)}, got {name!r}")
    for parameter, value in description.items():
        if parameter not in ("name", "scale", "divisor"):
            raise ValueError(f"expected a name, a scale and a divisor of a link, got {parameter!r}")
        if parameter != "name" and not (type(value) in (int, float) and 0 < value < math.inf):
            raise ValueError(f"expected a positive number as the {parameter} of the link, got {value!r}")
    return links[name](description)


def logistic(scale: float = 1.0) -> Link:
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


def identity(margin: float) -> float:
    """The margin is the response."""
    return margin


def exponential(margin: float) -> float:
    """`exp(margin)`. Source: `RegressionPoissonLoss::ConvertOutput` in `regression_objective.hpp`."""
    try:
        return math.exp(margin)
    except OverflowError:
        return math.inf


def signed_square(margin: float) -> float:
    """The square with the margin's sign: LightGBM's `reg_sqrt`, `RegressionL2loss::ConvertOutput`."""
    return math.copysign(1.0, margin) * margin * margin if margin else 0.0


def log1p_exp(margin: float) -> float:
    """`log1p(exp(margin))`. Source: `CrossEntropyLambda::ConvertOutput` in `xentropy_objective.hpp`."""
    return math.log1p(exponential(margin))


def softmax(margins: list[float]) -> list[float]:
    """Source: `Common::Softmax` in LightGBM's `common.h`; sums in the order of the classes."""
    largest = max(margins)
    powers = [math.exp(margin - largest) for margin in margins]
    total = 0.0  # a loop: the built-in sum of Python 3.12 compensates its rounding
    for power in powers:
        total += power
    return [power / total for power in powers]


def one_vs_all(scale: float) -> ClassLink:
    """Each class by itself; they do not sum to 1 (`MulticlassOVA::ConvertOutput`)."""
    probability = logistic(scale)
    return lambda margins: [probability(margin) for margin in margins]


def logistic32(margin: float) -> float:
    """Source: `common::Sigmoid` in XGBoost's `math.h`."""
    return float32(1.0 / float32(float32_exp(min(-margin, _LARGEST_EXPONENT)) + 1.0))


def softmax32(margins: list[float]) -> list[float]:
    """Source: `common::Softmax` in XGBoost's `math.h`: the sum is a float64, rounded at its end."""
    largest = max(margins)
    powers = [float32_exp(float32(margin - largest)) for margin in margins]
    total = 0.0
    for power in powers:
        total += power
    total = float32(total)
    return [float32(power / total) for power in powers]


def float32(value: float) -> float:
    """The float32 nearest to a float64, infinite beyond their range."""
    try:
        return float(_float32.unpack(_float32.pack(value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def float32_exp(exponent: float) -> float:
    """The C library's `expf`."""
    global _expf
    if _expf is None:
        _expf = ctypes.CDLL(None).expf
        _expf.argtypes, _expf.restype = [ctypes.c_float], ctypes.c_float
    return float(_expf(exponent))


#: `88.7f` of XGBoost, which keeps `expf` finite.
_LARGEST_EXPONENT = float32(88.7)

_LINKS: dict[str, Callable[[Mapping[str, Any]], Link]] = {
    "identity": lambda _: identity,
    "logistic": lambda link: logistic(link.get("scale", 1.0)),
    "exp": lambda _: exponential,
    "signed_square": lambda _: signed_square,
    "log1p_exp": lambda _: log1p_exp,
    "logistic32": lambda _: logistic32,
    "exp32": lambda _: float32_exp,
}
_CLASS_LINKS: dict[str, Callable[[Mapping[str, Any]], ClassLink]] = {
    "identity": lambda _: list,
    "softmax": lambda _: softmax,
    "one_vs_all": lambda link: one_vs_all(link.get("scale", 1.0)),
    "softmax32": lambda _: softmax32,
}
