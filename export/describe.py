"""What the features mean: a user's schema file, the training data, and the model's own hints.

In this order: what the file says wins, the data fills what it leaves open, the
model's thresholds fill the rest. Ranges seen in data or in a model are marked as
inferred: they guide a form and are never enforced on a request.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import orjson
import polars

from export.errors import ExportRefused
from server.model.schema import Feature

_FIELDS = {field.name: field for field in fields(Feature)}
_KINDS = ("number", "integer", "flag", "category")
_RANGE = {"minimum", "maximum"}
_TEXTS = {"name", "kind", "label", "help", "unit", "group"}
_LISTS = {"categories", "category_labels"}


def template(features: Sequence[Feature]) -> bytes:
    """A schema file to edit: everything the model tells."""
    document = {"features": [feature.to_dict() for feature in features]}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def names_in(path: Path | None) -> tuple[str, ...]:
    """The feature names of a schema file in its order, none without a file."""
    return tuple(entry["name"] for entry in entries(path)) if path else ()


def entries(path: Path) -> list[dict[str, Any]]:
    """The entries of a schema file: `{"features": […]}`, or a list of names, one a line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExportRefused(f"expected a readable schema at {path}, got: {error.strerror}") from None
    if content.lstrip()[:1] not in (b"{", b"["):
        try:
            return [{"name": name.strip()} for name in content.decode().splitlines() if name.strip()]
        except UnicodeDecodeError:
            raise ExportRefused(f"expected {path} to be UTF-8 text, got other bytes") from None
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ExportRefused(f"expected {path} to be JSON, got: {error}") from None
    found = document.get("features") if isinstance(document, dict) else document
    if not isinstance(found, list):
        raise ExportRefused(f'expected a list of features or {{"features": […]}} in {path}, got another form')
    return [_entry({"name": item} if isinstance(item, str) else item) for item in found]


def _entry(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ExportRefused("expected each feature of the schema to be an object with a name, got another")
    for key, value in entry.items():
        if key not in _FIELDS:
            raise ExportRefused(f"expected fields {', '.join(_FIELDS)} of a feature, got {key}")
        if not _fits(key, value):
            raise ExportRefused(f"expected another type of {key} of {entry['name']} in the schema")
    if entry.get("kind", "number") not in _KINDS:
        raise ExportRefused(f"expected kind {', '.join(_KINDS)} of {entry['name']}, got {entry['kind']}")
    return entry


def _fits(key: str, value: Any) -> bool:
    if key in _TEXTS:
        return isinstance(value, str)
    if key in _LISTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if key in _RANGE:
        return value is None or (type(value) in (int, float))
    return key == "default" or isinstance(value, bool)


def apply_schema(features: Sequence[Feature], path: Path) -> list[Feature]:
    """The features with what a schema file says of them; an absent entry changes nothing."""
    said = {entry["name"]: entry for entry in entries(path)}
    names = {feature.name for feature in features}
    if unknown := [name for name in said if name not in names]:
        raise ExportRefused(f"expected features of the model in {path}, got {unknown[0]}")
    return [_applied(feature, said.get(feature.name, {})) for feature in features]


def _applied(feature: Feature, entry: dict[str, Any]) -> Feature:
    changes: dict[str, Any] = {key: tuple(value) if key in _LISTS else value for key, value in entry.items()}
    if _RANGE & set(entry):
        changes.setdefault("inferred", False)
    if changes.get("kind", feature.kind) == "category" and not (
        changes.get("categories") or feature.categories
    ):
        raise ExportRefused(f"expected the categories of {feature.name} in the schema, got none")
    return replace(feature, **changes)


def read_table(path: Path) -> polars.DataFrame:
    """Training rows of a CSV, JSON Lines or Parquet file."""
    readers: dict[str, Callable[[Path], polars.DataFrame]] = {
        ".csv": polars.read_csv,
        ".parquet": polars.read_parquet,
        ".jsonl": polars.read_ndjson,
    }
    read = readers.get(path.suffix.lower())
    if read is None:
        raise ExportRefused(f"expected --data to end in {', '.join(readers)}, got {path.name}")
    try:
        return read(path)
    except (OSError, polars.exceptions.PolarsError) as error:
        line = next(iter(str(error).splitlines()), "an error")
        raise ExportRefused(f"expected readable training data at {path}, got: {line}") from None


def apply_data(features: Sequence[Feature], table: polars.DataFrame) -> list[Feature]:
    """The features with the kinds, ranges and medians of their columns."""
    absent = [feature.name for feature in features if feature.name not in table.columns]
    if absent:
        raise ExportRefused(f"expected a column of each feature in the data, got none of {absent[0]}")
    return [_observed(feature, table[feature.name]) for feature in features]


def _observed(feature: Feature, column: polars.Series) -> Feature:
    if feature.kind == "category":
        counts = column.drop_nulls().cast(polars.String).value_counts(sort=True)
        common = [word for word in counts[column.name].to_list() if word in feature.categories]
        return replace(feature, default=common[0] if common else feature.default)
    if column.dtype == polars.Boolean:
        return replace(feature, kind="flag", minimum=None, maximum=None, default=None)
    if not column.dtype.is_numeric():
        raise ExportRefused(
            f"expected numbers in the column {feature.name} of the data, got {column.dtype}: "
            "the model takes numbers there"
        )
    present = column.cast(polars.Float64).fill_nan(None).drop_nulls()
    finite = present.filter(present.is_finite())
    if finite.is_empty():
        return feature
    values: dict[str, Any] = {"minimum": finite.min(), "maximum": finite.max(), "default": finite.median()}
    if not column.dtype.is_integer():
        return replace(feature, **values, inferred=True)
    if set(finite.unique().to_list()) == {0.0, 1.0}:
        return replace(feature, kind="flag", minimum=None, maximum=None, default=None)
    return replace(
        feature, kind="integer", **values | {"default": float(round(values["default"]))}, inferred=True
    )
