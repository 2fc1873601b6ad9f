"""Values hidden in training, so that the model learns what to make of a missing one.

A client may leave education, income type or document 3 out, but in the
data they are never missing. LightGBM would score such a gap as the value 0, which
is the first category: a gap in education as the lowest level of it. Hidden in some
training rows, a gap is scored between the categories, near the average. In
cross-validation this costs no AUC that can be measured. Rows that are scored are
never masked.
"""

import numpy as np

from export.evaluation.cost import Vector
from server.model.schema import Matrix
from train.tables.rows import Inputs

#: Of each feature that is missing in fewer rows than `RARE_SHARE`, every tenth value
#: is hidden: enough rows to learn from, few enough to leave the others their say.
MASK_EVERY = 10
RARE_SHARE = 0.01


def mask_rarely_missing(features: Matrix, target: Vector, inputs: Inputs) -> Matrix:
    """A copy of [n, F] rows with values of the rarely missing nullable features hidden.

    But for those whose missing values have a given place (`Inputs.missing`).

    The tenth is taken in the order of the outcome, another tenth for each feature:
    among the hidden values defaults are then as frequent as among all. A random
    tenth would miss that, and the chance difference would be learned.
    """
    masked = features.copy()
    order = np.argsort(target, kind="stable")
    missing = np.isnan(features).mean(axis=0)
    rare = (
        i
        for i, f in enumerate(inputs.schema.features)
        if f.nullable and missing[i] < RARE_SHARE and f.name not in inputs.missing
    )
    for offset, column in enumerate(rare):
        masked[order[offset % MASK_EVERY :: MASK_EVERY], column] = np.nan
    return masked
