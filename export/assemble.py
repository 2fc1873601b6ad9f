"""From a converted model to a bundle: certify, write."""

import hashlib
import tempfile
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from export.conversion import Conversion
from export.errors import ExportRefused
from export.rows import RowMaker
from export.verify import ORDINARY_ROWS, Certificate, certify
from server.model.bundle import (
    CERTIFICATE_FILE,
    GOLDEN_FILE,
    GRAPH_FILE,
    Bundle,
    Decision,
    GoldenRow,
    golden_lines,
    write_bundle,
)
from server.model.predictor import Predictor
from server.model.schema import Matrix, Schema

MIN_GOLDEN_ROWS = 200
_MADE_GOLDEN_ROWS = 240


def assemble(
    out: Path,
    *,
    model_text: str,
    schema: Schema,
    name: str,
    version: str,
    decision: Decision,
    golden: list[dict[str, Any]],
    manifest: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Bundle:
    """Convert a LightGBM model, prove it equal and write its bundle.

    `golden` are at least 200 rows as a client would send them; `manifest` and
    `files` are further members and files of the bundle. Raises `ExportRefused`
    when the model cannot be converted exactly; nothing is written then.
    """
    from export.lightgbm_model import convert_lightgbm  # other families do without LightGBM

    return write_conversion(
        out,
        convert_lightgbm(model_text),
        schema=schema,
        name=name,
        version=version,
        decision=decision,
        golden=golden,
        manifest=manifest,
        files=files,
    )


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
) -> Bundle:
    """Prove a conversion equal to its source and write its bundle.

    Without `golden` rows are drawn from the schema. Raises `ExportRefused` when
    the proof fails or the schema does not fit; nothing is written then.
    """
    _check_schema(conversion, schema)
    graph = conversion.graph(_metadata(conversion, name, version))
    rows = _rows(conversion, schema)
    if golden is None:
        made = _rows(conversion, schema, seed=1).acceptable(_MADE_GOLDEN_ROWS)
        golden = [schema.fields(row.tolist()) for row in made]
    if len(golden) < MIN_GOLDEN_ROWS:
        raise ExportRefused(f"expected at least {MIN_GOLDEN_ROWS} golden rows, got {len(golden)}")
    encoded = np.array([np.frombuffer(schema.encode(fields)) for fields in golden])
    described = _described(conversion, schema, name, version, decision, manifest or {})
    certificate = _prove(graph, conversion, rows, described, encoded, ordinary_rows)
    if not certificate.margins_exact:
        described |= {"exact": False, "bound": certificate.bound}
    return write_bundle(
        out,
        described,
        {
            GRAPH_FILE: graph,
            conversion.file: conversion.content,
            CERTIFICATE_FILE: orjson.dumps(certificate.to_dict(), option=orjson.OPT_INDENT_2) + b"\n",
            GOLDEN_FILE: golden_lines(_golden_rows(conversion, golden, encoded)),
            **(files or {}),
        },
    )


def _described(
    conversion: Conversion,
    schema: Schema,
    name: str,
    version: str,
    decision: Decision | None,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest of a bundle whose equality holds."""
    described: dict[str, Any] = {
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
        described["decision"] = vars(decision or Decision(below=below, otherwise=otherwise))
    if conversion.classes:
        described["classes"] = conversion.classes
    return {**described, "features": [feature.to_dict() for feature in schema.features], **more}


def _check_schema(conversion: Conversion, schema: Schema) -> None:
    if schema.names != conversion.names:
        raise ExportRefused("expected the model's features to be the schema's, in its order, got others")
    for i in sorted(conversion.codes):
        if schema.features[i].kind == "number":
            raise ExportRefused(
                f"expected {schema.names[i]} to be a category, flag or integer in the schema, got a number: "
                "the model splits it by categories"
            )
    nullable = [feature.name for feature in schema.features if feature.nullable]
    if nullable and not conversion.takes_missing:
        raise ExportRefused(
            f"expected every feature to be required, got {nullable[0]} as nullable: "
            "the model was trained without missing values and refuses them"
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


def _prove(
    graph: bytes,
    conversion: Conversion,
    rows: RowMaker,
    described: Mapping[str, Any],
    golden: Matrix,
    ordinary_rows: int,
) -> Certificate:
    """The certificate of a graph; raises `ExportRefused` if it breaks the conversion's promise."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / GRAPH_FILE).write_bytes(graph)
        draft = Bundle.from_manifest(Path(folder), described)
        certificate = certify(Predictor(draft), conversion.source, rows, golden, ordinary_rows)
    total, scale = certificate.total, max(1.0, certificate.total.largest_margin)
    if conversion.bound == 0.0 and not certificate.margins_exact:
        raise ExportRefused(f"expected a graph equal to its model to the bit, got {total}")
    if certificate.bound > conversion.bound * scale:
        raise ExportRefused(
            f"expected scores within {conversion.bound * scale:g} of the model's, got {certificate.bound:g}"
        )
    if total.max_probability_difference > conversion.output_bound * scale:
        raise ExportRefused(
            f"expected answers within {conversion.output_bound * scale:g} of the model's, "
            f"got {total.max_probability_difference:g}"
        )
    return certificate


def _golden_rows(conversion: Conversion, golden: list[dict[str, Any]], encoded: Matrix) -> list[GoldenRow]:
    """The golden rows with the source's own margins."""
    margins = np.asarray(conversion.source.margins(encoded), dtype=np.float64).reshape(len(encoded), -1)
    return [GoldenRow(fields, tuple(row)) for fields, row in zip(golden, margins.tolist(), strict=True)]
