"""Reads one model: here, and inside the user's own environment, where it answers for it (`--python PATH`).

There the text of this module is run by another interpreter, from Python 3.8 on, with whatever
libraries its environment has; so it imports nothing of ours, and NumPy alone at its top.
Requests and replies are lines of JSON on stdin and stdout: what the model is made of,
what it predicts for rows. No pickle leaves the process.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any, Callable, Iterator  # noqa: UP035  # collections.abc of 3.8 takes no subscripts

import numpy as np

_UNSEEN = "\0unseen"
_AVERAGED = ("RandomForest", "ExtraTree", "DecisionTree")
_NUMBERS = ("SimpleImputer", "StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")


#: What a .skops may hold beside what skops itself trusts: scikit-learn's compiled classes, boosters, NumPy's
#: types, and functions with some arguments given (of HistGradientBoosting's encoder), which are asked about
#: themselves.
TRUSTED = (
    "sklearn.", "numpy.dtype", "functools.partial", "collections.OrderedDict", "collections.defaultdict",
    "lightgbm.basic.Booster", "lightgbm.sklearn.LGBM", "xgboost.core.Booster", "xgboost.sklearn.XGB",
)  # fmt: skip


class NotReadable(Exception):
    """What this reader does not know, in words for the user."""


class LoadedModel:
    """A loaded model: what it is made of, and what it says of rows."""

    def __init__(self, path: str) -> None:
        self._model = unwrapped(loaded(path))
        steps = getattr(self._model, "steps", None)
        self._last = steps[-1][1] if steps else self._model
        self._head = [step for _, step in steps[:-1]] if steps else []
        # All known once the model was described, which is what is asked first.
        self._is_frame = False
        self._names: list[str] = []
        self._transformers: list[tuple[Any, list[int]]] = []  # of each block, with the columns it takes
        self._known: dict[int, list[Any]] = {}  # the categories of a column

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the model is made of: its features, its columns' preparation, its trees."""
        member = member_of(self._last, request["rounds"])
        member["classes"] = [plain(v) for v in getattr(self._model, "classes_", ())]
        if not hasattr(self._last, "get_params") or (not self._head and member["kind"] != "trees"):
            return {"member": member}
        names = getattr(self._model, "feature_names_in_", None)
        width = int(self._model.n_features_in_)
        self._is_frame = names is not None
        self._names = [f"f{i}" for i in range(width)] if names is None else [str(name) for name in names]
        self._transformers = self._transformers_of_head()
        return {
            "member": member,
            "names": self._names,
            "blocks": list(self._blocks()),
            "sparse": bool(hasattr(self._prepared(self._first_row()), "toarray")) if self._head else False,
            "estimator": " + ".join(type(part).__name__ for part in [*self._head, self._last]),
            "version": version_of(self._last),
            "threshold": threshold_of(self._last) if len(member["classes"]) == 2 else None,
        }

    def outputs(self, request: dict[str, Any]) -> dict[str, Any]:
        """`predict_proba`, or `predict` of what has no classes, of columns of cells."""
        table = self._table(request["columns"])
        is_class = hasattr(self._model, "classes_")
        return packed(self._model.predict_proba(table) if is_class else self._model.predict(table))

    def decided(self, request: dict[str, Any]) -> dict[str, Any]:
        """The places of the classes that `predict` gives to columns of cells."""
        found = np.ravel(self._model.predict(self._table(request["columns"]))).tolist()
        known = {value: i for i, value in enumerate(np.asarray(self._model.classes_).tolist())}
        return packed([known[value] for value in found])

    def margins(self, request: dict[str, Any]) -> dict[str, Any]:
        """The sums of leaves of columns of cells."""
        prepared = self._prepared(self._table(request["columns"]))
        return packed(margins_of(self._last, prepared))

    def becomes(self, request: dict[str, Any]) -> dict[str, Any]:
        """What numbers become in column `place` of a block."""
        numbers = unpacked(request["numbers"])
        transformer, columns = self._transformers[request["block"]]
        rows = np.repeat(numbers.reshape(-1, 1), len(columns), axis=1)
        largest = np.finfo(np.float64).max
        for step in flat(transformer):  # a scaler refuses what the one before made infinite
            rows = np.asarray(step.transform(np.clip(rows, -largest, largest)), dtype=np.float64)
        return packed(rows[:, request["place"]])

    def _prepared(self, table: Any) -> Any:
        for step in self._head:
            table = table if step in (None, "passthrough") else step.transform(table)
        return table

    def _table(self, columns: dict[str, list[Any]]) -> Any:
        if not self._is_frame:
            return np.column_stack([self._cells(i, columns[name]) for i, name in enumerate(self._names)])
        import pandas as pd  # type: ignore[import-untyped]  # ships no types

        return pd.DataFrame({name: self._cells(i, columns[name]) for i, name in enumerate(self._names)})

    def _cells(self, column: int, cells: list[Any]) -> Any:
        """A column as pandas holds it: missing texts and numbers are NaN, whole numbers integers."""
        missing = [np.nan if cell is None else cell for cell in cells]
        texts = [*self._known.get(column, ()), *cells]
        return np.array(missing, dtype=object if any(isinstance(text, str) for text in texts) else None)

    def _first_row(self) -> Any:
        known = {self._names[i]: values[0] for i, values in self._known.items()}
        return self._table({name: [known.get(name, 1.0)] for name in self._names})

    def _transformers_of_head(self) -> list[tuple[Any, list[int]]]:
        """What the steps before the trees do to which columns, in the order of what they give."""
        steps = [step for step in self._head if step not in (None, "passthrough")]
        if steps and hasattr(steps[0], "transformers_"):
            if len(steps) > 1:
                raise NotReadable(f"{type(steps[1]).__name__} between the columns and the trees")
            return [
                (transformer, positions(columns, self._names))
                for _, transformer, columns in steps[0].transformers_
                if not (isinstance(transformer, str) and transformer == "drop")
            ]
        return [(Chain(steps) if steps else "passthrough", list(range(len(self._names))))]

    def _blocks(self) -> Iterator[dict[str, Any]]:
        """Each transformer and its columns as the export takes it, and the categories met on the way."""
        for number, (transformer, columns) in enumerate(self._transformers):
            if columns:
                yield self._block(number, transformer, columns)

    def _block(self, number: int, transformer: Any, columns: list[int]) -> dict[str, Any]:
        steps = list(flat(transformer))
        encoder = next((step for step in steps if hasattr(step, "categories_")), None)
        if encoder is not None:
            values = [[plain(v) for v in known if v is not None and v == v] for known in encoder.categories_]
            self._known.update({i: values[n] for n, i in enumerate(columns)})
            return {"columns": columns, "categories": values, **self._tabled(transformer, columns, values)}
        if any(type(step).__name__ not in _NUMBERS or not keeps(step) for step in steps):
            raise NotReadable(f"{' + '.join(type(step).__name__ for step in steps)} before the trees")
        moves = any(type(step).__name__ != "SimpleImputer" for step in steps)
        return {"columns": columns, "number": number, "moves": moves, "imputes": bool(steps)}

    def _tabled(self, transformer: Any, columns: list[int], values: list[list[Any]]) -> dict[str, Any]:
        """For each column what its categories, and a missing value, become beside the others' first."""
        tables, takes_missing, lenient = [], [], []
        first = [known[0] for known in values]
        for i, known in enumerate(values):
            made = self._asked(transformer, columns, [[*first[:i], v, *first[i + 1 :]] for v in known])
            found = []
            for value in (None, _UNSEEN):
                try:
                    found.append(self._asked(transformer, columns, [[*first[:i], value, *first[i + 1 :]]]))
                except (ValueError, TypeError):
                    found.append(None)
            missing, unseen = found
            tables.append(packed(np.concatenate([made, made[:1] if missing is None else missing])))
            takes_missing.append(missing is not None)
            is_text = all(isinstance(value, str) for value in known)
            same = missing is not None and unseen is not None
            lenient.append(bool(is_text and same and np.array_equal(missing, unseen, equal_nan=True)))
        return {"tables": tables, "takes_missing": takes_missing, "lenient": lenient}

    def _asked(self, transformer: Any, columns: list[int], rows: list[list[Any]]) -> Any:
        cells = [self._cells(i, [row[n] for row in rows]) for n, i in enumerate(columns)]
        if self._is_frame:
            import pandas as pd

            table: Any = pd.DataFrame({self._names[i]: cells[n] for n, i in enumerate(columns)})
        else:
            table = np.column_stack([np.asarray(column, dtype=object) for column in cells])
        made = transformer.transform(table)
        made = made.toarray() if hasattr(made, "toarray") else made
        return np.asarray(made, dtype=np.float64).reshape(len(rows), -1)


