"""From a trained model to a bundle: convert, certify, write."""

import hashlib
import tempfile
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from export.booster import Booster, parse_booster
from export.errors import ExportRefused
from export.graph import build_graph
from export.lightgbm_source import LightGBMSource
from export.rows import RowMaker
from export.verify import certify
from server.bundle import (
    CERTIFICATE_FILE,
    GOLDEN_FILE,
    GRAPH_FILE,
    SOURCE_FILE,
    Bundle,
    Decision,
    GoldenRow,
    golden_lines,
    write_bundle,
)
from server.predictor import Predictor
from server.schema import Schema

MIN_GOLDEN_ROWS = 200


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
    """Convert a LightGBM binary classifier, prove it equal and write its bundle.

    `golden` are at least 200 rows as a client would send them; `manifest` and
    `files` are further members and files of the bundle. Raises `ExportRefused`
    when the model cannot be converted exactly; nothing is written then.
    """
    if len(golden) < MIN_GOLDEN_ROWS:
        raise ExportRefused(f"expected at least {MIN_GOLDEN_ROWS} golden rows, got {len(golden)}")
    booster = parse_booster(model_text)
    if booster.feature_names != schema.names:
        raise ExportRefused("expected the model's features to be the schema's, in its order, got others")
    graph = build_graph(booster, _metadata(name, version, model_text))
    described = {
        "name": name,
        "version": version,
        "task": "binary",
        "exact": True,
        "source": {"family": "lightgbm", "file": SOURCE_FILE},
        "link": _link(booster),
        "decision": vars(decision),
        "features": [feature.to_dict() for feature in schema.features],
        **(manifest or {}),
    }
    certificate, rows = _prove(graph, booster, LightGBMSource(model_text), schema, described, golden)
    return write_bundle(
        out,
        described,
        {
            GRAPH_FILE: graph,
            SOURCE_FILE: model_text.encode(),
            CERTIFICATE_FILE: orjson.dumps(certificate, option=orjson.OPT_INDENT_2) + b"\n",
            GOLDEN_FILE: golden_lines(rows),
            **(files or {}),
        },
    )


def _metadata(name: str, version: str, model_text: str) -> dict[str, str]:
    return {
        "name": name,
        "version": version,
        "source_sha256": hashlib.sha256(model_text.encode()).hexdigest(),
        "onnx": installed("onnx"),
    }


def _link(booster: Booster) -> dict[str, Any]:
    if booster.objective != "binary":
        raise ExportRefused(f"expected objective binary, got {booster.objective or 'none'}")
    return {"name": "logistic", "scale": float(booster.objective_parameters.get("sigmoid", 1.0))}


def _prove(
    graph: bytes,
    booster: Booster,
    source: LightGBMSource,
    schema: Schema,
    described: Mapping[str, Any],
    golden: list[dict[str, Any]],
) -> tuple[dict[str, Any], list[GoldenRow]]:
    """The certificate, and the golden rows with the source's own margins."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / GRAPH_FILE).write_bytes(graph)
        draft = Bundle.from_manifest(Path(folder), described)
        certificate = certify(Predictor(draft), source, RowMaker(booster, schema))
    if not certificate.exact:
        raise ExportRefused(f"expected a graph equal to its model to the bit, got {certificate.total}")
    matrix = np.array([np.frombuffer(schema.encode(fields)) for fields in golden])
    margins = source.margins(matrix).tolist()
    return certificate.to_dict(), [GoldenRow(*pair) for pair in zip(golden, margins, strict=True)]
