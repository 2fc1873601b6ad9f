"""LightGBM itself, as the ground truth of a certificate."""

import lightgbm
import numpy as np

from export.errors import ExportRefused
from server.model.predictor import Margins
from server.model.schema import Matrix


class LightGBMSource:
    """A LightGBM model loaded from its text, predicting on one thread in float64."""

    def __init__(self, text: str) -> None:
        try:
            self._booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise ExportRefused(f"expected a model LightGBM can load, got: {error}") from None

    def margins(self, rows: Matrix) -> Margins:
        """Raw scores, float64 [n] or [n, K], of float64 rows [n, F]."""
        return np.asarray(self._booster.predict(rows, raw_score=True, num_threads=1))

    def outputs(self, rows: Matrix) -> Margins:
        """Scores after the objective's link, float64 [n] or [n, K]."""
        return np.asarray(self._booster.predict(rows, num_threads=1))
