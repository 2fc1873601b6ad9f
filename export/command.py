"""The steps of `python -m export`: load, describe, prove, write."""

import re
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import orjson

from export.assemble import write_conversion
from export.errors import ExportRefused
from export.forest.conversion import ABOVE_HALF, Conversion
from export.forest.evidence import Evidence, underscored
from export.load import LoadOptions, load, model_file
from export.onnx.options import OnnxOptions
from export.reading.describe import apply_entries, document_of, entries, names_in, template
from export.reading.description import (
    CARRIED,
    check_document,
    check_examples,
    check_names,
    checked_policy,
    reasons_of,
    weighed,
    written,
)
from export.reading.observe import MAX_NAMED, Data, DataNames, infer, named_as_columns, read_data
from export.reading.table import read_table
from export.reading.usual import with_limits
from export.request import ExportRequest
from export.verify import ORDINARY_ROWS
from server.errors import listed, number_of
from server.model.bounds import Bounds
from server.model.bundle import (
    CARD_FILE,
    CONTRIBUTIONS_FILE,
    GOLDEN_FILE,
    GRAPH_FILE,
    PARITY_FILE,
    REFERENCE_FILE,
    Bundle,
    Decision,
)
from server.model.files import MANIFEST_FILE
from server.model.reference import reference_of_rows
from server.model.schema import Feature, Schema

#: Written anew by every export; the rest of an old manifest is carried along.
_OWN_MEMBERS = {
    "format", "files", "name", "version", "task", "exact", "bound", "precision", "source", "link",
    "decision", "classes", "features", "ignored",
}  # fmt: skip

_Of = TypeVar("_Of")


class _BundleText(NamedTuple):
    """What people, an earlier bundle and the model say of the bundle; `manifest` are its free members."""

    name: str
    version: str
    decision: Decision | None
    schema: Schema
    manifest: dict[str, Any]


def export(request: ExportRequest, *, ordinary_rows: int = ORDINARY_ROWS) -> None:
    """Write the bundle the request asks for, or print a schema; raises `HotrowError`.

    `ordinary_rows` are drawn for the parity report, beside those at thresholds and of other kinds.
    """
    request = replace(request, source=model_file(request.source))
    old = Bundle.load(request.source) if request.source.is_dir() else None
    document = document_of(request.schema) if request.schema else {}
    check_document(document)
    conversion = _load(request, document, old)
    known = old.schema.features if old else conversion.schema.features
    features, data = _described_features(known, conversion, request, keep_names=old is not None)
    if request.schema_template:
        sys.stdout.buffer.write(template(features))
        return
    conversion = conversion.named([feature.name for feature in features])
    text = _bundle_text(request, document, conversion, old, features, data)
    name, version, decision, schema, manifest = text
    if request.description:
        sys.stdout.write(written(name, version, decision, conversion.classes, features, manifest))
        return
    assert request.out is not None  # one of the three is given
    _check_sampled(conversion, features, known_rows=data is not None or _has_reference(old))
    manifest |= _protected(request, features, manifest)
    check_examples(document, schema)
    check_names(manifest, schema)
    _say_required(schema)
    files = _files(request, conversion, old, text, data)
    bundle = write_conversion(
        request.out,
        conversion,
        schema=schema,
        name=name,
        version=version,
        decision=decision,
        golden=old.golden_fields() if old else None,
        manifest=manifest,
        files=files,
        ordinary_rows=ordinary_rows,
        replace=request.replace,
    )
    _say_written(request.out, bundle)


def _bundle_text(
    request: ExportRequest,
    document: Mapping[str, Any],
    conversion: Conversion,
    old: Bundle | None,
    features: Sequence[Feature],
    data: Data | None,
) -> _BundleText:
    """What the command says, then the description file, then an earlier bundle, then the model."""
    context = document.get("context") or (old.manifest.get("context") if old else None) or ()
    schema = Schema(features, conversion.ignored, (field["name"] for field in context))
    name = request.name or document.get("name") or (old.name if old else _name_of(request.source))
    version = request.version or document.get("version") or (old.version if old else "1")
    decision = _decision(request, document, conversion, old)
    manifest = {k: v for k, v in old.manifest.items() if k not in _OWN_MEMBERS} if old else {}
    manifest |= {key: document[key] for key in CARRIED if document.get(key)}
    if manifest.get("policy"):
        manifest["policy"] = with_limits(manifest["policy"], features, data.matrix if data else None)
    reasons = reasons_of(document, schema.names)
    manifest |= {"reasons": reasons} if reasons else {}
    return _BundleText(name, version, checked_policy(manifest, decision, schema), schema, manifest)