class Chain:
    """Transformers of all columns, one after the other."""

    def __init__(self, steps: list[Any]) -> None:
        self.steps = [(str(i), step) for i, step in enumerate(steps)]

    def transform(self, table: Any) -> Any:
        for _, step in self.steps:
            table = step.transform(table)
        return table


def loaded(path: str) -> Any:
    """The object in a pickle or a .skops."""
    if zipfile.is_zipfile(path):
        from skops.io import get_untrusted_types, load  # type: ignore[import-untyped]  # ships no types

        unknown = get_untrusted_types(file=path)
        if foreign := [name for name in unknown if not name.startswith(TRUSTED)]:
            raise NotReadable(f"{foreign[0]} in a .skops file")
        return load(path, trusted=unknown)
    try:
        import joblib  # type: ignore[import-untyped]  # ships no types
    except ImportError:
        return pickle.loads(Path(path).read_bytes())
    return joblib.load(path)


def unwrapped(model: Any) -> Any:
    """What a search found best, or a frozen estimator holds."""
    for _ in range(8):
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif type(model).__name__ == "FrozenEstimator":
            model = model.estimator
        elif hasattr(model, "steps") and hasattr(model.steps[-1][1], "best_estimator_"):
            model.steps[-1] = (model.steps[-1][0], model.steps[-1][1].best_estimator_)
        else:
            break
    return model


