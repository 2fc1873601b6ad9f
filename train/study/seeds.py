"""One seed, many independent random streams."""

import numpy as np

#: What a stream is for: the same trial of two seeds, or two steps of one seed, share nothing.
SEARCH, FOLDS, TREES, THRESHOLD, RECIPE, LEARNING, EXAMPLES = range(1, 8)


def derived(seed: int, *path: int) -> int:
    """A seed below 2**31 for the stream that `path` names.

    Seeds counted upwards overlap: the tenth stream of seed 0 would be the ninth of
    seed 1. Source: numpy's `SeedSequence`, after M. O'Neill's seed_seq (2015).
    """
    return int(np.random.SeedSequence((seed, *path)).generate_state(1)[0] >> 1)
