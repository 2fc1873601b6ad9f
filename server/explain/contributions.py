"""What each feature adds to a margin: exact, in double precision, from arrays of the bundle.

The value of a leaf counts for a row as the product over the features on the way to it:
1 or 0 where the feature is known, its share of the training data where it is not. The
Shapley value of such a product is the integral over t from 0 to 1 of its derivative with
every feature known to the degree t (Owen, Multilinear extensions of games, 1972): of
degree d - 1 for d features, so that Gauss and Legendre's rule of d / 2 points is exact.
The sum over all leaves is what path-dependent TreeSHAP computes (Lundberg et al., 2018),
here for all leaves of as many features at once.
"""

import io
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from server.errors import BundleError
from server.model.bundle import CONTRIBUTIONS_FILE, Bundle
from server.model.schema import Matrix

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
#: [n, K, F + 1]: of n rows and K outputs F terms and, last, the base they start from.
Terms: TypeAlias = npt.NDArray[np.float64]
#: Conditions times rows that are worked on at once: their float64 stay in the second cache.
_CHUNK = 2**15
#: A condition that always holds, and adds nothing.
_ALWAYS = {"feature": 0, "low": np.nan, "high": np.inf, "share": 1.0, "missing": True, "others": True}
#: Conditions of a model that is worked on as a whole.
_SMALL = 2**13
#: What a leaf adds is looked up by which of its conditions hold: one byte of them, and so many float64 of a
#: table (4 MB). Of more it is computed.
_TABLED_CONDITIONS, _TABLED_CELLS = 8, 2**19
#: In place of a share of nothing, by which no product can be divided; its terms vanish.
_LEAST_SHARE = 1e-150


class Contributions(Protocol):
    """Explains rows of one model; for any thread."""

    def terms(self, rows: Matrix) -> Terms:
        """The terms of n encoded rows, float64 [n, F], in the unit of the margin over the link's divisor."""


def open_contributions(bundle: Bundle) -> Contributions | None:
    """What explains a bundle's rows, None of one without; raises `BundleError` for a damaged file."""
    try:
        if (arrays := arrays_of(bundle)) is None:
            return None
        prepared = Linear(arrays) if "weights" in arrays else Paths(arrays, len(bundle.schema))
        found = prepared.terms(np.zeros((1, len(bundle.schema))))
        if found.shape != (1, bundle.outputs, len(bundle.schema) + 1):
            raise ValueError("it is of another model")
    except (KeyError, ValueError, TypeError, IndexError, EOFError, OSError, BadZipFile) as error:
        raise BundleError(
            f"expected {bundle.directory / CONTRIBUTIONS_FILE} to explain the model, got one that cannot "
            f"be used ({error}): export the bundle again"
        ) from None
    return prepared


