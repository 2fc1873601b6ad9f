"""Rows to send, each with the score that the trained model itself gives it, alone."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import orjson

from loadtest.http_bytes import post
from loadtest.traffic import Traffic
from server.bundle import Bundle


class ReferenceRow(NamedTuple):
    """A row, the request that sends it, and its probability by the label of each model."""

    fields: Mapping[str, Any]
    request: bytes
    scores: Mapping[str, float]


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


def _scores(bundle: Bundle, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    source = bundle.directory / bundle.manifest["source"]["file"]
    booster = lightgbm.Booster(model_file=str(source))
    encoded = (np.frombuffer(bundle.schema.encode(row)).reshape(1, -1) for row in rows)
    return [float(booster.predict(row, num_threads=1)[0]) for row in encoded]
