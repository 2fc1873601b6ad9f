"""From a model's output to an outcome: one rule, one status, whichever way a row comes."""

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.batch.job import BatchJob
from server.errors import BatchRefused, ModelFailure
from server.model.bundle import Bundle
from server.model.outcome import outcomes_of, predict_row
from server.model.predictor import Predictor
from tests.support.bundles import ROW, THREE_FEATURES, sample_rows, tell_again
from tests.support.monitored import logged
from tests.support.servers import exchange, post, serving
from ui.cases.suppose import suppose

OUTPUTS = st.one_of(
    st.floats(), st.floats(0, 1), st.sampled_from([0.0, -0.0, 1.0, 0.3, math.nextafter(1, 2), -5e-324])
)


@pytest.mark.parametrize("task", ["binary", "regression", "ranking"])
@given(outputs=st.lists(OUTPUTS, min_size=1, max_size=5), threshold=st.floats(0, 1))
def test_many_rows_have_the_outcomes_of_each(task: str, outputs: list[float], threshold: float) -> None:
    predict = predict_row(task, threshold, lambda row: outputs[row[0]], float)
    _same(
        lambda: [predict(bytes([i]))[1] for i in range(len(outputs))],
        lambda: outcomes_of(task, threshold, np.array(outputs)).tolist(),
    )


@given(st.lists(st.lists(OUTPUTS, min_size=3, max_size=3), min_size=1, max_size=4))
@example([[0.5, 0.5, 0.0]])
@example([[0.2, math.nan, 0.1]])
def test_many_rows_have_the_likeliest_class_of_each(outputs: list[list[float]]) -> None:
    predict = predict_row("multiclass", 0.5, lambda row: outputs[row[0]], list)
    _same(
        lambda: [predict(bytes([i]))[1] for i in range(len(outputs))],
        lambda: outcomes_of("multiclass", 0.5, np.array(outputs)).tolist(),
    )


def _same(one: Callable[[], Any], many: Callable[[], Any]) -> None:
    try:
        expected = one()
    except ModelFailure as failure:
        with pytest.raises(ModelFailure) as refused:
            many()
        # The same words; of many the row is named, too.
        head, _, tail = failure.detail.partition(": ")
        assert refused.value.detail.startswith(head)
        assert refused.value.detail.endswith(tail) or not tail
    else:
        assert many() == expected


def _with_link(source: Path, folder: Path, **manifest: Any) -> Path:
    """A bundle whose margins are taken for probabilities: a link that somebody edited."""
    shutil.copytree(source, folder)
    described = orjson.loads((folder / "bundle.json").read_bytes())
    (folder / "bundle.json").write_bytes(orjson.dumps(described | manifest))
    tell_again(folder)
    return folder


@pytest.fixture(scope="module")
def raw(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three-feature bundle, answering raw scores as if they were probabilities."""
    folder = tmp_path_factory.mktemp("raw") / "three"
    return _with_link(three, folder, link={"name": "identity"}, name="raw")


@pytest.fixture(scope="module")
def urls(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Servers of it, with the fast path and without."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(raw, tmp_path_factory.mktemp("raw"), fast_path=fast)).url
            for fast in ("on", "off")
        ]


def _margin(folder: Path, row: dict[str, Any]) -> float:
    return Predictor(Bundle.load(folder)).margin(THREE_FEATURES.encode(row))


def _out_of_range(folder: Path) -> dict[str, Any]:
    rows = sample_rows(THREE_FEATURES, 200)
    return next(row for row in rows if _margin(folder, row) < 0.0)


def test_every_route_refuses_a_probability_below_zero(urls: list[str], raw: Path) -> None:
    row = _out_of_range(raw)
    bad = orjson.dumps(row)
    many = orjson.dumps({"rows": [row] * 40})
    tensor = np.frombuffer(THREE_FEATURES.encode(row)).tolist()
    head = {"name": "features", "shape": [1, 3], "datatype": "FP64", "data": tensor}
    infer = orjson.dumps({"inputs": [head]})
    requests = [
        post("/predict", bad),
        post("/predict?a=b", bad),
        post("/predict/batch", orjson.dumps({"rows": [row]})),
        post("/predict/batch", many),
        post("/predict/batch", bad, "Accept: text/csv", content_type="application/x-ndjson"),
        post("/explain", bad),
        post("/v2/models/raw/infer", infer),
    ]
    for url in urls:
        answers = exchange(url, *requests)
        assert [answer.status for answer in answers] == [500] * len(requests)
        assert all(b"expected a probability between 0 and 1" in answer.body for answer in answers)


def test_file_and_page_refuse_it_too(raw: Path, tmp_path: Path) -> None:
    row = _out_of_range(raw)
    (tmp_path / "in.jsonl").write_bytes(orjson.dumps(row))
    job = BatchJob(tmp_path / "in.jsonl", tmp_path / "out.jsonl", Bundle.load(raw), "fail", 1)
    with pytest.raises(BatchRefused, match="expected a probability between 0 and 1 from the model, got -"):
        job.run(lambda *_: None)
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(ModelFailure, match="between 0 and 1"):
        suppose(Predictor(Bundle.load(raw)), THREE_FEATURES.encode(row))


def test_a_refused_outcome_is_not_logged(raw: Path, tmp_path: Path) -> None:
    bad = orjson.dumps(_out_of_range(raw))
    with serving(raw, tmp_path) as subject:
        exchange(subject.url, post("/predict", bad), post("/predict/batch", b'{"rows":[%b]}' % bad))
    assert logged(tmp_path / "logs") == []


def test_bad_row_of_a_file_needs_no_outcome(three: Path, tmp_path: Path) -> None:
    """The place of a row that is left out holds no answer that could be refused."""
    (tmp_path / "in.jsonl").write_bytes(orjson.dumps(ROW) + b'\n{"income":null}\n')
    job = BatchJob(tmp_path / "in.jsonl", tmp_path / "out.jsonl", Bundle.load(three), "null", 1)
    job.run(lambda *_: None)
    good, bad = map(orjson.loads, (tmp_path / "out.jsonl").read_bytes().splitlines())
    assert good["decision"] in ("grant", "decline")
    assert (bad["probability"], bad["decision"]) == (None, None)
