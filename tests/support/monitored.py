"""A bundle with a reference, and traffic for it, for the tests of monitoring."""

import http.client
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from loadtest.harness.scrape import Samples, scrape, total
from server.model.bundle import Bundle, Decision
from server.model.predictor import Predictor
from server.model.reference import reference_of_rows
from server.model.schema import Feature, Schema
from server.scoring.one_row import make_scorer
from tests.support.bundles import THREE_FEATURES, sample_rows, three_feature_bundle
from tests.support.servers import address


def monitored_bundle(
    out: Path, version: str = "1", trees: int = 20, schema: Schema = THREE_FEATURES
) -> Bundle:
    """The three-feature bundle with a reference of 4,000 rows of `sample_rows`."""
    from export.assemble import write_conversion
    from export.lightgbm.model import convert_lightgbm

    rows = sample_rows(THREE_FEATURES, 4000, seed=7)
    matrix = np.array([np.frombuffer(THREE_FEATURES.encode(row)) for row in rows])
    plain = three_feature_bundle(out.with_name(out.name + "-plain"), version, trees)
    predictor = Predictor(plain)
    scores = np.array(predictor.outputs(predictor.margins(matrix)))
    reference = reference_of_rows(THREE_FEATURES, matrix, scores)
    return write_conversion(
        out,
        convert_lightgbm((plain.directory / "model.txt").read_text(encoding="utf-8")),
        schema=schema,
        name="three",
        version=version,
        decision=Decision(0.4, "grant", "decline", 5.0, 1.0),
        golden=rows[:200],
        files={"reference.json": orjson.dumps(reference.to_dict())},
    )


START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
#: A house's price and its grade; `channel` has words, `rooms` may be missing.
HOUSES = Schema(
    [
        Feature("area", minimum=10, maximum=400),
        Feature("rooms", kind="integer", minimum=1, maximum=12),
        Feature("channel", kind="category", categories=("web", "branch", "phone")),
    ]
)
GRADES = ("low", "mid", "high")


def houses(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of `HOUSES` as clients send them, a tenth without `rooms`."""
    random = np.random.default_rng(seed)
    return [
        {
            "area": float(np.clip(random.gamma(6, 20), 10, 400)),
            "channel": HOUSES["channel"].categories[random.choice(3, p=[0.6, 0.3, 0.1])],
            **({"rooms": int(random.integers(1, 9))} if random.random() > 0.1 else {}),
        }
        for _ in range(count)
    ]


def house_bundle(
    out: Path, task: str, version: str = "1", features: Schema = HOUSES, trees: int = 10
) -> Bundle:
    """A bundle that prices houses (`regression`) or grades them (`multiclass`), with a reference of 3,000.

    `features` are those of `HOUSES` in order, by other names if need be.
    """
    import lightgbm  # here, as every training in this folder: a test that trains nothing does not load it

    from export.assemble import write_conversion
    from export.lightgbm.model import convert_lightgbm

    rows = houses(3000, seed=7)
    matrix = np.array([np.frombuffer(HOUSES.encode(row)) for row in rows])
    price = matrix[:, 0] * 3 + np.nan_to_num(matrix[:, 1]) * 20 + matrix[:, 2] * 30
    target = np.digitize(price, np.quantile(price, [0.4, 0.8])) if task == "multiclass" else price
    parameters = {"objective": task, "verbose": -1, "num_threads": 1, "seed": 1, "num_leaves": 7}
    if task == "multiclass":
        parameters["num_class"] = 3
    data = lightgbm.Dataset(matrix, target, feature_name=list(features.names), params={"verbose": -1})
    text = lightgbm.train(parameters, data, trees).model_to_string()
    conversion = convert_lightgbm(text, classes=GRADES if task == "multiclass" else ())
    outputs = np.asarray(conversion.source.outputs(matrix))
    scores = outputs.max(axis=1) if outputs.ndim == 2 else outputs
    return write_conversion(
        out,
        conversion,
        schema=features,
        name="houses",
        version=version,
        golden=[features.fields(row.tolist()) for row in matrix[:200]],
        files={"reference.json": orjson.dumps(reference_of_rows(features, matrix, scores).to_dict())},
        ordinary_rows=2000,
    )


def send_all(url: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send each row once over one connection; the responses in order, all of them 200."""
    connection = http.client.HTTPConnection(*address(url), timeout=60)
    answers = []
    for row in rows:
        connection.request("POST", "/predict", json.dumps(row).encode(), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        answers.append(json.loads(content))
    connection.close()
    return answers


def log_of(
    bundle: Bundle,
    rows: Sequence[dict[str, Any]],
    file: Path,
    *,
    instance: str = "0123456789ab",
    start: datetime = START,
    seconds: float = 0.1,
    first: int = 1,
) -> Path:
    """A log of these rows as the server answers them, one each `seconds`, appended to `file`."""
    scorer = make_scorer(bundle, count=lambda *_: None)
    sent: list[bytes] = []
    for row in rows:
        scorer.respond(orjson.dumps(row), sent.append, 0)
    lines = []
    for i, (row, answer) in enumerate(zip(rows, sent, strict=True)):
        ts = (start + timedelta(seconds=i * seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        head = {
            "ts": ts,
            **orjson.loads(answer),
            "id": f"{instance}-{first + i}",
            "seq": first + i,
            "input": row,
        }
        lines.append(orjson.dumps(head | {"duration_us": 30.0 + i % 7, "cpu_percent": 20.0, "rss_mb": 90.0}))
    with open(file, "ab") as log:
        log.write(b"".join(line + b"\n" for line in lines))
    return file


def wait_for_rows(url: str, rows: int) -> Samples:
    """The metrics of a server, once drift is told of so many rows or a minute is up."""
    end = time.monotonic() + 60
    while total(samples := scrape(url), "hotrow_drift_rows") < rows and time.monotonic() < end:
        time.sleep(0.05)
    return samples


def logged(folder: Path) -> list[dict[str, Any]]:
    """Every line of the logs in a folder, which a server may write, close and rename meanwhile."""
    for _ in range(20):
        with suppress(FileNotFoundError, orjson.JSONDecodeError):
            return _lines(folder)
        time.sleep(0.05)
    return _lines(folder)


def _lines(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.rglob("*.jsonl"))
    return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]
