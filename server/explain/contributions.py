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
from typing import Any, TypeAlias
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from server.errors import BundleError
from server.model.bundle import CONTRIBUTIONS_FILE, Bundle
from server.model.schema import Matrix

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
Answers: TypeAlias = npt.NDArray[np.bool_]
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
_BITS = np.left_shift(1, np.arange(_TABLED_CONDITIONS)).astype(np.uint8)
#: In place of a share of nothing, by which no product can be divided; its terms vanish.
_LEAST_SHARE = 1e-150


#: Explains rows of one model, for any thread: `terms` of n encoded rows, float64 [n, F], in the unit of the
#: margin over the link's divisor.
Contributions: TypeAlias = "Linear | Paths"


def open_contributions(bundle: Bundle) -> "Contributions | None":
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
        terms = np.nan_to_num(self._prepare(rows))[:, None, :] * self._weights.T
        return np.concatenate([terms, np.tile(self._base[None, :, None], (len(rows), 1, 1))], axis=2)


class Paths:
    """A forest as the ways to its leaves (`export/forest/paths.py` has the arrays)."""

    def __init__(self, arrays: Arrays, width: int) -> None:
        self._prepare, self._base = _Preparation(arrays), arrays["base"]
        self._width, self._targets = width, len(arrays["base"])
        size = arrays["size"]
        padded = arrays | {name: np.append(arrays[name], value) for name, value in _ALWAYS.items()}
        self._questions = _Questions(padded, width)
        self._ways = [
            _Ways(padded, self._questions, leaves, depth, width)
            for leaves, depth in _groups(size.astype(np.intp))
        ]
        self._rows = max(1, _CHUNK // max([self._questions.count, *(ways.conditions for ways in self._ways)]))

    def terms(self, rows: Matrix) -> Terms:
        rows = self._prepare(rows)
        found = np.empty((len(rows), self._targets, self._width + 1))
        for start in range(0, len(rows), self._rows):
            part = rows[start : start + self._rows]
            answers = self._questions.answers(part)
            sums = np.zeros(len(part) * self._targets * (self._width + 1))
            for ways in self._ways:
                sums += ways.terms(answers, len(sums))
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


class _Questions:
    """What the conditions of a model ask of a row, each once: the thresholds of trees are often the same.

    `x > t` is what `x <= t` is not; of both that is asked which no missing value answers with yes. Of a
    condition `number` is the question and `flipped` whether it is the contrary. First come the questions
    `x <= t`, then `x > t`, then all others; the last condition always holds, and its question is the last.
    """

    def __init__(self, arrays: Arrays, width: int) -> None:
        feature, low, high = (arrays[name].astype(np.float64) for name in ("feature", "low", "high"))
        if not 0 <= feature.min() <= feature.max() < width:
            raise ValueError("a condition of no feature")
        missing, others, last = arrays["missing"], arrays["others"], len(feature) - 1
        alone = np.full(last + 1, -1.0)
        alone[arrays["codes"][:, 0]] = arrays["codes"][:, 0]  # categories are asked for one by one
        is_below, is_above = np.isnan(low) & (high < np.inf), ~np.isnan(low) & (high == np.inf)
        is_plain = (is_below ^ is_above) & others & (alone == -1.0)
        self.flipped = is_plain & missing
        kind = np.where(is_plain, np.where(is_below ^ missing, 0.0, 1.0), 2.0)
        kind[last] = 3.0
        limit = np.where(is_below, high, low)
        low = np.where(is_plain, np.nan, low)
        high, missing = np.where(is_plain, limit, high), missing & ~is_plain
        keys = (missing, others, np.nan_to_num(low, nan=-np.inf), high, feature, alone, kind)
        order = np.lexsort(keys)
        is_new = np.ones(last + 1, dtype=np.bool_)
        is_new[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
        self.number = np.empty(last + 1, dtype=np.intp)
        self.number[order] = np.cumsum(is_new) - 1
        first = order[is_new]
        self.count = len(first)
        self._above, self._rest = np.searchsorted(kind[first], (1.0, 2.0)).tolist()
        self._feature, self._limit = arrays["feature"][first].astype(np.intp), high[first]
        rest = first[self._rest :]
        self._low, self._high = low[rest], high[rest]
        self._missing, self._others = missing[rest], others[rest]
        self._codes = _listed(arrays["codes"], rest, self._feature[self._rest :])

    def answers(self, rows: Matrix) -> Answers:
        """Of n rows, and the contraries behind them: bool [n, 2 Q]."""
        values, limits = rows.take(self._feature, axis=1), self._limit
        above, rest, count = self._above, self._rest, self.count
        found = np.empty((len(rows), 2 * count), dtype=np.bool_)
        np.less_equal(values[:, :above], limits[:above], out=found[:, :above])
        np.greater(values[:, above:rest], limits[above:rest], out=found[:, above:rest])
        found[:, rest:count] = self._of_rest(rows, values[:, rest:])
        np.logical_not(found[:, :count], out=found[:, count:])
        return found

    def _of_rest(self, rows: Matrix, values: Matrix) -> Answers:
        known = (values <= self._high) & ~(values <= self._low)
        if self._codes or not self._others.all():
            known &= self._among(rows)
        known |= np.isnan(values) & self._missing
        return known

    def places(self, conditions: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Where `answers` has whether conditions hold."""
        found: npt.NDArray[np.intp] = self.number[conditions] + self.count * self.flipped[conditions]
        return found

    def _among(self, rows: Matrix) -> Answers:
        """Which hold of the codes of categories."""
        found = np.tile(self._others, (len(rows), 1))
        for feature, by_code in self._codes.items():
            column = rows[:, feature]
            for code in np.unique(column[~np.isnan(column)]).tolist():
                if (places := by_code.get(code)) is not None:
                    found[np.ix_(column == code, places)] = ~self._others[places]
        return found


class _Ways:
    """Leaves with conditions on up to `depth` features each: arrays [depth, L]."""

    def __init__(
        self, arrays: Arrays, questions: _Questions, leaves: npt.NDArray[np.intp], depth: int, width: int
    ) -> None:
        size = arrays["size"].astype(np.intp)
        starts, at = np.cumsum(size) - size, np.arange(depth)[:, None]
        last = len(arrays["feature"]) - 1  # the condition that always holds
        chosen = np.where(at < size[leaves], starts[leaves] + at, last)
        # In the order of their questions, so that leaves that ask the same are told to.
        order = questions.number[chosen].argsort(axis=0, kind="stable")
        chosen = np.take_along_axis(chosen, order, axis=0)
        self.conditions = chosen.size
        self._share = np.maximum(arrays["share"][chosen], _LEAST_SHARE)
        self._value = arrays["value"][leaves]
        targets = arrays["target"][leaves].astype(np.intp)
        slots = arrays["feature"][chosen].astype(np.intp) + targets * (width + 1)
        self._slots_of_a_row = len(arrays["base"]) * (width + 1)
        points, weights = np.polynomial.legendre.leggauss((depth + 1) // 2)
        self._points = list(zip((points / 2 + 0.5).tolist(), (weights / 2).tolist(), strict=True))
        self._table: Terms | None = None
        if depth <= _TABLED_CONDITIONS and 2**depth * self.conditions <= _TABLED_CELLS:
            asked = np.concatenate([questions.number[chosen], targets[None]])
            asked, first, alike = np.unique(asked, axis=1, return_index=True, return_inverse=True)
            self._table = self._tabled(questions.flipped[chosen], alike.ravel(), len(first))
            self._places, slots = asked[:-1].ravel(), slots[:, first].T
            self._begins, self._bits = np.arange(len(first)) * 2**depth, _BITS[:depth]
        else:
            self._places = questions.places(chosen).ravel()
        self._slots, self._depth = slots.ravel(), depth

    def terms(self, answers: Answers, slots: int) -> npt.NDArray[np.float64]:
        """The terms of n rows, flat."""
        known = answers.take(self._places, axis=1).reshape(len(answers), self._depth, -1)
        terms = self._computed(known) if self._table is None else self._looked_up(self._table, known)
        places = self._slots
        if len(answers) > 1:
            places = (places + np.arange(len(answers))[:, None] * self._slots_of_a_row).ravel()
        return np.asarray(np.bincount(places, terms.ravel(), slots), dtype=np.float64)

    def _computed(self, known: Answers) -> Terms:
        """What each condition of each leaf adds, float64 [n, depth, L], of which hold."""
        terms: Terms = known - self._share
        change = terms.copy()
        terms *= self._value
        if len(self._share) > 1:
            others: Any = 0.0
            for point, weight in self._points:
                factors = change * point
                factors += self._share
                product = factors.prod(axis=1, keepdims=True)
                product *= weight
                others += np.divide(product, factors, out=factors)
            terms *= others
        return terms

    def _tabled(self, flipped: Answers, alike: npt.NDArray[np.intp], kinds: int) -> Terms:
        """What leaves that ask the same add together, by the answers, the first the lowest bit.

        Of so many `kinds` of leaves, of which each is of one: float64 [kinds * 2^depth, depth].
        """
        bits = np.arange(2 ** self._share.shape[0])[:, None] >> np.arange(self._share.shape[0]) & 1
        terms = self._computed(bits[:, :, None].astype(np.bool_) ^ flipped)
        table = np.zeros((kinds, *bits.shape))
        np.add.at(table, alike, terms.transpose(2, 0, 1))
        return table.reshape(-1, bits.shape[1])

    def _looked_up(self, table: Terms, known: Answers) -> Terms:
        """The same of leaves that ask the same, float64 [n, kinds, depth]."""
        held: npt.NDArray[np.intp] = self._bits @ known.view(np.uint8) + self._begins
        return table.take(held, axis=0)


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
