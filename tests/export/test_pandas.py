"""pandas frames of LightGBM: which column held which categories, told by evidence, never by counting."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import orjson
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import pytest

from export.errors import ExportRefused
from export.forest.evidence import Evidence
from export.lightgbm.model import convert_lightgbm
from server.model.decoder import row_decoder
from server.model.predictor import Predictor
from tests.support.export_models import export

ROWS = 1200
R = np.random.default_rng(0)


def ordered(*texts: str) -> pd.Categorical:
    return pd.Categorical(R.choice(texts, ROWS), categories=list(texts), ordered=True)


def category(*texts: Any) -> pd.Categorical:
    return pd.Categorical(R.choice(np.array(texts), ROWS))


def rare() -> pd.Categorical:
    return pd.Categorical(["yes"] * 2 + ["no"] * (ROWS - 2))


#: Columns of a frame, the ones declared categorical (None: those of dtype category), and the pairing.
FRAMES: dict[str, tuple[dict[str, Any], list[str] | None]] = {
    "ordered, category and code": (
        {"size": ordered("low", "high"), "risk": category("low", "high"), "branch": R.integers(0, 4, ROWS)},
        ["risk", "branch"],
    ),
    "ordered and code": ({"size": ordered("low", "high"), "branch": R.integers(0, 4, ROWS)}, ["branch"]),
    "category and code": (
        {"branch": R.integers(0, 4, ROWS), "city": category("Bonn", "Kyiv")},
        ["branch", "city"],
    ),
    "constant category and code": (
        {
            "land": pd.Categorical(["FR"] * ROWS),
            "branch": R.integers(0, 4, ROWS),
            "city": category("Bonn", "Kyiv"),
        },
        ["land", "branch", "city"],
    ),
    "ordered and category": (
        {"size": ordered("low", "mid", "high"), "city": category("Bonn", "Kyiv", "Rome")},
        None,
    ),
    "rare, constant and category": (
        {"rare": rare(), "land": pd.Categorical(["FR"] * ROWS), "city": category("Bonn", "Kyiv", "Rome")},
        None,
    ),
    "numbers and booleans as categories": (
        {"post": category(75000, 10115), "vip": category(True, False)},
        None,
    ),
}


def trained(columns: Mapping[str, Any], declared: list[str] | None) -> tuple[pd.DataFrame, lightgbm.Booster]:
    frame = pd.DataFrame({"x": R.normal(size=ROWS), **columns})
    codes = frame.apply(lambda c: c.cat.codes if isinstance(c.dtype, pd.CategoricalDtype) else c)
    outcome = (codes.sum(axis=1) + R.normal(size=ROWS) > codes.sum(axis=1).median()).astype(int)
    data = lightgbm.Dataset(frame, outcome, categorical_feature=declared or "auto")
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
    return frame, lightgbm.train(parameters, data, 12)


@pytest.mark.parametrize("name", FRAMES)
def test_a_row_as_trained_is_answered_as_lightgbm_answers_it(name: str, tmp_path: Path) -> None:
    frame, booster = trained(*FRAMES[name])
    bundle = export(tmp_path, convert_lightgbm(booster.model_to_string()))
    predictor, decode = Predictor(bundle), row_decoder(bundle.schema)
    texts = {f.name for f in bundle.schema.features if f.kind == "category"}
    rows = [
        {k: str(v) if k in texts else v.item() if hasattr(v, "item") else v for k, v in row.items()}
        for row in frame.head(60).to_dict("records")
    ]
    predictions = [predictor.predict(decode(orjson.dumps(row)))[0] for row in rows]
    assert predictions == np.asarray(booster.predict(frame.head(60))).tolist()


def ambiguous() -> tuple[pd.DataFrame, lightgbm.Booster]:
    """Three columns of two values, two lists of two: three pairings, of which any may be meant."""
    columns = {
        "late": R.integers(0, 2, ROWS),
        "city": category("Bonn", "Kyiv"),
        "risk": category("high", "low"),
    }
    return trained(columns, None)


def test_what_the_file_does_not_tell_is_asked_for() -> None:
    _, booster = ambiguous()
    with pytest.raises(ExportRefused, match=r"\[Bonn, Kyiv\] fits late, city, .*--data .*--describe"):
        convert_lightgbm(booster.model_to_string())


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(categories={"city": ("Bonn", "Kyiv"), "risk": ("high", "low")}),
        Evidence(kinds={"late": "flag"}),
        Evidence(values=lambda name: frozenset({"0", "1"}) if name == "late" else None),
    ],
    ids=["categories", "kinds", "data"],
)
def test_schema_or_data_tell_what_the_file_does_not(evidence: Evidence) -> None:
    _, booster = ambiguous()
    conversion = convert_lightgbm(booster.model_to_string(), evidence=evidence)
    assert conversion.categories == {2: ("Bonn", "Kyiv"), 3: ("high", "low")}


def test_evidence_against_every_pairing_is_refused() -> None:
    _, booster = ambiguous()
    with pytest.raises(ExportRefused, match="no column that each of them fits"):
        convert_lightgbm(
            booster.model_to_string(), evidence=Evidence(kinds={"city": "integer", "late": "integer"})
        )
