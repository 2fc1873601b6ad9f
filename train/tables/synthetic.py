"""A population of invented clients with the distributions of the real ones.

A Gaussian copula: categories are drawn from their joint table, the other
features from a normal distribution around them whose correlations are the
published ones, and each is then given its published quantiles. The outcome
follows a logistic link fitted to real clients. All figures are aggregates and
stand in `synthetic_statistics.json`; no client can be read off them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq  # type: ignore[import-untyped]  # SciPy ships no types
from scipy.special import expit, logit  # type: ignore[import-untyped]  # as above
from scipy.stats import norm, rankdata  # type: ignore[import-untyped]  # as above

from train.tables.data import ATM_MEAN, OVERDUE_MAX

Array: TypeAlias = npt.NDArray[Any]
#: Column name -> one value a client; NaN (numbers) or "" (words) is missing.
Population: TypeAlias = dict[str, Array]

STATISTICS: dict[str, Any] = json.loads(Path(__file__).with_name("synthetic_statistics.json").read_bytes())

_EMPLOYED = "DAYS_EMPLOYED_clean"
_INDICATORS = ("gender_M", "edu_Higher", "edu_Secondary", "inc_Working", "inc_Pensioner")
#: The correlation of a standard normal with its own rank, sqrt(3 / pi): Spearman
#: figures between a 0/1 column and a number are smaller by it.
_RANK_ATTENUATION = np.sqrt(3 / np.pi)
_NOT_EMPLOYED = ("Pensioner", "Unemployed")
_FIRST_JOB_YEARS = 16
_DAYS_PER_YEAR = 365.25


def draw_population(count: int, seed: int) -> Population:
    """`count` clients; the same seed gives the same clients.

    Columns are Kaggle's, with the two secondary features per client beside them
    and `TARGET` (int64, 0 or 1).
    """
    random = np.random.default_rng(seed)
    people = _draw_categories(random, count)
    latent = _draw_latent(random, _indicators(people))
    for name, numbers in STATISTICS["application"].items():
        people[name] = _with_quantiles(latent[name], numbers)
    people["FLAG_DOCUMENT_3"] = (norm.sf(latent["doc3"]) < STATISTICS["document_3_share"]).astype(np.int64)
    _settle_employment(people, latent)
    for name, numbers in STATISTICS["application"].items():
        if name != _EMPLOYED:
            people[name][random.random(count) < numbers["missing_rate"]] = np.nan
    for name, numbers in STATISTICS["secondary"].items():
        people[name] = _draw_secondary(random, count, numbers)
    people["TARGET"] = (random.random(count) < _default_probability(people, latent)).astype(np.int64)
    return people


def _draw_categories(random: np.random.Generator, count: int) -> Population:
    """Gender, education and income type from their joint table."""
    table = STATISTICS["gender_education_income_shares"]
    cells = np.array([cell.split("|") for cell in table])
    drawn = cells[random.choice(len(cells), count, p=_shares(table))]
    return {
        "CODE_GENDER": drawn[:, 0],
        "NAME_EDUCATION_TYPE": _resolve(random, drawn[:, 1], STATISTICS["education_shares"]),
        "NAME_INCOME_TYPE": _resolve(random, drawn[:, 2], STATISTICS["income_type_shares"]),
    }


def _resolve(random: np.random.Generator, words: Array, shares: Mapping[str, float]) -> Array:
    """`words` with "Other" replaced by one of the categories that the table left out."""
    rare = {name: share for name, share in shares.items() if name not in words}
    other = words == "Other"
    resolved = words.astype(object)
    if rare and other.any():
        resolved[other] = random.choice(list(rare), int(other.sum()), p=_shares(rare))
    return resolved


def _shares(table: Mapping[str, float]) -> Array:
    """Shares that add up to one, which rounded figures do not."""
    shares = np.array(list(table.values()))
    return np.asarray(shares / shares.sum())


def _indicators(people: Population) -> Array:
    """0/1 columns of the categories that the correlations speak of, float64 [n, 5]."""
    education, income = people["NAME_EDUCATION_TYPE"], people["NAME_INCOME_TYPE"]
    columns = (
        people["CODE_GENDER"] == "M",
        education == "Higher education",
        education == "Secondary / secondary special",
        income == "Working",
        income == "Pensioner",
    )
    return np.column_stack(columns).astype(np.float64)


def _draw_latent(random: np.random.Generator, indicators: Array) -> Population:
    """Standard normal columns with the published correlations, given the indicators.

    The mean and covariance of a normal vector given a part of it.
    """
    names = [*STATISTICS["application"], "doc3"]
    inner = np.array([[_correlation(a, b) for b in names] for a in names])
    across = np.array([[_correlation(a, b) for b in _INDICATORS] for a in names])
    given = np.array([[_correlation(a, b) for b in _INDICATORS] for a in _INDICATORS])
    weights = across @ np.linalg.inv(given)
    spread = _root(inner - weights @ across.T)
    standard = (indicators - indicators.mean(0)) / np.maximum(indicators.std(0), 1e-9)
    latent = standard @ weights.T + random.standard_normal((len(indicators), len(names))) @ spread.T
    return dict(zip(names, latent.T, strict=True))


def _correlation(a: str, b: str) -> float:
    """Of the latent normals behind two columns, from Spearman's figure of the columns."""
    if a == b:
        return 1.0
    table = STATISTICS["spearman"]
    figure = table.get(a, {}).get(b) or table.get(b, {}).get(a) or 0.0
    binary = [name for name in (a, b) if name in _INDICATORS]
    if "doc3" in (a, b):
        share = STATISTICS["document_3_share"]
        # Biserial from point-biserial: document 3 is a latent normal, cut.
        return float(figure * np.sqrt(share * (1 - share)) / norm.pdf(norm.ppf(share)))
    if len(binary) == 2:
        return float(figure)
    return float(figure / _RANK_ATTENUATION if binary else 2 * np.sin(np.pi * figure / 6))


