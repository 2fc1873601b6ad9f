"""Rows to send, each with the score that the trained model itself gives it, alone."""

from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from loadtest.harness.http_bytes import post
from loadtest.harness.traffic import Traffic
from server.model.bundle import Bundle


class ReferenceRow(NamedTuple):
    """What a request holds, its bytes, and what each model, by its label, must answer.

    That is a row with a probability, or for `batches` rows with a list of them.
    """

    fields: Any
    request: bytes
    scores: Mapping[str, Any]


def reference_rows(
    bundles: Sequence[Bundle], count: int = 2000, seed: int = 0, path: str = "/predict"
) -> list[ReferenceRow]:
    """So many different rows that all of these bundles take, drawn from the first one's features."""
    features = [feature.to_dict() for feature in bundles[0].schema.features]
    golden = [row.fields for row in bundles[0].golden_rows()]
    traffic = Traffic(features, golden, bad_share=0.0, seed=seed)
    different: dict[bytes, Mapping[str, Any]] = {}
    while len(different) < count:
        row = traffic.row()
        different[orjson.dumps(row)] = row
    return scored(bundles, list(different.values()), path)


def scored(
    bundles: Sequence[Bundle], rows: Sequence[Mapping[str, Any]], path: str = "/predict"
) -> list[ReferenceRow]:
    """Rows with their scores: LightGBM's own, one call a row, in no code the server runs but the encoding."""
    columns = {bundle.label: _scores(bundle, rows) for bundle in bundles}
    return [
        ReferenceRow(row, post(path, orjson.dumps(row)), {label: s[i] for label, s in columns.items()})
        for i, row in enumerate(rows)
    ]


def batches(
    bundle: Bundle, rows: Sequence[ReferenceRow], size: int, names: Container[str], count: int = 20
) -> list[ReferenceRow]:
    """Requests of `size` rows each to `/predict/batch`, of the features `names` alone."""
    kept = [{name: value for name, value in row.fields.items() if name in names} for row in rows]
    alone = scored([bundle], kept)
    requests = []
    for first in range(0, count * size, size):
        batch = [alone[i % len(alone)] for i in range(first, first + size)]
        fields = [row.fields for row in batch]
        request = post("/predict/batch", orjson.dumps({"rows": fields}))
        requests.append(
            ReferenceRow(fields, request, {bundle.label: [row.scores[bundle.label] for row in batch]})
        )
    return requests


def _scores(bundle: Bundle, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    import lightgbm  # seconds, for whoever only sends rows

    source = bundle.directory / bundle.manifest["source"]["file"]
    booster = lightgbm.Booster(model_file=str(source))
    encoded = (np.frombuffer(bundle.schema.encode(row)).reshape(1, -1) for row in rows)
    return [float(booster.predict(row, num_threads=1)[0]) for row in encoded]
