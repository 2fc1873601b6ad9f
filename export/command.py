"""The steps of `python -m export`: load, describe, prove, write."""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from export.assemble import write_conversion
from export.conversion import Conversion
from export.describe import apply_data, apply_schema, names_in, read_table, template
from export.errors import ExportRefused
from export.load import LoadOptions, load
from export.onnx_options import OnnxOptions
from server.model.bundle import (
    CERTIFICATE_FILE,
    GOLDEN_FILE,
    GRAPH_FILE,
    REFERENCE_FILE,
    Bundle,
    Decision,
)
from server.model.files import MANIFEST_FILE
from server.model.reference import Reference
from server.model.schema import Feature, Schema

#: Written anew by every export; the rest of an old manifest is carried along.
_OWN_MEMBERS = {
    "format", "files", "name", "version", "task", "exact", "bound", "precision", "source", "link",
    "decision", "classes", "features",
}  # fmt: skip


def export(options: argparse.Namespace) -> None:
    """Write the bundle the options ask for, or print a schema; raises `HotrowError`."""
    old = Bundle.load(options.source) if options.source.is_dir() else None
    conversion = _load(options, old)
    if options.schema_template:
        sys.stdout.buffer.write(template(conversion.schema.features))
        return
    features: Sequence[Feature] = old.schema.features if old else conversion.schema.features
    files = _carried_files(old)
    table = read_table(options.data) if options.data else None
    if table is not None:
        features = apply_data(features, table)
    if options.schema:
        features = apply_schema(features, options.schema)
    schema = Schema(features)
    if table is not None:
        files[REFERENCE_FILE] = _reference(conversion, schema, table)
    bundle = write_conversion(
        options.out,
        conversion,
        schema=schema,
        name=options.name or (old.name if old else _name_of(options.source)),
        version=options.version or (old.version if old else "1"),
        decision=_decision(options, conversion, old),
        golden=[row.fields for row in old.golden_rows()] if old else None,
        manifest={k: v for k, v in old.manifest.items() if k not in _OWN_MEMBERS} if old else None,
        files=files,
    )
    print(f"Wrote {options.out}: {bundle.label}, {bundle.task}, {_proof(bundle)}.")


def _load(options: argparse.Namespace, old: Bundle | None) -> Conversion:
    source = old.manifest["source"] if old else {}
    known = {"absent": "0", **source} if options.absent == "0" else source
    onnx = OnnxOptions(
        names=old.schema.names if old else names_in(options.schema),
        absent_is_zero=known.get("absent", options.absent) == "0",
        task=options.task or (old.task if old else None),
        output=options.output or source.get("output"),
        classes=options.classes or (old.classes if old else ()),
    )
    path = old.directory / source["file"] if old else options.source
    allowed = LoadOptions(options.trust_pickle, onnx.classes, onnx)
    return load(Path(path), allowed)


def _carried_files(old: Bundle | None) -> dict[str, bytes]:
    if old is None:
        return {}
    own = {GRAPH_FILE, CERTIFICATE_FILE, GOLDEN_FILE, MANIFEST_FILE, old.manifest["source"]["file"]}
    return {name: (old.directory / name).read_bytes() for name in old.manifest["files"] if name not in own}


def _decision(options: argparse.Namespace, conversion: Conversion, old: Bundle | None) -> Decision | None:
    if conversion.task != "binary":
        if options.threshold is not None or options.decisions is not None:
            raise ExportRefused(
                f"expected a binary model for --threshold and --decisions, got {conversion.task}"
            )
        return None
    start = old.decision if old else Decision()
    names = options.decisions or (None if old else conversion.decisions)
    if names is not None:
        start = replace(start, below=names[0], otherwise=names[1])
    return start if options.threshold is None else replace(start, threshold=options.threshold)


def _name_of(source: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", source.stem).strip("-.") or "model"


def _reference(conversion: Conversion, schema: Schema, table: Any) -> bytes:
    """The training distributions of features and of the score: of classes the likeliest's probability."""
    rows = [{k: v for k, v in row.items() if v is not None} for row in _rows(schema, table)]
    matrix = np.array([np.frombuffer(schema.encode(row)) for row in rows])
    outputs = conversion.source.outputs(matrix)
    scores = outputs.max(axis=1) if outputs.ndim == 2 else outputs
    document = Reference.from_rows(schema, matrix, scores).to_dict()
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _rows(schema: Schema, table: Any) -> Any:
    columns = table.select(schema.names)
    numeric = [name for name in columns.columns if columns[name].dtype.is_float()]
    texts = [feature.name for feature in schema.features if feature.kind == "category"]
    return columns.with_columns(
        *(columns[name].fill_nan(None) for name in numeric),
        *(columns[name].cast(str) for name in texts),
    ).iter_rows(named=True)


def _proof(bundle: Bundle) -> str:
    total = bundle.read_json(CERTIFICATE_FILE)["total"]
    if bundle.exact:
        return f"equal to the bit on {total['rows']} rows"
    return f"within {bundle.bound:.3g} on {total['rows']} rows"
