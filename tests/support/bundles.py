"""Small real models for the tests: trained here, exported by our exporter, served by our server."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson

from server.errors import ModelFailure
from server.model.bundle import Bundle, Decision, write_bundle
from server.model.schema import Feature, Schema

CREDIT = Path("models/credit")

THREE_FEATURES = Schema(
    [
        Feature(
            "income", "number", label="Monthly income", unit="EUR", minimum=0, maximum=1e6, nullable=False
        ),
        Feature("contract", "category", label="Contract", categories=("permanent", "fixed-term", "none")),
        Feature("owner", "flag", label="Owns a home"),
    ]
)
ROW = {"income": 2500.5, "contract": "fixed-term", "owner": True}


def compared_rows(folder: Path) -> str:
    """The rows that a bundle's export compared with the trained model, as the page writes them."""
    return f"{orjson.loads((folder / 'parity.json').read_bytes())['total']['rows']:,}"


def three_feature_bundle(out: Path, version: str = "1", trees: int = 20) -> Bundle:
    """A bundle of a booster with a number, a category and a flag, and decisions of its own."""
    from export.assemble import write_conversion  # which loads LightGBM: most tests need neither
    from export.lightgbm.model import convert_lightgbm

    rows = sample_rows(THREE_FEATURES, 2000)
    matrix = np.array([np.frombuffer(THREE_FEATURES.encode(row)) for row in rows])
    target = np.nan_to_num(matrix[:, 0] / 1e6 + matrix[:, 1] / 4 - matrix[:, 2] / 3) > 0.5
    return write_conversion(
        out,
        convert_lightgbm(train(matrix, target, THREE_FEATURES, trees)),
        schema=THREE_FEATURES,
        name="three",
        version=version,
        decision=Decision(0.4, "grant", "decline", 5.0, 1.0),
        golden=rows[:200],
    )


def other_schema_bundle(out: Path, version: str = "2") -> Bundle:
    """A bundle of the same name with one feature that rows of `THREE_FEATURES` lack, and must have."""
    from export.assemble import write_conversion
    from export.lightgbm.model import convert_lightgbm

    schema = Schema([THREE_FEATURES["income"], Feature("debt", minimum=0, maximum=1e6, nullable=False)])
    rows = sample_rows(schema, 500)
    matrix = np.array([np.frombuffer(schema.encode(row)) for row in rows])
    text = train(matrix, matrix[:, 0] > matrix[:, 1], schema, 5)
    return write_conversion(
        out,
        convert_lightgbm(text),
        schema=schema,
        name="three",
        version=version,
        decision=Decision(0.4, "grant", "decline", 5.0, 1.0),
        golden=rows[:200],
    )


def edit(folder: Path, name: str, content: bytes) -> None:
    """Change a file of a bundle and its hash, as somebody would who edits it by hand."""
    (folder / name).write_bytes(content)
    manifest = orjson.loads((folder / "bundle.json").read_bytes())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "bundle.json").write_bytes(orjson.dumps(manifest))


def rewritten(
    source: Path, folder: Path, files: Mapping[str, bytes | None] = MappingProxyType({}), **members: Any
) -> Path:
    """`folder` with the bundle of `source`, but for some members and files (None: without it)."""
    manifest = orjson.loads((source / "bundle.json").read_bytes())
    contents = {name: (source / name).read_bytes() for name in manifest["files"]} | dict(files)
    own = {name: value for name, value in manifest.items() if name not in ("format", "files")}
    write_bundle(
        folder, own | members, {n: content for n, content in contents.items() if content is not None}
    )
    return folder


def tell_again(folder: Path) -> None:
    """Golden rows as an edited bundle of `THREE_FEATURES` answers them, of rows that have an outcome."""
    from server.model.predictor import Predictor

    predictor = Predictor(Bundle.load(folder))
    lines = []
    for row in sample_rows(THREE_FEATURES, 2000, seed=3):
        encoded = predictor.bundle.schema.encode(row)
        try:
            probability, index = predictor.predict(encoded)
        except ModelFailure:
            continue
        told = {"margin": predictor.margin(encoded).hex(), "probability": probability.hex()}
        lines.append(orjson.dumps({"row": row, **told, "decision": predictor.bundle.outcomes[index]}))
    edit(folder, "golden.jsonl", b"\n".join(lines[:200]) + b"\n")


def wide_schema(width: int) -> Schema:
    """A schema of `width` numbers without ranges."""
    return Schema(Feature(f"x{i}") for i in range(width))


def wide_bundle(out: Path, width: int = 600, trees: int = 50) -> Bundle:
    """A bundle of `width` numbers, most of them missing in its golden rows."""
    from export.assemble import write_conversion
    from export.lightgbm.model import convert_lightgbm

    random = np.random.default_rng(width)
    schema = wide_schema(width)
    matrix = random.normal(size=(3000, width))
    target = matrix[:, :12].sum(axis=1) > 0
    sent = random.integers(0, 12, size=(200, 11))
    golden = [{f"x{i}": float(random.normal()) for i in row} for row in sent]
    return write_conversion(
        out,
        convert_lightgbm(train(matrix, target, schema, trees)),
        schema=schema,
        name=f"wide{width}",
        version="1",
        decision=Decision(),
        golden=golden,
    )


def train(matrix: Any, target: Any, schema: Schema, trees: int) -> str:
    """The text of a LightGBM classifier."""
    import lightgbm

    data = lightgbm.Dataset(matrix, target, feature_name=list(schema.names), params={"verbose": -1})
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": 1, "num_leaves": 15}
    text: str = lightgbm.train(parameters, data, trees).model_to_string()
    return text


def sample_rows(schema: Schema, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Valid rows of a schema as a client would send them, a tenth of the optional values absent."""
    random = np.random.default_rng(seed)
    return [
        {f.name: _value(f, random) for f in schema.features if not f.nullable or random.random() > 0.1}
        for _ in range(count)
    ]


def _value(feature: Feature, random: np.random.Generator) -> Any:
    if feature.kind == "category":
        return feature.categories[random.integers(len(feature.categories))]
    if feature.kind == "flag":
        return [0, 1, True, False][random.integers(4)]
    low = 0.0 if feature.minimum is None else feature.minimum
    high = 1.0 if feature.maximum is None else feature.maximum
    value = float(low + (high - low) * random.random() ** 3)
    return int(value) if feature.kind == "integer" else value
