"""Bundles of every task, answered by the real server."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from export.lightgbm.model import convert_lightgbm
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.export_models import export, train_lightgbm, train_xgboost, xgboost_conversion
from tests.support.servers import exchange, post, serving


def regression(folder: Path) -> Bundle:
    return export(folder, convert_lightgbm(train_lightgbm({"objective": "poisson"}, "count", 20)))


def classes(folder: Path) -> Bundle:
    text = train_lightgbm({"objective": "multiclass", "num_class": 3}, "classes", 10)
    return export(folder, convert_lightgbm(text, classes=("low", "middle", "high")))


def narrow(folder: Path) -> Bundle:
    return export(folder, xgboost_conversion(train_xgboost({"objective": "binary:logistic"}, "binary", 20)))


@pytest.mark.parametrize("make", [regression, classes, narrow])
def test_the_answer_is_that_of_the_task_to_the_bit(make: Any, tmp_path: Path) -> None:
    bundle = make(tmp_path)
    predictor = Predictor(bundle)
    golden = list(bundle.golden_rows())[:5]
    with serving(bundle.directory, tmp_path) as server:
        for row in golden:
            (answer,) = exchange(server.url, post("/predict", orjson.dumps(row.fields)))
            assert answer.status == 200
            _check(orjson.loads(answer.body), bundle, predictor, np.array([row.margins]))
        (page,) = exchange(server.url, b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
    counted = [line for line in page.body.decode().split("\n") if "hotrow_predictions_total{" in line]
    assert sum(float(line.split()[-1]) for line in counted) == len(golden)


def _check(answer: Any, bundle: Bundle, predictor: Predictor, margins: Any) -> None:
    (output,) = predictor.outputs(margins if bundle.classes else margins[:, 0])
    assert answer["model"] == "model@1"
    if bundle.task == "regression":
        assert (answer["prediction"], "decision" in answer) == (output, False)
    elif bundle.task == "multiclass":
        assert isinstance(output, list)
        assert answer["probabilities"] == output
        assert answer["prediction"] == bundle.classes[int(np.argmax(output))]
    else:
        assert isinstance(output, float)
        decision = bundle.outcomes[output >= bundle.decision.threshold]
        assert (answer["probability"], answer["decision"]) == (output, decision)
