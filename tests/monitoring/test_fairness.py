"""Decisions by group, equal to fairlearn's, and judged beyond chance alone."""

import json
import re
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fairlearn.metrics import (  # type: ignore[import-untyped]  # it ships no types
    MetricFrame,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)

from monitoring.__main__ import main
from monitoring.errors import LogError
from monitoring.outcomes.fairness import groups_of
from monitoring.outcomes.groups import group_name
from monitoring.outcomes.terminal import fairness_notes
from server.model.bundle import Bundle
from tests.support.monitored import monitored_bundle

CONTRACTS = ("none", "temporary", "permanent")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("fairness") / "three")


@pytest.fixture(scope="module")
def table(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a log and outcomes, and the columns that they were made of."""
    folder = tmp_path_factory.mktemp("log")
    random = np.random.default_rng(3)
    n = 2400
    columns: dict[str, Any] = {
        "group": random.choice(CONTRACTS, n, p=[0.55, 0.4, 0.05]),
        "age": random.integers(18, 80, n),
        "score": np.round(random.beta(2, 3, n), 3),
    }
    columns["score"] = np.where(
        columns["group"] == "temporary", np.round(columns["score"] * 0.5, 4), columns["score"]
    )
    columns["outcome"] = (random.random(n) < columns["score"]).astype(int)
    with open(folder / "predictions-1-0.jsonl", "wb") as log:
        for i in range(n):
            row = {
                "contract": str(columns["group"][i]),
                "income": int(columns["age"][i]),
                "gender": "fm"[i % 2],
            }
            word = "grant" if columns["score"][i] < 0.4 else "decline"
            line = {"ts": "2026-03-01T08:00:00Z", "id": f"b-{i + 1}", "seq": i + 1, "model": bundle.label}
            line |= {"probability": float(columns["score"][i]), "decision": word, "input": row}
            log.write(orjson.dumps(line) + b"\n")
    rows = "".join(f"b-{i + 1},{columns['outcome'][i]}\n" for i in range(n))
    (folder / "outcomes.csv").write_text("id,outcome\n" + rows)
    return folder, columns


def told(bundle: Bundle, folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    command = ["fairness", str(folder), "--model", str(bundle.directory), "--json", *arguments]
    with redirect_stdout(StringIO()) as out:
        code = main(command)
    return code, {group["name"]: group for group in json.loads(out.getvalue())["groups"]}


def test_groups_equal_fairlearns(bundle: Bundle, table: tuple[Path, dict[str, Any]]) -> None:
    folder, columns = table
    accepted = columns["score"] < 0.4
    ages = np.array([group_name(str(age), (25, 40)) for age in columns["age"]])
    asked = {"contract": (columns["group"], ()), "income": (ages, ("--cuts", "25,40"))}
    asked["gender"] = (np.array(["fm"[i % 2] for i in range(len(accepted))]), ())
    metrics = {"selection": selection_rate, "opportunity": true_positive_rate, "false": false_positive_rate}
    for by, (groups, cuts) in asked.items():
        frame = MetricFrame(
            metrics=metrics, y_true=1 - columns["outcome"], y_pred=accepted, sensitive_features=groups
        ).by_group
        _, found = told(bundle, folder, "--by", by, *cuts, "--outcomes", str(folder / "outcomes.csv"))
        assert set(found) == set(groups)
        for name, group in found.items():
            assert group["n"] == group["outcomes"] == np.sum(groups == name)
            assert group["selection"]["value"] == pytest.approx(frame["selection"][name], abs=1e-12)
            assert group["opportunity"] == pytest.approx(frame["opportunity"][name], abs=1e-12)
            assert group["false_acceptance"] == pytest.approx(frame["false"][name], abs=1e-12)
            assert group["rate"] == pytest.approx(columns["outcome"][groups == name].mean(), abs=1e-12)


def test_adverse_group_is_named_and_a_small_one_is_not_judged(
    bundle: Bundle, table: tuple[Path, dict[str, Any]]
) -> None:
    code, found = told(bundle, table[0], "--by", "contract")
    assert (code, [name for name, group in found.items() if group["adverse"]]) == (3, ["none"])
    assert found["none"]["ratio"]["high"] < 0.8
    assert not found["permanent"]["judged"]
    assert told(bundle, table[0], "--by", "gender")[0] == 0
    with pytest.raises(LogError, match="age_of_dog"):
        told(bundle, table[0], "--by", "age_of_dog")
    with pytest.raises(LogError, match="--cuts"):
        told(bundle, table[0], "--by", "income")


def test_page_names_the_adverse_group_and_is_whole_by_itself(
    bundle: Bundle, table: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    page = tmp_path / "fairness.html"
    told(bundle, table[0], "--by", "contract", "--html", str(page))
    text = page.read_text(encoding="utf-8")
    assert "<li>Adverse impact: none, ratio 0." in text
    assert (text.count("<tr>"), text.count("<svg ")) == (1 + len(CONTRACTS), 1)
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)|<script|@import', text)


def test_figures_of_the_accepted_alone_are_said_to_tell_nothing_of_the_refused() -> None:
    group = groups_of({"a": (400, 300)})[0]
    told_of = replace(group, outcomes=300, opportunity=1.0, false_acceptance=1.0)
    assert [len(list(fairness_notes([one]))) for one in (group, told_of)] == [1, 2]


def test_chance_alone_is_called_adverse_once_in_a_thousand_windows_at_most() -> None:
    """Three groups, one of them at four fifths exactly, where chance has the most room."""
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(1000):
        counts = {
            name: (n, int(random.binomial(n, p)))
            for name, n, p in (("a", 400, 0.5), ("b", 300, 0.4), ("c", 250, 0.5))
        }
        alarms += any(group.adverse for group in groups_of(counts))
    assert alarms <= 1


def test_group_without_one_accepted_is_adverse_and_nobody_accepted_is_no_verdict() -> None:
    none, some = groups_of({"a": (400, 0), "b": (400, 300)})
    assert (none.adverse, none.ratio.value, some.adverse) == (True, 0.0, False)
    assert not any(group.adverse for group in groups_of({"a": (400, 0), "b": (400, 0)}))
