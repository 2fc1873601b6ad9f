"""Missing values that never pay: in training they stand at the worse end of their feature.

LightGBM sends a missing value at each split to the side that gains more, so that to leave a bad
value out can lower the risk. A feature whose answer goes one way (`monotone`) has a worse end:
a value beyond it stands in for a missing one while trees are grown, under the same constraint,
and the finished trees send a missing value where that value went. No known value then gives a
higher output, or with `lowest` a lower one, which the export shows of every tree.
"""

import re
from collections.abc import Mapping

import lightgbm
import numpy as np

from server.model.schema import Matrix
from train.tables.rows import Inputs

#: LightGBM's `decision_type` of a numerical split: missing type NaN in bits 2 and 3, default left in bit 1.
_LEFT, _RIGHT = "10", "8"


def stands_low(inputs: Inputs) -> dict[int, bool]:
    """Of each feature whose missing values have a given end whether that is the one of small values."""
    names = inputs.schema.names
    return {
        names.index(name): (inputs.monotone[name] < 0) == (end == "highest")
        for name, end in inputs.missing.items()
    }


def filled(features: Matrix, inputs: Inputs) -> Matrix:
    """A copy of [n, F] rows whose missing values stand beyond the values of their feature, where given."""
    rows = features.copy()
    for column, low in stands_low(inputs).items():
        values = rows[:, column]
        known = values[~np.isnan(values)]
        beyond = np.min(known, initial=0.0) - 1.0 if low else np.max(known, initial=0.0) + 1.0
        rows[:, column] = np.where(np.isnan(values), beyond, values)
    return rows


def routed(booster: lightgbm.Booster, features: Matrix, inputs: Inputs) -> lightgbm.Booster:
    """A booster of `filled` rows as one of the rows themselves: a missing value goes where its stand-in went.

    A stand-in lies beyond every threshold, so that is one side of all splits by its feature. The trees are
    those up to the best iteration.
    """
    ends = stands_low(inputs)
    if not ends:
        return booster
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    head, sizes, trees = _parts(text)
    changed = [_routed_tree(tree, ends) for tree in trees]
    head = head.replace(f"tree_sizes={sizes}", "tree_sizes=" + " ".join(str(len(t)) for t in changed))
    whole = _with_ranges(head, features, ends) + "".join(changed) + text[text.index("end of trees") :]
    return lightgbm.Booster(model_str=whole)


def _parts(text: str) -> tuple[str, str, list[str]]:
    """The header, its list of sizes, and each tree as it stands."""
    start = text.index("\nTree=0\n") + 1
    head = text[:start]
    sizes = next(line for line in head.splitlines() if line.startswith("tree_sizes=")).partition("=")[2]
    trees = []
    for size in map(int, sizes.split()):
        trees.append(text[start : start + size])
        start += size
    return head, sizes, trees


def _routed_tree(tree: str, ends: Mapping[int, bool]) -> str:
    found = re.search(r"^split_feature=(.*)$", tree, re.MULTILINE)
    if found is None or not found[1]:
        return tree
    features = map(int, found[1].split())

    def routed_splits(line: re.Match[str]) -> str:
        types = zip(features, line[1].split(), strict=True)
        sent = [(_LEFT if ends[f] else _RIGHT) if f in ends else type_ for f, type_ in types]
        return f"decision_type={' '.join(sent)}"

    return re.sub(r"^decision_type=(.*)$", routed_splits, tree, count=1, flags=re.MULTILINE)


def _with_ranges(head: str, features: Matrix, ends: Mapping[int, bool]) -> str:
    """The header with the ranges of the values themselves, which do not hold the stand-ins."""
    infos = next(line for line in head.splitlines() if line.startswith("feature_infos="))
    ranges = infos.partition("=")[2].split(" ")
    for column in ends:
        if ranges[column].startswith("["):
            low, high = np.nanmin(features[:, column]), np.nanmax(features[:, column])
            ranges[column] = f"[{low:.17g}:{high:.17g}]"
    return head.replace(infos, f"feature_infos={' '.join(ranges)}")
