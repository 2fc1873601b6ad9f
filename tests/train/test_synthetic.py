from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr  # type: ignore[import-untyped]  # SciPy ships no types

from train.synthetic_tables import write_tables
from train.tables.data import APPLICATIONS, ATM_MEAN, BUREAU, CARDS, NOT_EMPLOYED_DAYS, OVERDUE_MAX, load
from train.tables.features import SCHEMA
from train.tables.rows import Rows
from train.tables.synthetic import STATISTICS, Population, draw_population

pytestmark = pytest.mark.whole

CLIENTS = 20_000
#: Three standard errors of a share of one half of the clients.
TOLERANCE = 3 * 0.5 / np.sqrt(CLIENTS)


@pytest.fixture(scope="module")
def people() -> Population:
    return draw_population(CLIENTS, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    write_tables(folder, CLIENTS, seed=3)
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> Rows:
    return load(folder)[0]


@pytest.mark.parametrize(
    "name", [name for name in STATISTICS["application"] if name != "DAYS_EMPLOYED_clean"]
)
def test_numbers_have_the_published_quantiles_and_missing_rate(people: Population, name: str) -> None:
    numbers, values = STATISTICS["application"][name], people[name]
    assert np.isnan(values).mean() == pytest.approx(numbers["missing_rate"], abs=TOLERANCE)
    present = values[~np.isnan(values)]
    for probability in ("0.05", "0.25", "0.5", "0.75", "0.95"):
        share = np.mean(present <= numbers["quantiles"][probability])
        below = np.mean(present < numbers["quantiles"][probability])
        assert below - TOLERANCE <= float(probability) <= share + TOLERANCE
    assert present.min() >= numbers["quantiles"]["0.0"]
    assert present.max() <= numbers["quantiles"]["1.0"]


def test_categories_have_the_published_shares(people: Population) -> None:
    for column, key in (
        ("NAME_EDUCATION_TYPE", "education_shares"),
        ("NAME_INCOME_TYPE", "income_type_shares"),
    ):
        for word, share in STATISTICS[key].items():
            assert np.mean(people[column] == word) == pytest.approx(share, abs=TOLERANCE)
    assert people["FLAG_DOCUMENT_3"].mean() == pytest.approx(STATISTICS["document_3_share"], abs=TOLERANCE)


def test_one_in_twelve_defaults(people: Population) -> None:
    assert people["TARGET"].mean() == pytest.approx(STATISTICS["default_rate"], abs=TOLERANCE / 1.5)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("EXT_SOURCE_1", "DAYS_BIRTH"),
        ("EXT_SOURCE_1", "EXT_SOURCE_2"),
        ("AMT_INCOME_TOTAL", "AMT_CREDIT"),
        ("AMT_CREDIT", "AMT_ANNUITY"),
    ],
)
def test_numbers_are_correlated_as_published(people: Population, first: str, second: str) -> None:
    both = ~np.isnan(people[first]) & ~np.isnan(people[second])
    found = spearmanr(people[first][both], people[second][both]).statistic
    assert found == pytest.approx(STATISTICS["spearman"][first][second], abs=0.03)


def test_employment_goes_with_the_outcome_as_observed(people: Population) -> None:
    employed = ~np.isnan(people["DAYS_EMPLOYED_clean"])
    found = spearmanr(people["DAYS_EMPLOYED_clean"][employed], people["TARGET"][employed]).statistic
    assert found == pytest.approx(0.105, abs=0.02)


def test_nobody_is_employed_and_a_pensioner_or_before_sixteen(people: Population) -> None:
    unemployed = np.isin(people["NAME_INCOME_TYPE"].astype(str), ("Pensioner", "Unemployed"))
    np.testing.assert_array_equal(np.isnan(people["DAYS_EMPLOYED_clean"]), unemployed)
    age = -people["DAYS_BIRTH"] / 365.25
    years = -people["DAYS_EMPLOYED_clean"] / 365.25
    assert np.nanmin(age - years) > 15.99


def test_secondary_features_have_the_published_zeros_and_gaps(rows: Rows) -> None:
    for name, numbers in STATISTICS["secondary"].items():
        values = rows.features[:, SCHEMA.names.index(name)]
        assert np.isnan(values).mean() == pytest.approx(numbers["missing_rate"], abs=TOLERANCE)
        zeros = np.mean(values[~np.isnan(values)] == 0)
        assert zeros == pytest.approx(numbers["zero_share"], abs=3 * TOLERANCE)


def test_files_hold_the_population(folder: Path, rows: Rows, people: Population) -> None:
    np.testing.assert_array_equal(rows.target, people["TARGET"])
    for name, column in (("EXT_SOURCE_1", "EXT_SOURCE_1"), (OVERDUE_MAX, OVERDUE_MAX)):
        np.testing.assert_allclose(rows.features[:, SCHEMA.names.index(name)], people[column], atol=1e-3)
    drawings = rows.features[:, SCHEMA.names.index(ATM_MEAN)]
    # Statements hold whole drawings, so a mean is met as closely as their number allows.
    assert np.nanmean(np.abs(drawings - people[ATM_MEAN])) < 0.03


def test_files_are_in_kaggles_format(folder: Path) -> None:
    applications = pl.read_csv(folder / APPLICATIONS)
    assert applications["SK_ID_CURR"].min() == 100_002
    assert applications["DAYS_BIRTH"].max() < -18 * 365  # type: ignore[operator]  # an integer column
    assert applications["DAYS_EMPLOYED"].max() == NOT_EMPLOYED_DAYS
    assert len(pl.read_csv(folder / BUREAU)) > 3 * CLIENTS
    assert pl.read_csv(folder / CARDS)["CNT_DRAWINGS_ATM_CURRENT"].null_count() > 0


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("second", 1), ("other", 2)):
        write_tables(tmp_path / name, 300, seed)
    for file in (APPLICATIONS, BUREAU, CARDS):
        first, second, other = (
            (tmp_path / name / file).read_bytes() for name in ("first", "second", "other")
        )
        assert first == second
        assert first != other


@pytest.mark.parametrize("clients", [1, 2, 10])
def test_a_handful_of_clients_can_be_drawn(clients: int, tmp_path: Path) -> None:
    write_tables(tmp_path, clients, seed=0)
    assert len(pl.read_csv(tmp_path / APPLICATIONS)) == clients