def flat(transformer: Any) -> Iterator[Any]:
    """The transformers of a chain that do something."""
    for step in [s for _, s in transformer.steps] if hasattr(transformer, "steps") else [transformer]:
        if hasattr(step, "steps"):
            yield from flat(step)
        elif step not in (None, "passthrough") and getattr(step, "func", step) is not None:
            yield step


def keeps(step: Any) -> bool:
    """Whether column i becomes column i, never turned around, with NaN as what is missing."""
    if type(step).__name__ != "SimpleImputer":
        scale = getattr(step, "scale_", None)
        return scale is None or bool(np.all(np.asarray(scale) > 0))
    fills = np.asarray(step.statistics_)
    is_nan = isinstance(step.missing_values, float) and step.missing_values != step.missing_values
    return is_nan and not step.add_indicator and fills.dtype.kind == "f" and bool(np.isfinite(fills).all())


def positions(columns: Any, names: list[str]) -> list[int]:
    """Where the columns of a transformer are, which scikit-learn takes by name, position, slice or mask."""
    if isinstance(columns, str):
        return [names.index(columns)]
    if isinstance(columns, slice):
        start, stop = (
            names.index(end) if isinstance(end, str) else end for end in (columns.start, columns.stop)
        )
        behind = stop + 1 if isinstance(columns.stop, str) else stop  # a slice of names has its last
        return list(range(len(names)))[start : behind : columns.step]
    chosen = np.atleast_1d(np.asarray(columns))
    if chosen.dtype == bool:
        return [int(i) for i in np.flatnonzero(chosen)]
    return [names.index(c) if isinstance(c, str) else int(c) for c in chosen.tolist()]


def plain(value: Any) -> Any:
    """A value as JSON holds it."""
    return value.item() if hasattr(value, "item") else value


def packed(array: Any) -> dict[str, Any]:
    """An array as JSON holds it, to the bit."""
    found = np.ascontiguousarray(array, dtype="<f8")
    return {"shape": list(found.shape), "bytes": base64.b64encode(found.tobytes()).decode()}


