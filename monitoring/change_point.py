"""Where a sequence of counts changes most."""

import numpy as np
import numpy.typing as npt


def change_point(counts: npt.NDArray[np.int64]) -> int:
    """The row of counts, int64 [periods, bins], from which on they are of another distribution.

    That which makes the two parts likeliest, each of one multinomial distribution (D. Hinkley,
    Biometrika 57, 1970, for other families); 0 if no two parts are likelier than one.
    """
    before = np.cumsum(counts, axis=0)[:-1].astype(np.float64)
    if not len(before):
        return 0
    whole = counts.sum(axis=0).astype(np.float64)
    gains = _likelihood(before) + _likelihood(whole - before) - _likelihood(whole[np.newaxis])
    best = int(np.argmax(gains))
    return best + 1 if gains[best] > 0 else 0


def _likelihood(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The log-likelihood of each row of counts under its own shares."""
    shares = counts / np.maximum(1.0, counts.sum(axis=1, keepdims=True))
    found: npt.NDArray[np.float64] = (counts * np.log(np.where(counts > 0, shares, 1.0))).sum(axis=1)
    return found
