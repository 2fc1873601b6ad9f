"""Outcomes of models of values and of classes: equal to scikit-learn's and fairlearn's, and judged."""

import json
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fairlearn.metrics import MetricFrame  # type: ignore[import-untyped]  # it ships no types
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from monitoring.__main__ import main
from monitoring.outcomes import measures
from monitoring.outcomes.joined import Joined
from monitoring.outcomes.multiclass import multiclass_performance
from monitoring.outcomes.regression import regression_performance
from server.model.bundle import Bundle
from tests.support.monitored import GRADES, HOUSES, house_bundle

ROWS, MONTHS = 1200, ("2026-01", "2026-02", "2026-03")
CHANNELS = HOUSES["channel"].categories


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("houses")
    return {task: house_bundle(folder / task, task, trees=2) for task in ("regression", "multiclass")}


def answers(task: str, seed: int = 0, n: int = ROWS) -> tuple[Any, Any]:
    """What a model said of so many rows, and what became of them as it promised."""
    random = np.random.default_rng(seed)
    if task == "regression":
        said = np.round(random.gamma(6, 60, n), 2)
        return said, np.round(said + random.normal(0, 40, n), 2)
    said = random.dirichlet((2, 1, 1), n)
    return said, (random.random((n, 1)) > said.cumsum(axis=1)).sum(axis=1)


def write_log(folder: Path, bundle: Bundle, said: Any) -> Path:
    """A line of each answer, by `row_id`; every tenth in a batch of its own."""
    with open(folder / "predictions-1-0.jsonl", "wb") as log:
        for i, value in enumerate(said.tolist()):
            line = {"ts": f"{MONTHS[i % 3]}-10T08:00:00Z", "id": f"b-{i + 1}", "seq": i + 1}
            line |= {"model": bundle.label, "duration_us": 1.0}
            row = {"area": 50.0, "rooms": i % 8, "channel": CHANNELS[i % 2]}
            answer: dict[str, Any] = {"prediction": value}
            if bundle.task == "multiclass":
                answer = {"prediction": GRADES[int(np.argmax(value))], "probabilities": value}
            if i % 10 == 0:
                many = {"prediction": "predictions", "probabilities": "probabilities"}
                answer = {many[name]: [each] for name, each in answer.items()}
                line |= answer | {"row_ids": [str(i)], "input": {"rows": [row]}}
            else:
                line |= answer | {"row_id": str(i), "input": row}
            log.write(orjson.dumps(line) + b"\n")
    return folder


def write_outcomes(folder: Path, bundle: Bundle, outcome: Any) -> Path:
    words = [GRADES[k] for k in outcome] if bundle.task == "multiclass" else outcome.tolist()
    file = folder / "outcomes.csv"
    file.write_text("row_id,outcome\n" + "".join(f"{i},{word}\n" for i, word in enumerate(words)))
    return file


def told(bundle: Bundle, command: str, *words: str | Path) -> tuple[int, Any]:
    with redirect_stdout(StringIO()) as out:
        code = main([command, *map(str, words), "--model", str(bundle.directory), "--json"])
    return code, json.loads(out.getvalue())


def groups(found: Any) -> dict[str, tuple[Any, Any]]:
    """All, vintages and segments by name: which rows they are, and what is told."""
    place = np.arange(ROWS)
    masks = {"": place >= 0} | {f"{month}-01": place % 3 == k for k, month in enumerate(MONTHS)}
    masks |= {channel: place % 2 == k for k, channel in enumerate(CHANNELS[:2])}
    one = {each["name"]: each for each in [found["whole"], *found["periods"], *found["segments"]]}
    assert set(one) == set(masks)
    return {name: (masks[name], each) for name, each in one.items()}