def _files(
    request: ExportRequest,
    conversion: Conversion,
    old: Bundle | None,
    text: _BundleText,
    data: Data | None,
) -> dict[str, bytes]:
    """The files beside the graph; an evaluation that was asked for goes into the manifest, too."""
    name, version, decision, schema, manifest = text
    files = _carried_files(old)
    if data is not None:
        _say_faults(data, schema)
        files[REFERENCE_FILE] = _reference(conversion, schema, data)
    if request.evaluate is not None and request.target is not None:
        from export.evaluation.held_out import (  # a second of SciPy and scikit-learn
            HeldOut,
            card,
            evaluation,
            warning,
        )

        asked = HeldOut(request.evaluate, request.target, request.positive)
        figures = evaluation(asked, conversion, schema, decision, manifest.get("groups") or ())
        manifest["evaluation"] = figures
        if warned := warning(asked, figures, decision):
            _say(f"{warned}.")
        source = {"family": conversion.family, **conversion.record}
        files[CARD_FILE] = card(f"{name}@{version}", asked, figures, schema, source, warned).encode()
    return files


def _has_reference(old: Bundle | None) -> bool:
    return old is not None and REFERENCE_FILE in old.manifest["files"]


def _check_sampled(conversion: Conversion, features: Sequence[Feature], *, known_rows: bool) -> None:
    """Raise `ExportRefused` where the rows that a bound is found on would have to be guessed.

    Numbers are drawn from the rows of training, or between the limits of a description; without
    either a model whose error grows with its numbers may be off by more than what is then written.
    """
    open_ended = [
        f.name for f in features if f.form_kind in ("number", "integer") and None in (f.minimum, f.maximum)
    ]
    if conversion.sampled and open_ended and not known_rows:
        raise ExportRefused(
            f"expected --data with rows of training for {conversion.record['estimator']}, of which a part is "
            "computed in float32 and off by more the larger its numbers are: or write minimum and maximum of "
            f"every number in a description ({listed(open_ended)} has none)"
        )


def _say_written(out: Path, bundle: Bundle) -> None:
    print(f"Wrote {out}: {bundle.label}, {bundle.task}, {_proof(bundle)}.")
    if not (bundle.directory / MANIFEST_FILE).stat().st_mode & stat.S_IROTH:
        _say(
            f"Its files can be read by you alone, as the umask says: `chmod -R go+rX {bundle.directory}` "
            "before another user, or an image, serves it."
        )
    classes = bundle.read_json(PARITY_FILE)["classes"]
    if classes["ties_differ"]:
        _say(
            f"In {classes['ties_differ']} of {classes['rows']} compared rows classes are equally likely, and "
            "the model's own predict gives another one than the first: it compares what was rounded."
        )
    source = bundle.manifest["source"]
    if source.get("rounds_trained", 0) > source.get("iterations", 0):
        print(
            f"{source['iterations']} of {source['rounds_trained']} rounds count: those up to the best one of "
            "early stopping; --rounds all takes all."
        )


def _load(request: ExportRequest, document: Mapping[str, Any], old: Bundle | None) -> Conversion:
    source = old.manifest["source"] if old else {}
    known = {"absent": "0", **source} if request.absent == "0" else source
    onnx = OnnxOptions(
        names=old.schema.names if old else names_in(request.schema),
        absent_is_zero=known.get("absent", request.absent) == "0",
        task=request.task or (old.task if old else None),
        output=request.output or source.get("output"),
        classes=request.classes or tuple(document.get("classes") or (old.classes if old else ())),
    )
    path = old.directory / source["file"] if old else request.source
    allowed = LoadOptions(
        trust_pickle=request.trust_pickle,
        classes=onnx.classes,
        onnx=onnx,
        evidence=_evidence(request, old),
        rounds=request.rounds or source.get("rounds", "best"),
        missing=source.get("missing"),
        python=request.python,
    )
    return load(Path(path), allowed)


def _evidence(request: ExportRequest, old: Bundle | None) -> Evidence:
    """What the schema, an earlier bundle and the data say of the columns, the data read when it is asked."""
    known = [feature.to_dict() for feature in old.schema.features] if old else []
    known += entries(request.schema) if request.schema else []
    categories = {entry["name"]: tuple(entry["categories"]) for entry in known if entry.get("categories")}
    kinds = {entry["name"]: entry["kind"] for entry in known if "kind" in entry}

    @cache
    def columns() -> Mapping[str, Any]:
        assert request.data is not None
        table = read_table(request.data).columns
        return _also_underscored({name: table[name] for name in table.columns})

    def values(name: str) -> frozenset[str] | None:
        if not request.data or name not in columns():
            return None
        distinct = columns()[name].drop_nulls().unique().to_list()
        return frozenset(map(str, distinct))

    return Evidence(_also_underscored(kinds), _also_underscored(categories), values)


def _also_underscored(found: Mapping[str, _Of]) -> dict[str, _Of]:
    """What is known by name, also under the name that LightGBM's text has of it."""
    return {**{underscored(name): of for name, of in found.items()}, **found}


