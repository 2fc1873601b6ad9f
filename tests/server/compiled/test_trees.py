"""Compiled trees: the bits of ONNX Runtime, or ONNX Runtime itself with a sentence."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
import pytest
from sklearn.ensemble import RandomForestRegressor

from export.lightgbm.model import convert_lightgbm
from export.sklearn.model import convert_sklearn
from server.batch.job import BatchJob
from server.compiled import code as forest_code
from server.compiled import graph as graph_forest
from server.compiled import trees as module
from server.compiled.backend import open_backend
from server.compiled.forest import NotCompilable
from server.compiled.graph import read_forest
from server.compiled.trees import compiled, is_kept, parity_rows
from server.model.bundle import GRAPH_FILE, Bundle
from server.model.link import Margins
from server.model.predictor import Predictor
from server.model.schema import Matrix
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.export_models import (
    export,
    rows,
    target,
    train_lightgbm,
    train_xgboost,
    xgboost_conversion,
)
from tests.support.servers import eventually, exchange, post, serving


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hotrow"


def categories(folder: Path) -> Bundle:
    text = train_lightgbm({"objective": "binary"}, "binary", 10, categorical_feature=[3, 4])
    return export(folder, convert_lightgbm(text))


def zero_is_missing(folder: Path) -> Bundle:
    text = train_lightgbm({"objective": "regression", "zero_as_missing": True}, "value", 10)
    return export(folder, convert_lightgbm(text))


def classes(folder: Path) -> Bundle:
    text = train_lightgbm({"objective": "multiclass", "num_class": 3}, "classes", 5)
    return export(folder, convert_lightgbm(text, classes=("low", "middle", "high")))


def float32(folder: Path) -> Bundle:
    return export(folder, xgboost_conversion(train_xgboost({"objective": "binary:logistic"}, "binary", 10)))


def forest(folder: Path) -> Bundle:
    matrix = rows(missing=0.0)
    made = RandomForestRegressor(10, max_depth=5, random_state=0).fit(matrix, target(matrix, "value"))
    return export(folder, convert_sklearn(made, "source.skops", b"estimator"))


@pytest.mark.parametrize("make", [categories, zero_is_missing, classes, float32, forest])
def test_every_family_is_compiled_with_equal_bits(
    make: Callable[[Path], Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small trees, all of whose splits are compared; then as if they were large ones, which are walked."""
    bundle = make(tmp_path)
    predictor = Predictor(bundle)
    matrix = parity_rows(read_forest(bundle.read(GRAPH_FILE)), 5003)
    _compare(compiled(bundle, predictor).margins, predictor, matrix)
    monkeypatch.setattr(module, "MAX_SPLITS", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "walked"))
    if make is categories:
        with pytest.raises(NotCompilable, match="a large tree asks for categories"):
            compiled(bundle, predictor)
        return
    walked = compiled(bundle, predictor)
    assert "compiled in" in walked.note
    _compare(walked.margins, predictor, matrix)
    kept = compiled(bundle, predictor)
    assert kept.note == "scored by compiled trees"
    _compare(kept.margins, predictor, matrix)


def _compare(margins: Callable[[Matrix], Margins], predictor: Predictor, matrix: Matrix) -> None:
    assert margins(matrix).tobytes() == np.ascontiguousarray(predictor.margins(matrix)).tobytes()
    for count in (0, 1, 7, 8, 9):
        assert margins(matrix[:count]).tolist() == predictor.margins(matrix[:count]).tolist()


def test_code_is_kept_and_used_again_unless_it_is_damaged(three: Path, cache: Path) -> None:
    bundle = Bundle.load(three)
    predictor = Predictor(bundle)
    assert not is_kept(bundle)
    assert "compiled in" in compiled(bundle, predictor).note
    (kept,) = cache.glob("*.o")
    assert is_kept(bundle)
    assert (kept.stat().st_mode & 0o777, cache.stat().st_mode & 0o777) == (0o600, 0o700)
    assert compiled(bundle, predictor).note == "scored by compiled trees"
    kept.write_bytes(kept.read_bytes()[:-1])
    assert "compiled in" in compiled(bundle, predictor).note
    kept.chmod(0o622)  # as if somebody else could have written it
    assert "compiled in" in compiled(bundle, predictor).note


def test_code_is_not_of_use_with_another_version_of_what_it_was_compared_with(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.load(three)
    compiled(bundle, Predictor(bundle))
    assert is_kept(bundle)
    monkeypatch.setattr(onnxruntime, "__version__", "1.0")
    assert not is_kept(bundle)


def test_margin_that_differs_by_a_bit_is_not_used(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.load(three)

    class Wrong(forest_code.Code):
        def _splat(self, value: float) -> str:
            return super()._splat(float(np.nextafter(value, 2 * value)) if value > 0 else value)

    monkeypatch.setattr(module, "Code", Wrong)
    with pytest.raises(NotCompilable, match="not equal to the bit"):
        compiled(bundle, Predictor(bundle))


def test_what_is_not_compiled_is_scored_by_onnx_runtime_and_says_why(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.load(three)
    predictor = Predictor(bundle)
    matrix = np.array([np.frombuffer(THREE_FEATURES.encode(row)) for row in sample_rows(THREE_FEATURES, 20)])
    same = predictor.margins(matrix).tolist()
    monkeypatch.setattr(graph_forest, "LESS_OR_EQUAL", 1)
    unfit = open_backend("compiled", bundle, predictor, None)
    assert "this model is not compiled, it compares in mode 0" in unfit.note
    monkeypatch.setitem(sys.modules, "server.compiled.trees", None)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    absent = open_backend("compiled", bundle, predictor, None)
    assert "could be compiled" in absent.note
    assert unfit.margins(matrix).tolist() == absent.margins(matrix).tolist() == same
    assert open_backend("auto", bundle, predictor, 100).note == ""


@pytest.mark.whole
def test_server_scores_many_rows_by_compiled_trees_with_equal_bits(
    three: Path, tmp_path: Path, cache: Path
) -> None:
    """Until they are compiled ONNX Runtime scores; the first of two servers leaves its code to the second."""
    body = orjson.dumps({"rows": sample_rows(THREE_FEATURES, 500)})
    predictor = Predictor(Bundle.load(three))
    rows = np.array([np.frombuffer(THREE_FEATURES.encode(r)) for r in sample_rows(THREE_FEATURES, 500)])
    expected = predictor.outputs(predictor.margins(rows))
    for said in ("compiled in", "by compiled trees."):
        with serving(three, tmp_path, batch_backend="compiled") as subject:
            assert _scored(subject.url, body) == expected
            eventually(lambda: said in (tmp_path / "server.log").read_text())  # noqa: B023
            assert _scored(subject.url, body) == expected
    assert list(cache.iterdir())


def _scored(url: str, body: bytes) -> list[float]:
    (response,) = exchange(url, post("/predict/batch", body))
    found: list[float] = orjson.loads(response.body)["probabilities"]
    return found


def test_file_is_the_same_whichever_backend_scores_it(three: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    with source.open("w", newline="") as file:
        writer = csv.DictWriter(file, THREE_FEATURES.names, restval="")
        writer.writeheader()
        writer.writerows(sample_rows(THREE_FEATURES, 1000))
    bundle = Bundle.load(three)
    for name in ("onnx", "compiled"):
        job = BatchJob(source, tmp_path / f"{name}.csv", bundle, "fail", 2, None, name)
        job.run(lambda *_: None)
        assert any("compiled" in note for note in job.notes) == (name == "compiled")
    assert (tmp_path / "onnx.csv").read_bytes() == (tmp_path / "compiled.csv").read_bytes()