def test_values_equal_scikit_learns_by_vintage_and_segment(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    bundle, (said, outcome) = bundles["regression"], answers("regression")
    log, page = write_log(tmp_path, bundle, said), tmp_path / "page.html"
    gauges = tmp_path / "outcomes.prom"
    options = ("--outcomes", write_outcomes(tmp_path, bundle, outcome), "--segment", "channel")
    code, found = told(bundle, "performance", log, *options, "--html", page, "--textfile", gauges)
    assert (code, found["expected"], found["accepted"]) == (0, None, None)
    for rows, one in groups(found).values():
        y, p = outcome[rows], said[rows]
        known = {
            "mae": mean_absolute_error(y, p),
            "rmse": root_mean_squared_error(y, p),
            "r2": r2_score(y, p),
            "bias": p.mean() - y.mean(),
        }
        assert {name: one[name]["value"] for name in known} == pytest.approx(known, abs=1e-12, rel=1e-12)
        assert all(one[name]["low"] < one[name]["value"] < one[name]["high"] for name in known)
        assert (sum(each["n"] for each in one["calibration"]), len(one["calibration"])) == (rows.sum(), 10)
    assert page.read_text(encoding="utf-8").count("<svg ") == 2
    for name in ("mae", "rmse", "bias", "r2"):
        assert f"hotrow_outcome_{name}_low" in gauges.read_text()


def test_classes_equal_scikit_learns_by_vintage_and_segment(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    bundle, (said, outcome) = bundles["multiclass"], answers("multiclass")
    log, file = write_log(tmp_path, bundle, said), write_outcomes(tmp_path, bundle, outcome)
    code, found = told(bundle, "performance", log, "--outcomes", file, "--segment", "channel")
    assert (code, found["verdict"]) == (0, "none")
    for rows, one in groups(found).values():
        y, p = outcome[rows], said[rows]
        known = {
            "accuracy": accuracy_score(y, p.argmax(axis=1)),
            "log_loss": log_loss(y, p, labels=range(3)),
            "macro_auc": roc_auc_score(y, p, multi_class="ovr"),
        }
        assert {name: one[name]["value"] for name in known} == pytest.approx(known, abs=1e-12)
        each = {grade: roc_auc_score(y == k, p[:, k]) for k, grade in enumerate(GRADES)}
        assert {name: auc["value"] for name, auc in one["auc"].items()} == pytest.approx(each, abs=1e-12)
        assert one["confusion"] == confusion_matrix(y, p.argmax(axis=1), labels=range(3)).tolist()


def share_of(grade: str, group: Any) -> float:
    return float(group["shares"][grade]["value"])


def share_predicted(k: int, _: Any, predicted: Any) -> float:
    return float((predicted == k).mean())


def test_groups_of_values_and_classes_equal_fairlearns(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    by = np.array([CHANNELS[i % 2] for i in range(ROWS)])
    for task, bundle in bundles.items():
        (tmp_path / task).mkdir()
        said, outcome = answers(task)
        log, file = write_log(tmp_path / task, bundle, said), write_outcomes(tmp_path / task, bundle, outcome)
        options = ("--by", "channel", "--outcomes", file, "--html", tmp_path / "page.html")
        code, found = told(bundle, "fairness", log, *options)
        assert code == 0
        one = {group["name"]: group for group in found["groups"]}
        if task == "regression":
            told_of: dict[str, Callable[[Any], float]] = {
                "mae": lambda group: group["mae"]["value"],
                "mean": lambda group: group["mean"]["value"],
            }
            metrics = {"mae": mean_absolute_error, "mean": lambda _, p: p.mean()}
            predicted = said
        else:
            predicted = said.argmax(axis=1)
            told_of = {"accuracy": lambda group: group["accuracy"]["value"]}
            metrics = {"accuracy": accuracy_score}
            for k, grade in enumerate(GRADES):
                told_of[grade] = partial(share_of, grade)
                metrics[grade] = partial(share_predicted, k)
        frame = MetricFrame(metrics=metrics, y_true=outcome, y_pred=predicted, sensitive_features=by).by_group
        for name, value in told_of.items():
            for group in CHANNELS[:2]:
                assert value(one[group]) == pytest.approx(frame[name][group], abs=1e-12, rel=1e-12)


def joined(said: Any, outcome: Any) -> Joined:
    n = len(outcome)
    nothing = np.full(n, "", dtype=object)
    return Joined(said, np.asarray(outcome, float), np.zeros(n, bool), nothing, nothing, n, 0, 0)


def test_worse_than_promised_is_said_and_chance_is_not(bundles: dict[str, Bundle]) -> None:
    """Against what held-out rows promised; chance calls two of 200 windows of either task worse at most."""
    value, classes = (Bundle.load(one.directory) for one in bundles.values())
    error = 40 * np.sqrt(2 / np.pi)
    value.manifest["evaluation"] = {
        "values": {"rows": 5000, "mean_absolute_error": error, "root_mean_squared_error": 40.0, "bias": 0.0}
    }
    n, alarms = 400, 0
    for seed in range(200):
        every = np.ones(n, bool)
        said, outcome = answers("regression", seed, n)
        alarms += bool(regression_performance(joined(said, outcome), value, "", every).worse)
        said, outcome = answers("multiclass", seed, n)
        alarms += bool(multiclass_performance(joined(said, outcome), classes, "", every).worse)
    assert alarms <= 2
    said, outcome = answers("regression", 1, n)
    worse = regression_performance(joined(said + 20, outcome), value, "", every).worse
    assert "predictions too high, by +" in worse
    wide = outcome + np.random.default_rng(1).normal(0, 60, n)
    assert "mean absolute error" in regression_performance(joined(said, wide), value, "", every).worse
    said, outcome = answers("multiclass", 1, n)
    classes.manifest["evaluation"] = {"classes": {"rows": 5000, "accuracy": 0.6, "log_loss": 0.9}}
    worse = multiclass_performance(
        joined(said, np.random.default_rng(1).permutation(outcome)), classes, "", every
    ).worse
    assert "the probabilities promise" in worse
    assert "in training's held-out rows" in worse
    worse = multiclass_performance(joined(said, np.maximum(outcome, 1)), classes, "", every).worse
    assert "fewer of low than its probabilities promise" in worse


def test_intervals_hold_as_often_as_they_say(bundles: dict[str, Bundle]) -> None:
    """R2 and the classes' mean area, by what 20,000 rows tell; 95 of 100 windows, at chance 88 and more."""
    held = {"r2": 0, "macro": 0}
    said, outcome = answers("regression", 99, 200_000)
    true = {"r2": r2_score(outcome, said)}
    said, outcome = answers("multiclass", 99, 20_000)
    true["macro"] = roc_auc_score(outcome, said, multi_class="ovr")
    for seed in range(100):
        said, outcome = answers("regression", seed, 500)
        every = np.ones(500, bool)
        r2 = regression_performance(joined(said, outcome), bundles["regression"], "", every).r2
        held["r2"] += r2.low <= true["r2"] <= r2.high
        said, outcome = answers("multiclass", seed, 500)
        macro = measures.macro_auc(said, np.arange(3) == outcome[:, None])
        held["macro"] += macro.low <= true["macro"] <= macro.high
    assert min(held.values()) >= 88, held
