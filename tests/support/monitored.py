"""A bundle with a reference, and traffic for it, for the tests of monitoring."""

import http.client
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from export.assemble import assemble
from server.model.bundle import Bundle, Decision
from server.model.predictor import Predictor
from server.model.reference import Reference
from server.model.schema import Schema
from tests.support.bundles import THREE_FEATURES, sample_rows, three_feature_bundle
from tests.support.servers import address


def monitored_bundle(
    out: Path, version: str = "1", trees: int = 20, schema: Schema = THREE_FEATURES
) -> Bundle:
    """The three-feature bundle with a reference of 4,000 rows of `sample_rows`."""
    rows = sample_rows(THREE_FEATURES, 4000, seed=7)
    matrix = np.array([np.frombuffer(THREE_FEATURES.encode(row)) for row in rows])
    plain = three_feature_bundle(out.with_name(out.name + "-plain"), version, trees)
    predictor = Predictor(plain)
    scores = np.array(predictor.outputs(predictor.margins(matrix)))
    reference = Reference.from_rows(THREE_FEATURES, matrix, scores)
    return assemble(
        out,
        model_text=(plain.directory / "model.txt").read_text(encoding="utf-8"),
        schema=schema,
        name="three",
        version=version,
        decision=Decision(0.4, "grant", "decline", 5.0, 1.0),
        golden=rows[:200],
        files={"reference.json": orjson.dumps(reference.to_dict())},
    )


def send_all(url: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send each row once over one connection; the answers in order, all of them 200."""
    connection = http.client.HTTPConnection(*address(url), timeout=20)
    answers = []
    for row in rows:
        connection.request("POST", "/predict", json.dumps(row).encode(), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        answers.append(json.loads(content))
    connection.close()
    return answers


def logged(folder: Path) -> list[dict[str, Any]]:
    """Every line of the logs in a folder."""
    files = sorted(folder.glob("*.jsonl"))
    return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]
