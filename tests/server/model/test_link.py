"""Links of many margins: the bits of each margin's own."""

import math

import numpy as np
import pytest

from server.batch.exponentials import polars_exp
from server.model.link import c_exp, link_of, many_link_of

EDGES = [0.0, -0.0, 5e-324, 1.0, -36.7368005696771, 709.782712893384, -709.782712893384, 1e308, math.nan]


@pytest.mark.parametrize("overflow", [[], [-math.inf, math.inf, -710.0]])
@pytest.mark.parametrize(
    "link",
    [
        {"name": "logistic"},
        {"name": "logistic", "scale": 0.3, "divisor": 7},
        {"name": "exp"},
        {"name": "identity", "divisor": 3},
    ],
)
def test_many_margins_have_the_bits_of_each(link: dict[str, object], overflow: list[float]) -> None:
    near = np.random.default_rng(0).normal(0, 8, 2000)
    margins = np.concatenate([near, EDGES if overflow else EDGES[:5], overflow])
    one = link_of(link)
    expected = np.array([one(margin) for margin in margins.tolist()])
    for exp in (c_exp, polars_exp):
        assert many_link_of(link, exp)(margins).tobytes() == expected.tobytes()
