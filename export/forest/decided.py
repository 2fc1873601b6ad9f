"""Whether a bundle answers the class that the library's own `predict` gives.

An answer follows from probabilities, here as there; where a library takes its class from something
else (the votes of an SVC beside its fitted probabilities), equal probabilities prove nothing about it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.errors import ExportRefused
from server.model.link import Margins
from server.model.schema import Matrix

#: Encoded rows float64 [n, F] -> the place [n] of the class that the library predicts of each.
Decided: TypeAlias = Callable[[Matrix], npt.NDArray[np.int64]]
#: Probabilities as close as this are equal: a library may compare what they are rounded from.
_TIE = 1e-12


@dataclass
class ClassTally:
    """The comparison of classes; `ties_differ` are those of rows whose probabilities are equal."""

    rows: int = 0
    classes_differ: int = 0
    ties_differ: int = 0


class OwnClasses:
    """Compares the class of a row as probabilities tell it with that of the library.

    `threshold` is the probability from which a binary bundle gives the second class.
    """

    def __init__(self, decided: Decided, threshold: float) -> None:
        self._decided = decided
        self._threshold = threshold
        self.tally = ClassTally()

    def compare(self, rows: Matrix, outputs: Margins) -> None:
        """Count what differs of rows [n, F], whose outputs, the library's own, are [n] or [n, K].

        A row without a probability has no answer, whatever class the library makes of it.
        """
        answered = ~np.isnan(outputs.reshape(len(rows), -1)).any(axis=1)
        rows, outputs = rows[answered], outputs[answered]
        if not len(rows):
            return
        theirs = self._decided(rows)
        if outputs.ndim == 1:
            ours, lead = outputs >= self._threshold, np.abs(outputs - self._threshold)
        else:
            ours, lead = outputs.argmax(axis=1), outputs.max(axis=1) - outputs[np.arange(len(rows)), theirs]
        differ, tie = ours != theirs, lead <= _TIE
        self.tally.rows += len(rows)
        self.tally.classes_differ += int(np.sum(differ & ~tie))
        self.tally.ties_differ += int(np.sum(differ & tie))

    def check(self) -> None:
        """Raise `ExportRefused` where a class differs that does not hang on a last bit."""
        if self.tally.classes_differ:
            raise ExportRefused(
                "expected the class that the model's own predict gives to follow from its probabilities, got "
                f"another in {self.tally.classes_differ} of {self.tally.rows} rows: say from which "
                "probability of the second class it is answered with --threshold, or, of an SVC, fit it in a "
                "CalibratedClassifierCV, whose predict follows from its probabilities"
            )


def places(predicted: Any, classes: Sequence[Any]) -> npt.NDArray[np.int64]:
    """The place of each predicted class among the classes, -1 of one that is none of them."""
    known = {value: i for i, value in enumerate(np.asarray(classes).tolist())}
    return np.array([known.get(value, -1) for value in np.ravel(predicted).tolist()], dtype=np.int64)