def _root(covariance: Array) -> Array:
    """A matrix R with R R' = covariance; rounding errors below zero are cut off."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _with_quantiles(latent: Array, numbers: Mapping[str, Any]) -> Array:
    """The latent column in the same order, with the published quantiles."""
    return _quantile(numbers, (rankdata(latent) - 0.5) / len(latent))


def _quantile(numbers: Mapping[str, Any], probability: Array) -> Array:
    """Interpolated over log-odds: straight lines there are exponential tails here.

    A straight line from the 99th percentile to the maximum would make one client
    in a hundred a millionaire. The extremes stand at one in n, as they were found.
    """
    edge = 1 / numbers["n"]
    knots = np.clip([float(p) for p in numbers["quantiles"]], edge, 1 - edge)
    return np.asarray(np.interp(logit(probability), logit(knots), list(numbers["quantiles"].values())))


def _settle_employment(people: Population, latent: Population) -> None:
    """Nobody without work has a job, and nobody started one as a child."""
    employed = ~np.isin(people["NAME_INCOME_TYPE"].astype(str), _NOT_EMPLOYED)
    days = np.full(len(employed), np.nan)
    days[employed] = _with_quantiles(latent[_EMPLOYED][employed], STATISTICS["application"][_EMPLOYED])
    longest = -people["DAYS_BIRTH"] - _FIRST_JOB_YEARS * _DAYS_PER_YEAR
    people[_EMPLOYED] = np.maximum(days, -longest)


def _draw_secondary(random: np.random.Generator, count: int, numbers: Mapping[str, Any]) -> Array:
    """A feature of a secondary table: missing, or zero, or from its quantiles."""
    values = _quantile(numbers, random.random(count))
    values[random.random(count) < numbers["zero_share"]] = 0.0
    values[random.random(count) < numbers["missing_rate"]] = np.nan
    return values


def _default_probability(people: Population, latent: Population) -> Array:
    """The logistic link, its intercept set so that the published share defaults."""
    link = STATISTICS["logit_link"]
    education = people["NAME_EDUCATION_TYPE"]
    score = link["edu_Higher"] * (education == "Higher education")
    score += link["edu_Secondary"] * (education == "Secondary / secondary special")
    score += link["inc_Working"] * (people["NAME_INCOME_TYPE"] == "Working")
    score += link["gender_M"] * (people["CODE_GENDER"] == "M")
    score += link["FLAG_DOCUMENT_3"] * people["FLAG_DOCUMENT_3"]
    score += link["days_employed_latent"] * latent[_EMPLOYED] * ~np.isnan(people[_EMPLOYED])
    for name in ("EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3"):
        missing = np.isnan(people[name])
        median = STATISTICS["application"][name]["quantiles"]["0.5"]
        score += link[name] * np.where(missing, median, people[name]) + link[f"{name}_missing"] * missing
    atm, overdue = people[ATM_MEAN], people[OVERDUE_MAX]
    score += link["ATM_mean(0 if missing)"] * np.nan_to_num(atm) + link["ATM_present"] * ~np.isnan(atm)
    score += link["overdue_positive"] * (np.nan_to_num(overdue) > 0) + link["bureau_missing"] * np.isnan(
        overdue
    )
    rate = STATISTICS["default_rate"]
    return np.asarray(expit(score + brentq(lambda b: expit(score + b).mean() - rate, -20, 20)))
