"""`python -m train.synthetic_tables DIR`: synthetic clients as the three Kaggle files that training reads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from server.cli import CommandParser, run
from train.tables.data import APPLICATIONS, ATM_MEAN, BUREAU, CARDS, COLUMNS, NOT_EMPLOYED_DAYS, OVERDUE_MAX
from train.tables.kaggle import CLIENT
from train.tables.synthetic import Array, Population, draw_population

FIRST_CLIENT = 100_002  # Kaggle's own lowest id
#: Rows a client has in the secondary tables, on average; Kaggle's own figures.
MEAN_BUREAU_CREDITS = 5.6
MEAN_CARD_MONTHS = 36
#: Clients who have a card whose statements never say how much cash was drawn.
SILENT_CARD_SHARE = 0.1


def write_tables(folder: Path, clients: int, seed: int) -> None:
    """Write `application_train.csv`, `bureau.csv` and `credit_card_balance.csv` of `clients` clients.

    Of each file the columns that training reads are written, under Kaggle's
    names and in its units (negative days, 365243 for "not employed"). The same
    seed gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    people = draw_population(clients, seed)
    ids = np.arange(FIRST_CLIENT, FIRST_CLIENT + clients)
    # A stream of its own: the population must not depend on how it is written.
    random = np.random.default_rng([seed, 1])
    _applications(people, ids).write_csv(folder / APPLICATIONS)
    _bureau(random, people[OVERDUE_MAX], ids).write_csv(folder / BUREAU)
    _cards(random, people[ATM_MEAN], ids).write_csv(folder / CARDS)


def _applications(people: Population, ids: Array) -> pl.DataFrame:
    days = np.nan_to_num(np.round(people["DAYS_EMPLOYED_clean"]), nan=NOT_EMPLOYED_DAYS)
    written = {
        **people,
        CLIENT: ids,
        "AMT_INCOME_TOTAL": _rounded(people["AMT_INCOME_TOTAL"], 450.0),
        "AMT_CREDIT": _rounded(people["AMT_CREDIT"], 4.5),
        "AMT_ANNUITY": _rounded(people["AMT_ANNUITY"], 4.5),
        "DAYS_BIRTH": np.round(people["DAYS_BIRTH"]).astype(np.int64),
        "DAYS_EMPLOYED": days.astype(np.int64),
    }
    return pl.DataFrame({name: _series(written[name]) for name in COLUMNS})


def _series(values: Array) -> pl.Series:
    if values.dtype.kind == "f":
        return pl.Series(values).fill_nan(None)
    return pl.Series(values.astype(str) if values.dtype.kind == "O" else values)


def _rounded(amounts: Array, step: float) -> Array:
    """The competition's amounts are multiples of 4.5, incomes mostly of 450."""
    return np.round(amounts / step) * step


def _bureau(random: np.random.Generator, overdue: Array, ids: Array) -> pl.DataFrame:
    """One to many credits for each client the bureau knows; one of them bears the maximum."""
    known = ~np.isnan(overdue)
    credits = 1 + random.negative_binomial(1, 1 / MEAN_BUREAU_CREDITS, known.sum())
    first = np.concatenate([[0], np.cumsum(credits)[:-1]]).astype(np.intp)
    amounts = np.zeros(credits.sum())
    amounts[first] = np.round(overdue[known], 3)
    return pl.DataFrame({CLIENT: np.repeat(ids[known], credits), "AMT_CREDIT_SUM_OVERDUE": amounts})


def _cards(random: np.random.Generator, drawings: Array, ids: Array) -> pl.DataFrame:
    """Monthly statements whose whole numbers of drawings average what was drawn for the client."""
    known = ~np.isnan(drawings)
    mean = drawings[known]
    months = 1 + random.negative_binomial(1, 1 / MEAN_CARD_MONTHS, len(mean))
    # One drawing in all is the least a positive mean can be made of.
    months = np.maximum(months, np.ceil(1 / np.where(mean > 0, mean, 1)).astype(np.int64))
    total = np.round(mean * months).astype(np.int64)
    first = np.cumsum(months) - months
    place = np.repeat(first, total) + (random.random(total.sum()) * np.repeat(months, total)).astype(np.int64)
    counts = np.bincount(place, minlength=months.sum()).astype(np.float64)
    silent = ids[~known][random.random((~known).sum()) < SILENT_CARD_SHARE]
    return pl.DataFrame(
        {
            CLIENT: np.concatenate([np.repeat(ids[known], months), silent]),
            "CNT_DRAWINGS_ATM_CURRENT": _series(np.concatenate([counts, np.full(len(silent), np.nan)])),
        }
    )


def main(arguments: Sequence[str]) -> None:
    """Write the files."""
    parser = CommandParser(prog="python -m train.synthetic_tables", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--clients", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    write_tables(options.folder, options.clients, options.seed)


if __name__ == "__main__":
    run(main)
