"""From what another interpreter tells of its model to a conversion that is proven against it there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from export.errors import ExportRefused
from export.forest.conversion import Conversion, by_labels
from export.forest.extremes import EXTREMES_32
from export.forest.graph import build_graph
from export.forest.paths import path_arrays
from export.forest.source import JsonRows, as_sent
from export.interpreter.conversation import Conversation
from export.reader import packed, unpacked
from export.sklearn.folding import Column, folded, of_tables
from export.sklearn.members import constant_leaves
from export.sklearn.tables import table_of
from export.sklearn.trees import forest_of
from server.model.link import Margins
from server.model.schema import Feature, Matrix, Schema

#: After the link NumPy's `exp` and SciPy's `expit` differ from C's in the last bits.
OUTPUT_BOUND = 1e-12
#: Beyond, sums of products overflow differently.
_LARGEST = 1e15


@dataclass
class InterpreterSource:
    """A model in its own environment, fed columns of cells by their names."""

    conversation: Conversation
    features: Sequence[Feature]
    values: Mapping[str, Sequence[Any]]
    names: Sequence[str]

    def margins(self, rows: Matrix) -> Margins:
        """Sums of leaves, float64 [n] or [n, K], of rows float64 [n, F]."""
        found = self.conversation.scores({"do": "margins", "columns": self.table(rows)})
        return found.reshape(-1) if found.ndim > 1 and found.shape[1] == 1 else found

    def outputs(self, rows: Matrix) -> Margins:
        """`predict_proba` (of two classes the second), or `predict`."""
        return self._scores(self.table(rows))

    def decided(self, rows: Matrix) -> npt.NDArray[np.int64]:
        """The places [n] of the classes that the model predicts of rows float64 [n, F]."""
        return self.conversation.scores({"do": "decided", "columns": self.table(rows)}).astype(np.int64)

    def predictions(self, rows: JsonRows, schema: Schema) -> Margins:
        """The prediction of the table of these rows; see `ModelSource`."""
        columns = {name: [row.get(name) for row in rows] for name in self.names}
        for name, values in self.values.items():
            known = {str(value): value for value in values}
            columns[name] = [None if v is None else known.get(str(v), v) for v in columns[name]]
        for feature in schema.features:
            if feature.name not in self.values:
                columns[feature.name] = [None if v is None else float(v) for v in columns[feature.name]]
        return self._scores(columns)

    def _scores(self, columns: dict[str, list[Any]]) -> Margins:
        found = self.conversation.scores({"do": "outputs", "columns": columns})
        return np.ascontiguousarray(found[:, 1]) if found.ndim > 1 and found.shape[1] == 2 else found

    def table(self, rows: Matrix) -> dict[str, list[Any]]:
        """Columns of cells by their names, of rows float64 [n, F]."""
        columns: dict[str, list[Any]] = {name: [None] * len(rows) for name in self.names}
        for feature, numbers in zip(self.features, rows.T.tolist(), strict=True):
            values = self.values.get(feature.name)
            columns[feature.name] = [
                None if number != number else number if values is None else values[int(number)]
                for number in numbers
            ]
        return columns


def convert_elsewhere(
    python: Path, path: Path, rounds: str, booster: Callable[[Mapping[str, Any]], Conversion]
) -> Conversion:
    """The conversion of a pickle that `python` reads; `booster` converts a booster by its own file.

    `rounds` of a LightGBM model that stopped early are "best" or "all".

    What is handed over are the trees, what columns become before them, and scores of rows;
    the bundle keeps that description, no pickle. Raises `ExportRefused`.
    """
    conversation = Conversation(python, path)
    told = conversation.ask({"do": "describe", "rounds": rounds})
    if "names" not in told:
        return booster(told["member"])
    member = told["member"]
    if member["kind"] == "trees":
        forest = forest_of(member, sum(map(_width, told["blocks"])), len(member["classes"]))
        link: dict[str, Any] = member["link"]
    else:
        made = booster(member)
        forest, link = constant_leaves(made, "at the end of the pipeline"), made.link
    if told["sparse"] and member["kind"] == "xgboost":
        forest = replace(forest, sparse=True)
    used = sorted({i for block in told["blocks"] for i in block["columns"]})
    features, values = _features(told, used)
    source = InterpreterSource(conversation, features, values, told["names"])
    features = source.features = _nullable(features, source, told)
    whole = folded(_columns(conversation, told, used), forest, len(used))
    if whole is None:
        raise ExportRefused(
            "expected columns that can be folded into the trees with --python, got scaled or imputed ones "
            "before XGBoost, or zero_as_missing: save the model with the versions that are here"
        )
    classes = tuple(map(str, member["classes"]))
    return Conversion(
        family="scikit-learn",
        **by_labels(classes),
        graph=partial(build_graph, whole),
        link=link,
        features=features,
        source=source,
        file="source.json",
        content=orjson.dumps({"read_by": told["version"], **told}),
        forest=whole,
        precision=whole.precision,
        output_bound=OUTPUT_BOUND,
        categories={i: feature.categories for i, feature in enumerate(features) if feature.categories},
        takes_missing=any(feature.nullable for feature in features),
        ignored=tuple(name for i, name in enumerate(told["names"]) if i not in used),
        extremes=tuple(value for value in EXTREMES_32 if abs(value) < _LARGEST),
        threshold=told["threshold"],
        decided=source.decided if classes else None,
        contributions=lambda: None if whole.sparse else path_arrays(whole, divisor=link.get("divisor", 1)),
        record={"estimator": told["estimator"], "read_by": told["version"], "trees": len(whole.trees)},
    )


def _width(block: Mapping[str, Any]) -> int:
    return int(block["tables"][0]["shape"][1]) if "tables" in block else len(block["columns"])


def _features(
    told: Mapping[str, Any], used: Sequence[int]
) -> tuple[tuple[Feature, ...], dict[str, Sequence[Any]]]:
    names = told["names"]
    values = {
        names[i]: known
        for block in told["blocks"]
        for i, known in zip(block["columns"], block.get("categories", ()), strict=False)
    }
    features = tuple(
        Feature(names[i], "category", categories=tuple(map(str, values[names[i]])))
        if names[i] in values
        else Feature(names[i])
        for i in used
    )
    return features, values


def _nullable(
    features: Sequence[Feature], source: InterpreterSource, told: Mapping[str, Any]
) -> tuple[Feature, ...]:
    lenient = {
        told["names"][i]
        for block in told["blocks"]
        for i, is_lenient in zip(block["columns"], block.get("lenient", ()), strict=False)
        if is_lenient
    }
    return as_sent(features, source, lenient, (ExportRefused,))  # the library's own refusal of such a row


def _columns(conversation: Conversation, told: Mapping[str, Any], used: Sequence[int]) -> list[Column]:
    found: list[Column] = []
    for block in told["blocks"]:
        places = [used.index(i) for i in block["columns"]]
        if "tables" in block:
            found += of_tables(table_of([unpacked(table) for table in block["tables"]]), places)
            continue
        for n, place in enumerate(places):
            request = {"do": "becomes", "block": block["number"], "place": n}
            becomes = partial(_asked, conversation, request) if block["imputes"] or block["moves"] else None
            imputes, moves = block["imputes"], block["moves"]
            found.append(Column(place) if becomes is None else Column(place, None, becomes, imputes, moves))
    return found


def _asked(conversation: Conversation, request: dict[str, Any], numbers: Matrix) -> Matrix:
    return conversation.scores({**request, "numbers": packed(numbers)})