def unpacked(document: dict[str, Any]) -> Any:
    """The array of such a document."""
    return np.frombuffer(base64.b64decode(document["bytes"]), dtype="<f8").reshape(document["shape"])


def version_of(model: Any) -> str:
    """The library of a model and its version."""
    library = type(model).__module__.partition(".")[0]
    return f"{library} {getattr(sys.modules[library], '__version__', '?')}"


def member_of(model: Any, rounds: str) -> dict[str, Any]:
    """A booster as its own library saves it, or the trees of scikit-learn as columns of nodes."""
    library, name = type(model).__module__.partition(".")[0], type(model).__name__
    if library == "lightgbm":
        booster = getattr(model, "booster_", model)
        best = int(booster.best_iteration or 0) if rounds == "best" else 0
        text = booster.model_to_string(num_iteration=best if best > 0 else -1)
        return {"kind": "lightgbm", "text": text, "best": best, "rounds": booster.current_iteration()}
    if library == "xgboost":
        booster = model.get_booster() if hasattr(model, "get_booster") else model
        missing = getattr(model, "missing", None)
        missing = None if missing is None or missing != missing else float(missing)
        return {"kind": "xgboost", "content": saved(booster.save_model, "m.json"), "missing": missing}
    if library == "catboost":
        return {"kind": "catboost", "content": saved(model.save_model, "m.cbm")}
    if library == "sklearn" and name.startswith("HistGradientBoosting"):
        return histogram(model)
    if library == "sklearn" and name.startswith("GradientBoosting"):
        return boosted(model)
    if library == "sklearn" and name.startswith(_AVERAGED):
        return averaged(model)
    raise NotReadable(f"{name} of {library} at the end")


def saved(save: Callable[[str], Any], name: str) -> str:
    """What a library writes into a file, in base64."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        save(str(path))
        return base64.b64encode(path.read_bytes()).decode()


def averaged(model: Any) -> dict[str, Any]:
    """A forest, or a single tree."""
    if getattr(model, "n_outputs_", 1) != 1:
        raise NotReadable("several targets")
    members = getattr(model, "estimators_", [model])
    trees = []
    for member in members:
        trees += [nodes_of(member.tree_, values) for values in shares(model, member.tree_.value[:, 0, :]).T]
    link = {"name": "identity", "divisor": len(members)}
    return {"kind": "trees", "trees": trees, "base": [], "link": link, "rounded": True}


def shares(model: Any, values: Any) -> Any:
    """The leaves of a tree as its `predict_proba` gives them: before 1.4 they were counts."""
    classes = len(getattr(model, "classes_", ()))
    if not classes:
        return values
    if before_1_4():
        total = values.sum(axis=1, keepdims=True)
        total[total == 0.0] = 1.0
        values = values / total
    return values[:, 1:2] if classes == 2 else values


def before_1_4() -> bool:
    """Whether scikit-learn is older than 1.4, which changed what leaves hold and how ties are decided."""
    import sklearn

    major, minor = (int(part) for part in sklearn.__version__.split(".")[:2])
    return (major, minor) < (1, 4)


def threshold_of(model: Any) -> float:
    """The probability from which `predict` gives the second class: above 0.5, but GradientBoosting at it."""
    is_first_of_ties = not type(model).__name__.startswith("GradientBoosting") or before_1_4()
    return float(np.nextafter(0.5, 1.0)) if is_first_of_ties else 0.5


def boosted(model: Any) -> dict[str, Any]:
    """GradientBoosting: an initial prediction and `learning_rate` times each leaf."""
    origin = np.zeros((1, model.n_features_in_), dtype=np.float32)
    base = np.asarray(model._raw_predict_init(origin), dtype=np.float64).reshape(-1)
    trees = [
        nodes_of(tree.tree_, tree.tree_.value[:, 0, 0] * model.learning_rate)
        for stage in model.estimators_
        for tree in stage
    ]
    return {"kind": "trees", "trees": trees, "base": base.tolist(), "link": link_of(model), "rounded": True}


def histogram(model: Any) -> dict[str, Any]:
    """HistGradientBoosting: a baseline and trees over float64."""
    trees = []
    for iteration in model._predictors:
        for tree in iteration:
            nodes = tree.nodes
            if "is_categorical" in nodes.dtype.names and (nodes["is_categorical"] & ~nodes["is_leaf"]).any():
                raise NotReadable("native categories of HistGradientBoosting")
            threshold = nodes["num_threshold" if "num_threshold" in nodes.dtype.names else "threshold"]
            trees.append(
                columns_of(
                    nodes["is_leaf"].astype(bool), nodes["feature_idx"], threshold,
                    nodes["missing_go_to_left"], nodes["left"], nodes["right"],
                    nodes["value"], nodes["count"],
                )
            )  # fmt: skip
    base = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(-1)
    return {"kind": "trees", "trees": trees, "base": base.tolist(), "link": link_of(model), "rounded": False}


def link_of(model: Any) -> dict[str, Any]:
    """The link after the sum, by the loss."""
    if hasattr(model, "classes_"):
        if len(model.classes_) > 2:
            return {"name": "softmax"}
        return {"name": "logistic", "scale": 2.0} if model.loss == "exponential" else {"name": "logistic"}
    return {"name": "exp"} if model.loss in ("poisson", "gamma") else {"name": "identity"}


def nodes_of(tree: Any, values: Any) -> dict[str, Any]:
    """A tree of scikit-learn's own kind."""
    left = tree.children_left
    missing = getattr(tree, "missing_go_to_left", np.zeros(len(left)))
    right, cover = tree.children_right, tree.weighted_n_node_samples
    return columns_of(left < 0, tree.feature, tree.threshold, missing, left, right, values, cover)


