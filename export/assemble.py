"""From a converted model to a bundle: compare, write."""

import dataclasses
import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from export.errors import ExportRefused
from export.forest.conversion import Conversion
from export.forest.decided import OwnClasses
from export.forest.monotone import missing_report, monotone_report
from export.forest.paths import packed
from export.forest.rows import RowMaker
from export.verify import ORDINARY_ROWS, ParityReport, compare, hangs_on_batch
from server.model.bundle import (
    CONTRIBUTIONS_FILE,
    GOLDEN_FILE,
    GRAPH_FILE,
    PARITY_FILE,
    Bundle,
    Decision,
    GoldenRow,
    golden_lines,
    write_bundle,
)
from server.model.predictor import Predictor
from server.model.schema import Schema

MIN_GOLDEN_ROWS = 200
_MADE_GOLDEN_ROWS = 240


def write_conversion(
    out: Path,
    conversion: Conversion,
    *,
    schema: Schema,
    name: str,
    version: str,
    decision: Decision | None = None,
    golden: list[dict[str, Any]] | None = None,
    manifest: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
    ordinary_rows: int = ORDINARY_ROWS,
    replace: bool = True,
) -> Bundle:
    """Prove a conversion equal to its source and write its bundle.

    Without `golden` rows are drawn from the schema. Raises `ExportRefused` when
    the proof fails or the schema does not fit, and `BundleError` when `out` holds other
    content under the same label and is not to be replaced; nothing is written then.
    """
    _check_schema(conversion, schema)
    shown = {
        "monotone": monotone_report(conversion.forest, schema.features),
        "missing": missing_report(conversion.forest, schema.features),
    }
    graph = conversion.graph(_metadata(conversion, name, version))
    rows = _rows(conversion, schema)
    if golden is None:
        golden = _rows(conversion, schema, seed=1).sent(_MADE_GOLDEN_ROWS)
    if len(golden) < MIN_GOLDEN_ROWS:
        raise ExportRefused(f"expected at least {MIN_GOLDEN_ROWS} golden rows, got {len(golden)}: give more")
    whole = _manifest(conversion, schema, name, version, decision, manifest or {})
    if conversion.forest is None and _hangs_on_batch(graph, _rows(conversion, schema), whole):
        whole |= {"row_by_row": True}
        conversion = dataclasses.replace(conversion, source=conversion.alone or conversion.source)
    report, rows_of = _prove(graph, conversion, rows, whole, golden, ordinary_rows)
    if not report.margins_exact:
        whole |= {"exact": False, "bound": report.bound}
    return write_bundle(
        out,
        whole,
        {
            GRAPH_FILE: graph,
            conversion.file: conversion.content,
            PARITY_FILE: orjson.dumps(
                report.to_dict() | {name: of for name, of in shown.items() if of}, option=orjson.OPT_INDENT_2
            )
            + b"\n",
            GOLDEN_FILE: golden_lines(conversion.task, rows_of),
            **_contributions(conversion),
            **(files or {}),
        },
        replace=replace,
    )


def _contributions(conversion: Conversion) -> dict[str, bytes]:
    """What rows are explained from, if the model tells it."""
    arrays = conversion.contributions()
    return {} if arrays is None else {CONTRIBUTIONS_FILE: packed(arrays)}


