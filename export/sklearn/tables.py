"""Encoders of finite columns as tables: what a column of categories becomes, asked of the encoder itself.

A one-hot, ordinal or target encoder, an imputer of texts, or a chain of them turns
each category of a column into a few numbers, whatever its options are. So the fitted
transformer is asked once for every category, and for a missing one, and the graph
looks the answers up by the category's code: no texts and no options are converted.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd  # type: ignore[import-untyped]  # ships no types
from onnx import TensorProto
from sklearn.base import BaseEstimator, TransformerMixin

from export.errors import ExportRefused
from export.reader import positions
from export.sklearn.parts import parts
from export.sklearn.plain import replace_plain
from export.sklearn.transformers.operators import Formulas, Operators
from server.model.schema import Matrix

#: The categories of each column that has some, as values of training, by its name.
Finite: TypeAlias = Mapping[str, tuple[Any, ...]]
_TRIED_ROWS = 200
_AT_MOST = 100_000
_UNSEEN = "\0unseen"


class LookupTable(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """What a transformer makes of columns of codes: rows of `tables`, side by side, in `order`.

    The last row of each table is for a missing code.
    """

    def __init__(self, tables: Sequence[Matrix], order: Sequence[int]) -> None:
        self.tables = tables
        self.order = order
        self.n_features_in_ = len(tables)

    def fit(self, _rows: Any, _target: Any = None) -> "LookupTable":
        """Nothing is left to learn."""
        return self

    def transform(self, codes: Matrix) -> Matrix:
        """The numbers of rows of codes, float64 [n, D]."""
        missing = [len(table) - 1 for table in self.tables]
        indices = np.where(np.isnan(codes), missing, codes).astype(int)
        found = [table[column] for table, column in zip(self.tables, indices.T, strict=True)]
        return np.concatenate(found, axis=1)[:, self.order]


def finite_columns(estimator: Any, names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """The columns that an encoder knows the categories of, of all encoders inside an estimator."""
    found: dict[str, dict[Any, None]] = {}
    for part in parts(estimator):
        for transformer, columns in column_transformers(part, names):
            for encoder in (transformer, *(step for _, step in getattr(transformer, "steps", ()))):
                for column, values in zip(columns, getattr(encoder, "categories_", ()), strict=False):
                    known = [value for value in np.asarray(values).tolist() if not _is_missing(value)]
                    found.setdefault(column, {}).update(dict.fromkeys(known))
                if hasattr(encoder, "categories_"):
                    break  # what follows encodes its numbers
    return {column: tuple(values) for column, values in found.items() if 0 < len(values) <= _AT_MOST}


def column_transformers(part: Any, names: Sequence[str]) -> list[tuple[Any, list[str]]]:
    """The transformers of a ColumnTransformer with the names of their columns, none of another part.

    A model behind an encoder of all columns has that one.
    """
    if (count := _leading(part)) and part.n_features_in_ == len(names):
        return [(part[:count], list(names))]
    return [
        (transformer, [names[i] for i in positions(columns, list(names))])
        for _, transformer, columns in getattr(part, "transformers_", ())
    ]


def _leading(part: Any) -> int:
    """How many steps of a pipeline turn all columns into numbers: up to its encoder, 0 without one."""
    steps = [step for _, step in getattr(part, "steps", ())]
    if not steps or not hasattr(steps[-1], "predict"):
        return 0
    for count, step in enumerate(steps[:-1], 1):
        if hasattr(step, "categories_"):
            return count
        if step not in (None, "passthrough") and type(step).__name__ != "SimpleImputer":
            break
    return 0


def with_tables(estimator: Any, names: Sequence[str], finite: Finite, used: Collection[str]) -> Any:
    """A copy of a fitted estimator that takes one matrix of the columns that it uses, in their order.

    Columns are taken by position, those of categories as codes.

    Transformers of finite columns are tables of their codes there, and others plain where they can be.
    """
    replaced = copy.deepcopy(estimator)
    places = {name: i for i, name in enumerate(name for name in names if name in used)}
    for part in parts(replaced):
        if hasattr(part, "transformers_"):
            found = column_transformers(part, names)
            part.transformers_ = [
                (label, _tabled(transformer, columns, finite), [places[column] for column in columns])
                for (label, _, _), (transformer, columns) in zip(part.transformers_, found, strict=True)
                if columns and not (isinstance(transformer, str) and transformer == "drop")
            ]
        if hasattr(part, "steps"):
            _tell_of_zeros(part)
            if found := column_transformers(part, names):
                table = _tabled(*found[0], finite)
                part.steps = [("table", table), *part.steps[_leading(part) :]]
        if hasattr(part, "flatten_transform"):
            part.flatten_transform = False  # of no matter to a prediction, and skl2onnx refuses True
    replace_plain(replaced)
    return replaced


#: Steps that keep a sparse matrix sparse, as those do that select columns.
_KEEP_SPARSE = ("StandardScaler", "MaxAbsScaler", "Normalizer", "Binarizer")


def _tell_of_zeros(pipeline: Any) -> None:
    """Tell XGBoost at the end of a pipeline that is given sparse rows: it takes their zeros for missing."""
    last = pipeline.steps[-1][1]
    if type(last).__module__.startswith("xgboost."):
        last.reads_sparse_rows_ = _gives_sparse(pipeline)


def _gives_sparse(pipeline: Any) -> bool:
    for _, step in reversed(pipeline.steps[:-1]):
        name = type(step).__name__
        if name == "OneHotEncoder":
            return bool(step.sparse_output)
        if name == "KBinsDiscretizer":
            return bool(step.encode == "onehot")
        if hasattr(step, "sparse_output_"):
            return bool(step.sparse_output_)
        keeps = name in _KEEP_SPARSE or hasattr(step, "get_support") or step in (None, "passthrough")
        if not keeps:
            return False
    return False


def _tabled(transformer: Any, columns: list[str], finite: Finite) -> Any:
    if isinstance(transformer, str) or not set(columns) & set(finite):
        return transformer
    if not set(columns) <= set(finite):
        raise ExportRefused(
            f"expected columns of categories and of numbers apart, got {columns[0]} and others in "
            f"one {type(transformer).__name__}: give each kind its own entry of the ColumnTransformer"
        )
    values = [finite[column] for column in columns]
    blocks, takes_missing = _blocks(transformer, columns, values)
    made = table_of(blocks)
    random = np.random.default_rng(0)
    ends = [len(v) + more for v, more in zip(values, takes_missing, strict=True)]
    codes = np.stack([random.integers(0, end, _TRIED_ROWS) for end in ends], axis=1)
    cells = [[(*v, None)[c] for c in column] for v, column in zip(values, codes.T, strict=True)]
    frame = _frame(columns, cells)
    given = np.where(codes == [len(v) for v in values], np.nan, codes)
    if not np.array_equal(made.transform(given), _transformed(transformer, frame), equal_nan=True):
        raise ExportRefused(
            f"expected a transformer of each column by itself, got {type(transformer).__name__}, which mixes "
            f"{', '.join(columns[:4])}: give each an entry of the ColumnTransformer, or make them outside "
            "of the model"
        )
    return made


def _blocks(transformer: Any, columns: list[str], values: list[Any]) -> tuple[list[Matrix], list[int]]:
    """For each column what its categories, and a missing value, become beside the others' first.

    Also by column 1 if the transformer takes a missing value there, else 0.
    """
    first = [column[0] for column in values]
    known: list[slice] = []
    rows: list[list[Any]] = []
    for i, column in enumerate(values):
        known.append(slice(len(rows), len(rows) + len(column)))
        rows += [[*first[:i], value, *first[i + 1 :]] for value in column]
    made = _transformed(transformer, _frame(columns, list(zip(*rows, strict=True))))
    blocks, takes_missing = [], []
    for i, place in enumerate(known):
        row = [[value] for value in (*first[:i], None, *first[i + 1 :])]
        try:
            last = _transformed(transformer, _frame(columns, row))
        except (ValueError, TypeError):
            last = made[:1]  # a schema that takes no missing value never asks for it
            takes_missing.append(0)
        else:
            takes_missing.append(1)
        blocks.append(np.concatenate([made[place], last]))
    return blocks, takes_missing


def takes_unknown(estimator: Any, names: Sequence[str], finite: Finite) -> set[str]:
    """Columns whose every encoder takes a text it does not know, and for what it takes a missing one."""
    lenient: dict[str, bool] = {}
    for part in parts(estimator):
        for transformer, columns in column_transformers(part, names):
            if not isinstance(transformer, str) and columns and set(columns) <= set(finite):
                for column in columns:  # each member of a vote has an encoder of its own
                    takes = _is_lenient(transformer, columns, column, finite)
                    lenient[column] = takes and lenient.get(column, True)
    return {column for column, takes in lenient.items() if takes}


def _is_lenient(transformer: Any, columns: Sequence[str], column: str, finite: Finite) -> bool:
    if not all(isinstance(value, str) for value in finite[column]):
        return False
    rows = [[[value if name == column else finite[name][0]] for name in columns] for value in (_UNSEEN, None)]
    try:
        unseen, missing = (_transformed(transformer, _frame(columns, row)) for row in rows)
    except (ValueError, TypeError):
        return False
    return bool(np.array_equal(unseen, missing, equal_nan=True))


def table_of(blocks: list[Matrix]) -> LookupTable:
    """A table of the outputs that follow each column; those that follow none stay with the first."""
    base = blocks[0][0]
    follows = [~((block == base) | (np.isnan(block) & np.isnan(base))).all(axis=0) for block in blocks]
    taken = np.zeros(len(base), dtype=bool)
    chosen = []
    for i, mine in enumerate(follows):
        own = mine & ~taken if i else ~np.any(follows[1:], axis=0) if len(follows) > 1 else mine | True
        chosen.append(np.flatnonzero(own))
        taken |= own
    order = np.argsort(np.concatenate(chosen))
    return LookupTable([block[:, c] for block, c in zip(blocks, chosen, strict=True)], order.tolist())


def _transformed(transformer: Any, frame: pd.DataFrame) -> Matrix:
    made = transformer.transform(frame)
    dense = made.toarray() if hasattr(made, "toarray") else made
    return np.asarray(dense, dtype=np.float64).reshape(len(frame), -1)


def _frame(columns: Sequence[str], values: Sequence[Sequence[Any]]) -> pd.DataFrame:
    return pd.DataFrame({name: as_trained(column) for name, column in zip(columns, values, strict=True)})


def as_trained(values: Sequence[Any]) -> Any:
    """A column of categories as pandas holds it: missing texts are NaN, whole numbers integers."""
    if all(isinstance(value, str | None) for value in values):
        return pd.Series([np.nan if value is None else value for value in values], dtype=object)
    return pd.Series(list(values))


def _is_missing(value: Any) -> bool:
    return value is None or value != value


def _looked_up(add: Operators, table: Any) -> str:
    rows = add.rows()
    together = add("Concat", *(_look_up(add, rows, i, t) for i, t in enumerate(table.tables)), axis=1)
    return add.columns(together, table.order)


def _look_up(add: Operators, rows: str, i: int, table: Matrix) -> str:
    """The name of a tensor [N, D] with the row of a table for each code of column i."""
    codes = add("Gather", rows, add.constant(i, np.int64), axis=1)
    known = add("Where", add("IsNaN", codes), add.constant(len(table) - 1), codes)
    return add("Gather", add.constant(table), add("Cast", known, to=TensorProto.INT64), axis=0)


TABLES: Formulas = {LookupTable: (lambda table, _: len(table.order), _looked_up)}