def columns_of(
    is_leaf: Any,
    feature: Any,
    threshold: Any,
    missing_left: Any,
    left: Any,
    right: Any,
    value: Any,
    cover: Any,
) -> dict[str, Any]:
    """A tree as columns of nodes."""
    whole = {
        "is_leaf": is_leaf,
        "feature": feature,
        "missing_left": missing_left,
        "left": left,
        "right": right,
    }
    found: dict[str, Any] = {
        key: np.asarray(column).astype(np.int64).tolist() for key, column in whole.items()
    }
    return {**found, "threshold": packed(threshold), "value": packed(value), "cover": packed(cover)}


def margins_of(model: Any, rows: Any) -> Any:
    """The sums of leaves before division and link."""
    library, name = type(model).__module__.partition(".")[0], type(model).__name__
    if library == "lightgbm":
        return model.predict(rows, raw_score=True)
    if library == "xgboost":
        return model.predict(rows, output_margin=True)
    dense = rows.toarray() if hasattr(rows, "toarray") else rows
    if name.startswith("HistGradientBoosting"):
        return model._raw_predict(dense)
    narrow = np.ascontiguousarray(np.asarray(dense, dtype=np.float64).astype(np.float32))
    if name.startswith("GradientBoosting"):
        return model._raw_predict(narrow)
    total: Any = 0.0
    for member in getattr(model, "estimators_", [model]):
        total = total + shares(model, member.tree_.predict(narrow).reshape(len(narrow), -1))
    return total


def answer(model: list[Any], request: dict[str, Any]) -> dict[str, Any]:
    """The reply to one request; the first reads the model."""
    if request["do"] == "read":
        model.append(LoadedModel(request["path"]))
        return {}
    found: dict[str, Any] = getattr(model[0], request["do"])(request)
    return found


def main() -> None:
    """Answer requests until stdin ends."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no reply
    warnings.simplefilter("ignore")
    model: list[Any] = []
    for line in sys.stdin:
        try:
            reply = answer(model, json.loads(line))
        except NotReadable as error:
            reply = {"unknown": str(error)}
        except Exception as error:  # noqa: BLE001  # five libraries of any version, and what strangers pickled
            reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        out.write(json.dumps(reply) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
