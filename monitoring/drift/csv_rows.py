"""The rows of CSV files, as people have them, that drift is looked for in."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from monitoring.drift.rows import LOOKED_AT_ROWS, ComparedRows, reference_of, together_rows
from monitoring.errors import LogError
from server.batch.whole_file import CsvFile, read_csv_file
from server.errors import BatchRefused, TableRefused
from server.metrics.column_shifts import ColumnCounts
from server.model.bundle import Bundle
from server.model.distribution import Distribution
from server.model.predictor import Predictor
from server.model.schema import Feature, Matrix, Schema
from server.tables.cells import CellRules, cell_reader

Counts: TypeAlias = npt.NDArray[np.int64]

CSV_SUFFIXES = (".csv", ".csv.gz", ".csv.zst")


def rows_of_csv(paths: Sequence[Path], bundle: Bundle) -> ComparedRows:
    """Count the rows of CSV files with a header, and score them; raises `LogError`.

    A feature without a column is missing in every row.
    """
    schema, reference, predictor = bundle.schema, reference_of(bundle), Predictor(bundle)
    files = [_read(path, schema) for path in paths]
    names = [name for file in files for name in file.table.columns]
    if not set(names) & set(schema.names):
        raise LogError(
            f"expected columns named as the features of {bundle.label} in {', '.join(map(str, paths))}, "
            f"got {', '.join(names[:10])}"
        )
    encoded = [_encoded(file, schema) for file in files]
    matrix = np.concatenate([rows for rows, _ in encoded])
    unknown = np.sum([counts for _, counts in encoded], axis=0)
    if not len(matrix):
        raise LogError(f"expected rows below the header of {', '.join(map(str, paths))}, got none")
    outputs = predictor.output_array(predictor.margins(matrix))
    scores = outputs.max(axis=1) if outputs.ndim == 2 else outputs
    looked_at = matrix[:LOOKED_AT_ROWS]
    drawn = np.random.default_rng(0).permutation(len(matrix))[: together_rows(len(schema))]
    return ComparedRows(
        score=_column(scores, reference.score, 0),
        columns={
            name: _column(matrix[:, i], reference.features[name], int(unknown[i]))
            for i, name in enumerate(schema.names)
        },
        sample=matrix[drawn],
        looked_at=len(looked_at),
        distinct=len({row.tobytes() for row in looked_at}),
        hidden=[],
        strangers=tuple(name for name in dict.fromkeys(names) if name not in schema.names),
    )


def _read(path: Path, schema: Schema) -> CsvFile:
    try:
        return read_csv_file(path, schema.names.__contains__)
    except OSError as error:
        raise LogError(f"expected a readable file at {path}, got: {error.strerror or error}") from None
    except (BatchRefused, TableRefused) as error:
        raise LogError(str(error)) from None


def _encoded(file: CsvFile, schema: Schema) -> tuple[Matrix, Counts]:
    """The rows as the model takes them, and how many texts of each feature are no value of it."""
    matrix = np.full((file.table.height, len(schema)), np.nan)
    unknown = np.zeros(len(schema), dtype=np.int64)
    for i, feature in enumerate(schema.features):
        if feature.name in file.table.columns:
            matrix[:, i], unknown[i] = _codes(file.table[feature.name], feature, file.rules)
    return matrix, unknown


def _codes(cells: pl.Series, feature: Feature, rules: CellRules) -> tuple[npt.NDArray[np.float64], int]:
    """The values as the model takes them, NaN for none, and how many texts are no value of the feature."""
    read = cell_reader(feature, rules)
    codes = {text: _code(feature, read(text)) for text in cells.drop_nulls().unique().to_list()}
    values = cells.replace_strict(codes, default=math.nan, return_dtype=pl.Float64).to_numpy()
    return np.where(np.isinf(values), np.nan, values), int(np.isinf(values).sum())


def _code(feature: Feature, value: Any) -> float:
    """The value as the model takes it, NaN for none, infinity for a text that is none of the feature."""
    if value is None:
        return math.nan
    if feature.kind == "category":
        return float(feature.categories.index(value)) if value in feature.categories else math.inf
    return math.inf if isinstance(value, str) else float(value)


def _column(codes: npt.NDArray[np.float64], distribution: Distribution, unknown: int) -> ColumnCounts:
    low, high = distribution.range
    return ColumnCounts(
        counts=distribution.counts(codes),
        missing=int(np.isnan(codes).sum()) - unknown,
        unknown=unknown,
        beyond=int(((codes < low) | (codes > high)).sum()),
    )
