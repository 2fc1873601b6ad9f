"""A table searched by halves, as a tree: what `numpy.searchsorted` does, in one operator."""

from collections.abc import Sequence

from export.forest.trees import Split, Tree


def search_tree(points: Sequence[float], feature: int = 0, first: int = 0) -> Tree:
    """The tree whose leaf is `first` and how many of the ascending points do not send a number left.

    In a strict forest those are the points that are no more than it, else those less than it.
    """
    splits: list[Split | None] = []
    leaves: list[float] = []

    def node(low: int, high: int) -> int:
        if low == high:
            leaves.append(float(first + low))
            return ~(len(leaves) - 1)
        middle = (low + high) // 2
        place = len(splits)
        splits.append(None)
        left, right = node(low, middle), node(middle + 1, high)
        splits[place] = Split(feature, float(points[middle]), False, "nan", left, right)
        return place

    node(0, len(points))
    return Tree(tuple(split for split in splits if split is not None), tuple(leaves))