def arrays_of(bundle: Bundle) -> Arrays | None:
    """The arrays of `contributions.npz` (`export/forest/paths.py`), None of a bundle without it."""
    if CONTRIBUTIONS_FILE not in bundle.manifest.get("files", ()):
        return None
    with np.load(io.BytesIO(bundle.read(CONTRIBUTIONS_FILE)), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


#: Up to here a value is zero to LightGBM (`kZeroThreshold` in its `meta.h`, a float32).
ZERO_BAND = float(np.float32(1e-35))


class _Preparation:
    """What becomes of rows before they are compared, as in the graph."""

    def __init__(self, arrays: Arrays) -> None:
        self._narrow, self._absent = bool(arrays["narrow"]), float(arrays["absent"])
        self._zero = arrays["zero"]

    def __call__(self, rows: Matrix) -> Matrix:
        if self._narrow:
            with np.errstate(over="ignore"):
                rows = rows.astype(np.float32).astype(np.float64)
        if self._absent == self._absent:
            rows = np.where(rows == self._absent, np.nan, rows)
        if len(self._zero):
            rows = rows.copy()
            some = rows[:, self._zero]
            rows[:, self._zero] = np.where(np.abs(some) <= ZERO_BAND, np.nan, some)
        return rows


class Linear:
    """A linear model: a feature adds its weight times its value, a missing one nothing."""

    def __init__(self, arrays: Arrays) -> None:
        self._weights, self._base = arrays["weights"], arrays["base"]
        self._prepare = _Preparation(arrays)

    def terms(self, rows: Matrix) -> Terms:
        """See `Contributions`."""
        terms = np.nan_to_num(self._prepare(rows))[:, None, :] * self._weights.T
        return np.concatenate([terms, np.tile(self._base[None, :, None], (len(rows), 1, 1))], axis=2)


class Paths:
    """A forest as the ways to its leaves (`export/forest/paths.py` has the arrays)."""

    def __init__(self, arrays: Arrays, width: int) -> None:
        self._prepare, self._base = _Preparation(arrays), arrays["base"]
        self._width, self._targets = width, len(arrays["base"])
        size = arrays["size"]
        padded = {name: np.append(arrays[name], value) for name, value in _ALWAYS.items()}
        self._ways = [
            _Ways(arrays | padded, leaves, depth, width) for leaves, depth in _groups(size.astype(np.intp))
        ]
        self._rows = max(1, _CHUNK // max(1, max((ways.conditions for ways in self._ways), default=1)))

    def terms(self, rows: Matrix) -> Terms:
        """See `Contributions`."""
        rows = self._prepare(rows)
        found = np.empty((len(rows), self._targets, self._width + 1))
        for start in range(0, len(rows), self._rows):
            part = rows[start : start + self._rows]
            sums = np.zeros(len(part) * self._targets * (self._width + 1))
            gaps = np.isnan(part).any()
            for ways in self._ways:
                sums += ways.terms(part, len(sums), gaps=bool(gaps))
            found[start : start + self._rows] = sums.reshape(len(part), self._targets, -1)
        found[:, :, -1] = self._base
        return found


def _groups(size: npt.NDArray[np.intp]) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
    """Leaves that are worked on together, and the most conditions of one of them.

    Of a small model all: there a call of NumPy costs more than conditions that always hold.
    """
    deepest = int(size.max(initial=0))
    is_small = deepest * len(size) <= _SMALL
    # An even number of conditions takes as many points as the odd one before it.
    padded = np.where(size > 0, deepest, 0) if is_small else size + size % 2
    for depth in np.unique(padded[padded > 0]).tolist():
        yield np.flatnonzero(padded == depth), depth


class _Ways:
    """Leaves with conditions on up to `depth` features each: arrays [depth, L], flat."""

    def __init__(self, arrays: Arrays, leaves: npt.NDArray[np.intp], depth: int, width: int) -> None:
        size = arrays["size"].astype(np.intp)
        starts, at = np.cumsum(size) - size, np.arange(depth)[:, None]
        last = len(arrays["feature"]) - 1  # the condition that always holds
        chosen = np.where(at < size[leaves], starts[leaves] + at, last).ravel()
        self._shape = (depth, len(leaves))
        self.conditions = len(chosen)
        self._feature = arrays["feature"][chosen].astype(np.intp)
        if self.conditions and not 0 <= self._feature.min() <= self._feature.max() < width:
            raise ValueError("a condition of no feature")
        self._low, self._high, self._missing = (arrays[n][chosen] for n in ("low", "high", "missing"))
        self._share = np.maximum(arrays["share"][chosen], _LEAST_SHARE).reshape(self._shape)
        self._value = arrays["value"][leaves]
        self._slots = self._feature + np.tile(arrays["target"][leaves].astype(np.intp) * (width + 1), depth)
        self._slots_of_a_row = len(arrays["base"]) * (width + 1)
        points, weights = np.polynomial.legendre.leggauss((depth + 1) // 2)
        self._points = list(zip((points / 2 + 0.5).tolist(), (weights / 2).tolist(), strict=True))
        self._others = arrays["others"][chosen]
        self._codes = _listed(arrays["codes"], chosen, self._feature)
        self._table: Terms | None = None
        if depth <= _TABLED_CONDITIONS and 2**depth * self.conditions <= _TABLED_CELLS:
            self._table = self._tabled()
            self._slots = self._slots.reshape(self._shape).T.ravel()

    def terms(self, rows: Matrix, slots: int, *, gaps: bool) -> npt.NDArray[np.float64]:
        """The terms of n rows, flat; `gaps` tells whether a value is missing."""
        known = self._known(rows, gaps=gaps).reshape(len(rows), *self._shape)
        terms = self._computed(known) if self._table is None else self._looked_up(self._table, known)
        places = self._slots
        if len(rows) > 1:
            places = (places + np.arange(len(rows))[:, None] * self._slots_of_a_row).ravel()
        return np.asarray(np.bincount(places, terms.ravel(), slots), dtype=np.float64)

    def _computed(self, known: npt.NDArray[np.bool_]) -> Terms:
        """What each condition of each leaf adds, float64 [n, depth, L], of which hold."""
        terms: Terms = known - self._share
        change = terms.copy()
        terms *= self._value
        if self._shape[0] > 1:
            others: Any = 0.0
            for point, weight in self._points:
                factors = change * point
                factors += self._share
                product = factors.prod(axis=1, keepdims=True)
                product *= weight
                others += np.divide(product, factors, out=factors)
            terms *= others
        return terms

    def _tabled(self) -> Terms:
        """What leaves add by which conditions hold, the first the lowest bit: [2^depth * L, depth]."""
        depth, leaves = self._shape
        bits = np.arange(2**depth)[:, None] >> np.arange(depth) & 1
        known = np.broadcast_to(bits[:, :, None], (2**depth, depth, leaves)).astype(np.bool_)
        return np.ascontiguousarray(self._computed(known).transpose(0, 2, 1)).reshape(-1, depth)

    def _looked_up(self, table: Terms, known: npt.NDArray[np.bool_]) -> Terms:
        """The same as `_computed`, float64 [n, L, depth]."""
        leaves = self._shape[1]
        held = np.packbits(known, axis=1, bitorder="little").reshape(-1, leaves)
        return table.take(held * np.intp(leaves) + np.arange(leaves), axis=0)

    def _known(self, rows: Matrix, *, gaps: bool) -> npt.NDArray[np.bool_]:
        """Which conditions hold, bool [n, depth * L]."""
        values = rows.take(self._feature, axis=1)
        known = values <= self._high
        known &= ~(values <= self._low)
        if self._codes:
            known &= self._among(rows)
        if gaps:
            known |= np.isnan(values) & self._missing
        return known

    def _among(self, rows: Matrix) -> npt.NDArray[np.bool_]:
        """Which conditions hold of the codes of categories."""
        found = np.tile(self._others, (len(rows), 1))
        for feature, by_code in self._codes.items():
            column = rows[:, feature]
            for code in np.unique(column[~np.isnan(column)]).tolist():
                if (places := by_code.get(code)) is not None:
                    found[np.ix_(column == code, places)] = ~self._others[places]
        return found


def _listed(
    codes: npt.NDArray[Any], chosen: npt.NDArray[Any], features: npt.NDArray[np.intp]
) -> dict[int, dict[float, npt.NDArray[np.intp]]]:
    """Of each feature with categories, and each code, the conditions that name it."""
    place = {condition: i for i, condition in enumerate(chosen.tolist())} if len(codes) else {}
    found: dict[int, dict[float, list[int]]] = {}
    for condition, code in codes.tolist():
        if (at := place.get(condition)) is not None:
            found.setdefault(int(features[at]), {}).setdefault(float(code), []).append(at)
    return {f: {code: np.array(at) for code, at in by.items()} for f, by in found.items()}
