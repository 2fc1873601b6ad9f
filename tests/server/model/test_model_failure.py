"""A model that gives no number: 500, counted, never `null` with 200, and not in the log."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import orjson
import pytest

from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.bundles import edit
from tests.support.monitored import logged
from tests.support.servers import exchange, post, serving


@pytest.fixture(scope="module")
def broken(three: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A bundle with a leaf that is no number, which no golden row reaches, and a row that does."""
    folder = Path(shutil.copytree(three, tmp_path_factory.mktemp("broken") / "three"))
    model = onnx.load_from_string((folder / "model.onnx").read_bytes())
    (leaves,) = (a for a in model.graph.node[0].attribute if a.name == "leaf_weights")
    weights = np.frombuffer(leaves.t.raw_data).copy()
    weights[0] = np.nan
    leaves.t.raw_data = weights.tobytes()
    edit(folder, "model.onnx", model.SerializeToString())
    bundle = Bundle.load(folder)
    predictor = Predictor(bundle)
    good: list[bytes] = []
    bad: list[bytes] = []
    lines = bundle.read("golden.jsonl").splitlines()
    for line, golden in zip(lines, bundle.golden_rows(), strict=True):
        reaches = math.isnan(predictor.margin(bundle.schema.encode(golden.fields)))
        (bad if reaches else good).append(line)
    edit(folder, "golden.jsonl", b"\n".join(good))
    row: dict[str, Any] = orjson.loads(bad[0])["row"]
    return folder, row


def test_score_that_is_no_number_is_500_and_never_null(
    broken: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, row = broken
    body = orjson.dumps(row)
    requests = [
        post("/predict", body),
        post("/predict", body, "Connection: keep-alive"),
        post("/predict/batch", b'{"rows":[%b]}' % body),
    ]
    with serving(folder, tmp_path) as subject:
        answers = exchange(subject.url, *requests)
        page = exchange(subject.url, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")[0].body.decode()
    assert [answer.status for answer in answers] == [500] * 3
    assert all(b"from the model" in answer.body for answer in answers)
    assert 'hotrow_request_duration_seconds_count{code="500",method="POST",route="/predict"} 2.0' in page
    assert logged(tmp_path / "logs") == []
