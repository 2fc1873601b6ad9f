"""`exp` of a column at a time, with the bits of one at a time."""

import numpy as np
import polars as pl

from server.model.link import Column, ManyLink, c_exp

#: Two ways to compute `exp` differ in the last bit of one value in some hundreds at most.
_PROBES = 20_000


def column_exp() -> ManyLink:
    """polars' `exp`, which calls the C library's as Python does; Python's own where one bit differs."""
    # Multiples of the golden ratio lie everywhere alike; NumPy's random numbers take longer to import.
    probes = np.asarray((np.arange(_PROBES) * 0.6180339887498949 % 1.0 - 0.5) * 64.0, np.float64)
    return polars_exp if polars_exp(probes).tobytes() == c_exp(probes).tobytes() else c_exp


def polars_exp(exponents: Column) -> Column:
    """`exp` of each; infinite where it is too large. Other threads may run meanwhile."""
    return pl.Series(exponents).exp().to_numpy()
