"""Why a row is scored as it is: the terms of its margin, held against the margin itself."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server.errors import ModelFailure, NotOffered
from server.explain.contributions import open_contributions
from server.model.bundle import CONTRIBUTIONS_FILE, Bundle
from server.model.link import Margins
from server.model.predictor import Predictor
from server.model.schema import Matrix, Row

#: How far terms may sum from the margin, relative to the largest of both: the order of a sum in float64,
#: and what a graph loses that adds in float32.
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
_OTHER_SUM = "expected contributions that sum to the margin, got others"


class Explainer:
    """The contributions of one bundle's features to its margins; raises `BundleError` for a damaged file."""

    def __init__(self, bundle: Bundle, predictor: Predictor) -> None:
        self._bundle, self._predictor = bundle, predictor
        self._contributions = open_contributions(bundle)
        self._divisor = bundle.link.get("divisor", 1)
        self._tolerance = TOLERANCE[bundle.precision]

    @property
    def is_offered(self) -> bool:
        """Whether the bundle has what rows are explained from."""
        return self._contributions is not None

    def check_offered(self) -> None:
        """Raise `NotOffered` unless the model can be explained."""
        if self._contributions is None:
            family = self._bundle.manifest.get("source", {}).get("family", "another")
            raise NotOffered(
                f"expected a model that can be explained, got one of {family} without "
                f"{CONTRIBUTIONS_FILE}: trees that know their training data are, and XGBoost's linear "
                "models; export the model again"
            )

    def terms(self, row: Row) -> list[float]:
        """Of one encoded row F contributions and, last, the base, in the unit of the margin.

        Raises `NotOffered` and `ModelFailure`.
        """
        return self.terms_given(row, self._predictor.row_margins(row))

    def terms_given(self, row: Row, margins: Sequence[float]) -> list[float]:
        """The same, with the row's raw scores, [K], at hand.

        Of several classes those of the likeliest. They sum to the margin, which is checked.
        Raises `NotOffered` and `ModelFailure`.
        """
        self.check_offered()
        assert self._contributions is not None
        likeliest = margins.index(max(margins)) if len(margins) > 1 else 0
        found: list[float] = self._contributions.terms(np.frombuffer(row).reshape(1, -1))[
            0, likeliest
        ].tolist()
        expected = margins[likeliest] / self._divisor
        scale = max(1.0, abs(expected), max(found), -min(found))
        if not abs(math.fsum(found) - expected) <= self._tolerance * scale:
            raise ModelFailure(_OTHER_SUM)
        return found

    def terms_of(self, rows: Matrix, margins: Margins) -> npt.NDArray[np.float64]:
        """The same of n rows, float64 [n, F], and their margins, [n] or [n, K]: float64 [n, F + 1]."""
        self.check_offered()
        assert self._contributions is not None
        margins = margins.reshape(len(rows), -1)
        likeliest = margins.argmax(axis=1)
        every = np.arange(len(rows))
        terms: npt.NDArray[np.float64] = self._contributions.terms(rows)[every, likeliest]
        expected = margins[every, likeliest] / self._divisor
        scale = np.maximum(1.0, np.maximum(np.abs(expected), np.abs(terms).max(axis=1)))
        if not (np.abs(terms.sum(axis=1) - expected) <= self._tolerance * scale).all():
            raise ModelFailure(_OTHER_SUM)
        return terms
