"""The rows of CSV files, as people have them, that drift is looked for in."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from monitoring.drift.rows import LOOKED_AT_ROWS, SAMPLE_ROWS, Column, Rows, reference_of
from monitoring.errors import LogError
from monitoring.logs.files import open_lines
from server.errors import first_line
from server.model.bundle import Bundle
from server.model.dialect import HEAD_BYTES, MISSING_WORDS, recognise
from server.model.predictor import Predictor
from server.model.reference import Distribution
from server.model.schema import Feature, Schema

CSV_SUFFIXES = (".csv", ".csv.gz", ".csv.zst")
_GROUPS = "[ .\u00a0\u202f]"


def rows_of_csv(paths: Sequence[Path], bundle: Bundle) -> Rows:
    """Count the rows of CSV files with a header, and score them; raises `LogError`.

    A feature without a column is missing in every row.
    """
    schema, reference, predictor = bundle.schema, reference_of(bundle), Predictor(bundle)
    table = pl.concat([_read(path, schema) for path in paths], how="diagonal")
    if not set(table.columns) & set(schema.names):
        raise LogError(
            f"expected columns named as the features of {bundle.label} in {', '.join(map(str, paths))}, "
            f"got {', '.join(table.columns[:10])}"
        )
    if not table.height:
        raise LogError(f"expected rows below the header of {', '.join(map(str, paths))}, got none")
    matrix, unknown = np.full((table.height, len(schema)), np.nan), np.zeros(len(schema), dtype=np.int64)
    for i, feature in enumerate(schema.features):
        if feature.name in table.columns:
            matrix[:, i], unknown[i] = _codes(table[feature.name], feature)
    outputs = np.asarray(predictor.outputs(predictor.margins(matrix)), dtype=np.float64)
    scores = outputs.max(axis=1) if outputs.ndim == 2 else outputs
    looked_at = matrix[:LOOKED_AT_ROWS]
    drawn = np.random.default_rng(0).permutation(len(matrix))[:SAMPLE_ROWS]
    return Rows(
        score=_column(scores, reference.score, 0),
        columns={
            name: _column(matrix[:, i], reference.features[name], int(unknown[i]))
            for i, name in enumerate(schema.names)
        },
        sample=matrix[drawn],
        looked_at=len(looked_at),
        distinct=len({row.tobytes() for row in looked_at}),
        hidden=[],
        strangers=tuple(name for name in table.columns if name not in schema.names),
    )


def _read(path: Path, schema: Schema) -> pl.DataFrame:
    """The cells of one file as texts, null where a word says that nothing is there."""
    with open_lines(path) as lines:
        content = lines.read()
    dialect = recognise(content[:HEAD_BYTES], schema.names)
    if dialect.encoding != "utf-8":
        content = content.decode(dialect.encoding, errors="replace").encode()
    if not content.strip():
        raise LogError(f"expected a header and rows in {path}, got an empty file")
    try:
        table = pl.read_csv(
            io.BytesIO(content), separator=dialect.separator, skip_lines=dialect.skip, infer_schema=False
        )
    except pl.exceptions.PolarsError as error:
        raise LogError(f"expected a CSV file with a header at {path}, got: {first_line(error)}") from None
    words = {feature.name: feature.categories for feature in schema.features}
    return table.with_columns(
        _cells(name, dialect.decimal, words.get(name, ())).alias(name) for name in table.columns
    )


def _cells(name: str, decimal: str, categories: Sequence[str]) -> pl.Expr:
    cells = pl.col(name).str.strip_chars()
    missing = sorted(MISSING_WORDS.difference(categories))
    cells = pl.when(cells.is_in(missing)).then(None).otherwise(cells)
    if decimal == "," and not categories:
        cells = cells.str.replace_all(_GROUPS, "").str.replace(",", ".", literal=True)
    return cells


def _codes(cells: pl.Series, feature: Feature) -> tuple[npt.NDArray[np.float64], int]:
    """The values as the model takes them, NaN for none, and how many texts are no value of the feature."""
    if feature.kind == "category":
        codes = cells.cast(pl.Enum(feature.categories), strict=False).to_physical().cast(pl.Float64)
    else:
        numbers = cells.str.to_lowercase().replace({"true": "1", "false": "0"}).cast(pl.Float64, strict=False)
        codes = numbers.set(~numbers.is_finite(), None)
    return codes.fill_null(np.nan).to_numpy(), codes.null_count() - cells.null_count()


def _column(codes: npt.NDArray[np.float64], distribution: Distribution, unknown: int) -> Column:
    low, high = distribution.range
    return Column(
        counts=distribution.counts(codes),
        missing=int(np.isnan(codes).sum()) - unknown,
        unknown=unknown,
        beyond=int(((codes < low) | (codes > high)).sum()),
    )
