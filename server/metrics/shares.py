"""Shares that are judged by themselves, since a population stability index gives small ones little weight."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

#: A share may grow or shrink by half, or move by half a hundredth, before it is called drift.
SHARE_FACTOR, SHARE_CHANGE = 1.5, 0.005
#: A bin of less than a tenth, as quantiles make them, holds a value that stands for itself.
RARE_SHARE = 0.08


def lone_bins(shares: Sequence[float], are_codes: bool) -> tuple[int, ...]:
    """The places of the bins whose share is judged by itself.

    Of two bins that is the rarer, of words (`are_codes`) each that is not most of all, of a
    number's the rare ones. A bin that was empty in training is told by what was never seen.
    """
    if len(shares) == 2:
        return (int(np.argmin(shares)),) if all(shares) else ()
    most = 0.5 if are_codes else RARE_SHARE
    return tuple(place for place, share in enumerate(shares) if 0.0 < share < most)


def moved_shares(
    reference: npt.NDArray[np.int64], current: npt.NDArray[np.float64], alone: Sequence[int], rate: float
) -> tuple[int, ...]:
    """Those of the bins `alone` whose share moved by more than is tolerated, and than chance at this `rate`.

    `reference` and `current` are counts [bins].
    """
    before, n = int(reference.sum()), round(float(current.sum()))
    found = []
    for place in alone:
        then, now = int(reference[place]), round(float(current[place]))
        least, most = _tolerated(then / max(1, before))
        if least <= now / max(1, n) <= most:
            continue
        if now * before < then * n:  # it shrank: all the others grew
            then, now = before - then, n - now
        if chance_of_more(now, n, then + now, before + n) < rate / 2:
            found.append(place)
    return tuple(found)


def tolerated_shares(
    reference: npt.NDArray[np.int64], current: npt.NDArray[np.int64], moved: Sequence[int]
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Of each of the bins that `moved`: its share and the others', before, and as far as tolerated."""
    for place in moved:
        then, now = float(reference[place] / reference.sum()), current[place] / current.sum()
        last = _tolerated(then)[int(now > then)]
        yield (then, 1.0 - then), (last, 1.0 - last)


def chance_of_more(found: int, drawn: int, marked: int, total: int) -> float:
    """The chance that, of `drawn` from `total`, `found` or more are of the `marked` ones.

    One side of Fisher's exact test; `found` must be what is expected, or more.
    """
    others = total - marked
    term = math.exp(
        _log_choices(marked, found) + _log_choices(others, drawn - found) - _log_choices(total, drawn)
    )
    chance = term
    for k in range(found, min(drawn, marked)):
        term *= (marked - k) * (drawn - k) / ((k + 1) * (others - drawn + k + 1))
        chance += term
        if term <= chance * 1e-9:
            break
    return chance


def _tolerated(share: float) -> tuple[float, float]:
    """The least and the largest share that are no drift from this one."""
    return (
        min(share / SHARE_FACTOR, share - SHARE_CHANGE),
        max(share * SHARE_FACTOR, share + SHARE_CHANGE),
    )


def _log_choices(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