def _protected(
    request: ExportRequest, features: Sequence[Feature], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """Which protected characteristics the model may use, and why; raises `ExportRefused` if nobody said."""
    names = [feature.name for feature in features if feature.protected]
    known = manifest.get("protected") or {}
    if not names:
        return {}
    if request.allow_protected:
        return {"protected": {"features": names, "why": request.allow_protected}}
    if known.get("features") == names:  # as the bundle that is exported again has it
        return {}
    raise ExportRefused(
        f"expected no protected characteristic among the model's inputs, got {listed(names)}: train "
        "without it and name it under `context`, which is asked for and never scored, or say with "
        "--allow-protected WHY what permits it"
    )


def _carried_files(old: Bundle | None) -> dict[str, bytes]:
    if old is None:
        return {}
    own = {
        CONTRIBUTIONS_FILE,
        GRAPH_FILE,
        PARITY_FILE,
        GOLDEN_FILE,
        MANIFEST_FILE,
        old.manifest["source"]["file"],
    }
    return {name: (old.directory / name).read_bytes() for name in old.manifest["files"] if name not in own}


def _decision(
    request: ExportRequest, document: Mapping[str, Any], conversion: Conversion, old: Bundle | None
) -> Decision | None:
    names = request.decisions or document.get("decisions")
    costs = document.get("costs")
    if request.fn_cost is not None:
        costs = {"false_negative": request.fn_cost, "false_positive": request.fp_cost}
    threshold = document.get("threshold") if request.threshold is None else request.threshold
    own = Decision()
    if conversion.threshold in (0.5, ABOVE_HALF):  # it weighs nothing
        own = Decision(conversion.threshold, cost_false_negative=0.0, cost_false_positive=0.0)
    elif threshold is None and old is None and costs is None:
        threshold = conversion.threshold
    if conversion.task != "binary":
        if any(value is not None for value in (threshold, names, costs)):
            raise ExportRefused(
                f"expected a binary model for a threshold, costs and decisions, got {conversion.task}: "
                "leave them out"
            )
        return None
    start = old.decision if old else own
    names = names or (None if old else conversion.decisions)
    if names is not None:
        start = replace(start, below=names[0], otherwise=names[1])
    return weighed(start, threshold, costs)


def _name_of(source: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", source.stem).strip("-.") or "model"


def _described_features(
    features: Sequence[Feature], conversion: Conversion, request: ExportRequest, *, keep_names: bool
) -> tuple[Sequence[Feature], Data | None]:
    """The features with what was written of them and what the data shows of the rest.

    Those of an earlier bundle keep their names, by which its golden rows and other files call them, and so
    do those of other families than LightGBM, whose file has the names of training.
    """
    keep_names = keep_names or conversion.family != "lightgbm"
    said = entries(request.schema) if request.schema else []
    features = apply_entries(features, said, keep_names=keep_names)
    if not request.data:
        return features, None
    known = DataNames(features)
    table = read_table(request.data, lambda column: known(column) is not None)
    for note in table.notes:
        _say(note)
    if not keep_names:
        features = named_as_columns(features, table.columns.columns, {entry["name"] for entry in said})
    data = read_data(features, table)
    takes, gaps = conversion.takes_missing, conversion.gaps
    inferred = infer(features, data, takes_missing=takes, gaps=gaps)
    return apply_entries(inferred, said, keep_names=keep_names), data


def _say_required(schema: Schema) -> None:
    names = [feature.name for feature in schema.features if not feature.nullable]
    if names:
        _say(
            f"Required of every request, as training saw them whole or the model scores nothing else: "
            f"{listed(names)}. "
            'Where one may be missing, write "nullable": true of it in the file of --describe.'
        )


def _say_faults(data: Data, schema: Schema) -> None:
    faults = data.faults(schema)
    if faults:
        more = f"; and {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
        _say(
            f"Not acceptable in {data.path}, and counted as missing: {number_of(len(faults), 'value')}: "
            f"{'; '.join(faults[:MAX_NAMED])}{more}."
        )


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _reference(conversion: Conversion, schema: Schema, data: Data) -> bytes:
    """The training distributions of features and of the score: of classes the likeliest's probability."""
    matrix = data.matrix
    matrix[Bounds(schema).bad(matrix)] = np.nan
    whole = matrix if conversion.takes_missing else matrix[~np.isnan(matrix).any(axis=1)]
    if not len(whole):
        raise ExportRefused(
            f"expected rows without a gap in {data.path}, got none: the model scores no others, so fill them"
        )
    outputs = conversion.source.outputs(whole)
    scores = outputs.max(axis=1) if outputs.ndim == 2 else outputs
    document = reference_of_rows(schema, matrix, scores).to_dict()
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _proof(bundle: Bundle) -> str:
    total = bundle.read_json(PARITY_FILE)["total"]
    if bundle.exact:
        return f"equal to the bit on {total['rows']} rows"
    return f"within {bundle.bound:.3g} (of a score above 1 in parts of it) on {total['rows']} rows"