def _manifest(
    conversion: Conversion,
    schema: Schema,
    name: str,
    version: str,
    decision: Decision | None,
    free_members: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest of a bundle whose equality holds."""
    manifest: dict[str, Any] = {
        "name": name,
        "version": version,
        "task": conversion.task,
        "exact": True,
        "precision": conversion.precision,
        "source": {"family": conversion.family, "file": conversion.file, **conversion.record},
        "link": conversion.link,
    }
    if conversion.task == "binary":
        below, otherwise = conversion.decisions or (Decision.below, Decision.otherwise)
        own = Decision(threshold=_own_threshold(conversion), below=below, otherwise=otherwise)
        manifest["decision"] = vars(decision or own)
    if conversion.classes:
        manifest["classes"] = conversion.classes
    if conversion.ignored:
        manifest["ignored"] = conversion.ignored
    features = [feature.to_dict() for feature in schema.features]
    return {**manifest, "features": features, **free_members}


def _check_schema(conversion: Conversion, schema: Schema) -> None:
    if schema.names != conversion.names:
        raise ExportRefused(
            "expected the model's features to be the schema's, in its order, got others: list them in that "
            "order"
        )
    for i in sorted(conversion.codes):
        if schema.features[i].kind == "number":
            raise ExportRefused(
                f"expected {schema.names[i]} to be a category, flag or integer in the schema, got a number: "
                "the model splits it by categories, so describe it as one of these"
            )
    for i, texts in conversion.categories.items():
        if schema.features[i].categories != texts:
            raise ExportRefused(
                f"expected the categories of {schema.names[i]} as the model has them, in this order: "
                f"{', '.join(texts)[:300]}; got others in the schema: write these"
            )
    for feature in schema.features:
        if len(set(feature.categories)) != len(feature.categories):
            raise ExportRefused(
                f"expected categories of {feature.name} that differ as texts, got two that are one (1 and "
                '"1", say): make them of one type before the training'
            )
    nullable = [feature.name for feature in schema.features if feature.nullable]
    if nullable and not conversion.takes_missing:
        raise ExportRefused(
            f"expected every feature to be required, got {nullable[0]} as nullable: "
            "the model was trained without missing values and refuses them; take nullable out, or train "
            "with gaps"
        )


def _metadata(conversion: Conversion, name: str, version: str) -> dict[str, str]:
    return {
        "name": name,
        "version": version,
        "source_sha256": hashlib.sha256(conversion.content).hexdigest(),
        "onnx": installed("onnx"),
    }


def _rows(conversion: Conversion, schema: Schema, seed: int = 0) -> RowMaker:
    return RowMaker(
        conversion.forest,
        schema,
        seed,
        knots=conversion.knots,
        extremes=conversion.extremes,
        missing=conversion.takes_missing,
    )


@contextmanager
def _predictor(graph: bytes, manifest: Mapping[str, Any]) -> Iterator[Predictor]:
    """What serves a graph that is not written yet."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / GRAPH_FILE).write_bytes(graph)
        yield Predictor(Bundle.from_manifest(Path(folder), manifest))


def _hangs_on_batch(graph: bytes, rows: RowMaker, manifest: Mapping[str, Any]) -> bool:
    with _predictor(graph, manifest) as predictor:
        return hangs_on_batch(predictor, rows)


def _prove(
    graph: bytes,
    conversion: Conversion,
    rows: RowMaker,
    manifest: Mapping[str, Any],
    golden: list[dict[str, Any]],
    ordinary_rows: int,
) -> tuple[ParityReport, list[GoldenRow]]:
    """The report on a graph, and its golden rows; raises `ExportRefused` if a promise is broken."""
    with _predictor(graph, manifest) as predictor:
        classes = _own_classes(conversion, predictor.bundle)
        report = compare(predictor, conversion.source, rows, golden, ordinary_rows, classes)
        _check_graph(report, conversion)
        _check_rows(report, conversion)
        if classes:
            classes.check()
        return report, _golden_rows(predictor, conversion, golden)


def _own_threshold(conversion: Conversion) -> float:
    return Decision.threshold if conversion.threshold is None else conversion.threshold


def _own_classes(conversion: Conversion, bundle: Bundle) -> OwnClasses | None:
    """What compares classes with the library's, where nobody said another threshold than its own."""
    own = _own_threshold(conversion)
    if conversion.decided is None or (bundle.task == "binary" and bundle.decision.threshold != own):
        return None
    return OwnClasses(conversion.decided, own)


def _check_graph(report: ParityReport, conversion: Conversion) -> None:
    total = report.total
    if conversion.bound == 0.0 and not report.margins_exact:
        raise ExportRefused(
            f"expected a graph equal to its model to the bit, got {total.margin_bits_differ} of "
            f"{total.rows} rows that differ, by up to {report.found:g}: please report this model"
        )
    if report.found > conversion.bound:
        raise ExportRefused(
            f"expected scores within {conversion.bound:g} of the model's (in parts of those above 1), got "
            f"{report.found:g}{_advice(conversion)}"
        )
    if total.max_relative_difference > max(conversion.output_bound, conversion.bound):
        raise ExportRefused(
            f"expected answers within {max(conversion.output_bound, conversion.bound):g} of the model's (in "
            f"parts of those above 1), got {total.max_relative_difference:g}{_advice(conversion)}"
        )


def _advice(conversion: Conversion) -> str:
    converter = conversion.record.get("converter")
    if converter is None:
        return ": please report this model"
    return (
        f": {converter} converts {conversion.record['estimator']} otherwise than scikit-learn scores it; fit "
        "another estimator, or make an ONNX file of it in "
        "another way and export that"
    )


def _check_rows(report: ParityReport, conversion: Conversion) -> None:
    rows, largest = report.rows, max(conversion.output_bound, conversion.bound)
    if rows.max_relative_difference > largest or (not largest and rows.outcomes_differ):
        raise ExportRefused(
            "expected rows as clients send them to be answered as the model's own prediction has it (within "
            f"{largest:g}), got a difference of {rows.max_relative_difference:g} and {rows.outcomes_differ} "
            f"other outcomes in {rows.rows} rows: say with --describe what the columns held in training"
        )


def _golden_rows(
    predictor: Predictor, conversion: Conversion, golden: list[dict[str, Any]]
) -> list[GoldenRow]:
    """The golden rows with the source's own margins, answers and outcomes."""
    schema, source = predictor.bundle.schema, conversion.source
    encoded = np.array([np.frombuffer(schema.encode(fields)) for fields in golden])
    margins = np.asarray(source.margins(encoded), dtype=np.float64).reshape(len(golden), -1)
    predictions = np.asarray(source.predictions(golden, schema), dtype=np.float64)
    outcomes = [predictor.bundle.outcomes[i] for i in predictor.outcomes(predictions, encoded)]
    scores = predictions.reshape(len(golden), -1).tolist()
    columns = zip(golden, margins.tolist(), scores, outcomes, strict=True)
    return [GoldenRow(fields, tuple(margin), tuple(score), word) for fields, margin, score, word in columns]
