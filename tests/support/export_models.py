"""Trained models of every family, small and of realistic size, and what a test asks of their export."""

import os
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import xgboost

from export.assemble import write_conversion
from export.forest.conversion import Conversion
from export.lightgbm.model import convert_lightgbm
from export.xgboost.model import convert_xgboost
from server.model.bundle import PARITY_FILE, Bundle
from server.model.predictor import Predictor
from server.model.schema import Matrix

WIDTH = 12
#: Fewer than a real export draws, so that the suite stays fast; `make certify` asks for 100,000.
ORDINARY_ROWS = int(os.environ.get("CERTIFY_ROWS", "3000"))

Array = npt.NDArray[np.float64]


def rows(count: int = 3000, seed: int = 0, missing: float = 0.1) -> Matrix:
    """Normal values, a tenth missing; 3 and 4 are codes, 5 is zero half of the time, 6 constant."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(count, WIDTH))
    matrix[:, 3] = random.integers(0, 80, count)
    matrix[:, 4] = random.integers(0, 5, count)
    matrix[:, 5] = np.where(random.random(count) < 0.5, 0.0, matrix[:, 5])
    if missing:
        matrix[random.random(matrix.shape) < missing] = np.nan
    matrix[:, 6] = 1.0
    return matrix


def score(matrix: npt.NDArray[np.floating[Any]]) -> Array:
    """What the models learn."""
    x = np.nan_to_num(matrix)
    values: Array = x[:, 0] + 0.5 * x[:, 1] * x[:, 2] + (x[:, 3] % 7 == 2) + 0.3 * x[:, 5]
    return values


def target(matrix: npt.NDArray[np.floating[Any]], kind: str = "binary", seed: int = 1) -> Array:
    """Outcomes with noise: `binary`, `classes` (three), `count` (positive), or `value`."""
    noisy = score(matrix) + np.random.default_rng(seed).normal(size=len(matrix)) * 0.5
    if kind == "binary":
        return (noisy > 0.5).astype(float)
    if kind == "classes":
        return np.digitize(noisy, [0.0, 1.0]).astype(float)
    return np.exp(np.clip(noisy, -3, 3)) if kind == "count" else noisy


def train_lightgbm(parameters: dict[str, Any], kind: str, rounds: int = 100, **data: Any) -> str:
    """The text of a LightGBM model."""
    matrix = data.pop("matrix", None)
    matrix = rows() if matrix is None else matrix
    fixed = {"verbosity": -1, "num_threads": 1, "seed": 1, "min_data_in_leaf": 5}
    dataset = lightgbm.Dataset(matrix, target(matrix, kind), params={"verbosity": -1}, **data)
    text: str = lightgbm.train(fixed | parameters, dataset, rounds).model_to_string()
    return text


def train_xgboost(parameters: dict[str, Any], kind: str, rounds: int = 100, **data: Any) -> xgboost.Booster:
    """An XGBoost model."""
    matrix = rows().astype(np.float32)
    fixed = {"nthread": 1, "seed": 1, "verbosity": 0}
    if parameters.get("booster") != "gblinear":
        fixed["max_depth"] = 5
    return xgboost.train(fixed | parameters, xgboost.DMatrix(matrix, target(matrix, kind), **data), rounds)


def xgboost_conversion(booster: xgboost.Booster, form: str = "json") -> Conversion:
    """The conversion of a booster, saved as `json` or `ubj`."""
    return convert_xgboost(bytes(booster.save_raw(form)))


def lightgbm_bundle(folder: Path, parameters: dict[str, Any], kind: str, *rest: Any, **data: Any) -> Bundle:
    """The bundle of a LightGBM model, with its parity report."""
    return export(folder, convert_lightgbm(train_lightgbm(parameters, kind, *rest, **data)))


def export(folder: Path, conversion: Conversion) -> Bundle:
    """The bundle of a conversion, with the schema the model tells; every golden row is checked."""
    bundle = write_conversion(
        folder / "bundle",
        conversion,
        schema=conversion.schema,
        name="model",
        version="1",
        ordinary_rows=ORDINARY_ROWS,
    )
    Predictor(bundle).check_golden_rows()
    return bundle


def parity_report(bundle: Bundle) -> Any:
    """The content of a bundle's `parity.json`."""
    return bundle.read_json(PARITY_FILE)
