"""The Kaggle tables of Home Credit -> rows of the model's features.

Three files are read, and of them only the columns the model needs:
`application_train.csv` (one row a client), `bureau.csv` (credits at other
lenders) and `credit_card_balance.csv` (statements of earlier cards). A client
without rows in a secondary table is missing that feature: missing stays missing.

`application_train_sample.parquet`, if it lies beside them, adds clients whose
secondary tables were never looked up. They are trained on and never scored:
for them missing means "not looked up", for the others "has none".
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from server.errors import UnacceptableRow
from train.errors import DataError
from train.tables.features import GENDER, INPUTS, SCHEMA
from train.tables.kaggle import CLIENT, KaggleTable, read_table
from train.tables.rows import Rows

APPLICATIONS = "application_train.csv"
BUREAU = "bureau.csv"
CARDS = "credit_card_balance.csv"
SAMPLE = "application_train_sample.parquet"

TARGET = "TARGET"
_OUTCOMES = "0 or 1"
#: Kaggle's mark for "not employed" in DAYS_EMPLOYED: all pensioners and unemployed.
NOT_EMPLOYED_DAYS = 365_243
DAYS_PER_YEAR = 365.25

ATM_MEAN = "CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean"
OVERDUE_MAX = "BUREAU_AMT_CREDIT_SUM_OVERDUE_max"
_NUMBERS = ["EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3", "FLAG_DOCUMENT_3"]
_NUMBERS += ["AMT_INCOME_TOTAL", "AMT_CREDIT", "AMT_ANNUITY"]
_WATCHED = "CODE_GENDER"
_WORDS = ["NAME_EDUCATION_TYPE", "NAME_INCOME_TYPE", _WATCHED]
#: The two other tables: file, column and the feature made of it.
_SECONDARY = (
    (BUREAU, "AMT_CREDIT_SUM_OVERDUE", OVERDUE_MAX),
    (CARDS, "CNT_DRAWINGS_ATM_CURRENT", ATM_MEAN),
)
#: Features in years, and the columns that count them in days.
_DAYS = {"AGE_YEARS": "DAYS_BIRTH", "YEARS_EMPLOYED": "DAYS_EMPLOYED"}
COLUMNS = [CLIENT, TARGET, *_NUMBERS, *_WORDS, *_DAYS.values()]


@dataclass(frozen=True)
class TableSource:
    """A file that was read: its name, the SHA-256 of its bytes, its rows, and how many clients they are of.

    `clients` counts those of the application table alone, `other_clients` whom it does not have: many, and
    it may have been cut short. `empty_rows` without any value were left out.
    """

    file: str
    sha256: str
    rows: int
    clients: int
    other_clients: int
    empty_rows: int


def load(source: Path) -> tuple[Rows, list[TableSource]]:
    """Every client of the Kaggle files in a folder or archive, and the files they came from.

    Raises `DataError` in one sentence: what was expected, what came, where, and
    what to do.
    """
    applications = read_table(source, APPLICATIONS, COLUMNS)
    clients = _clients(applications)
    sources = [_source(applications, len(clients))]
    for file, column, feature in _SECONDARY:
        per_client, read = _per_client(source, file, column, feature, clients[CLIENT])
        clients = clients.join(per_client, on=CLIENT, how="left")
        sources.append(read)
    clients = clients.with_columns(complete=pl.lit(True))
    if (source / SAMPLE).is_file():
        sample = read_table(source, SAMPLE, COLUMNS)
        others = _others(sample, clients)
        clients = pl.concat([clients, others], how="diagonal")
        sources.append(_source(sample, len(others)))
    return _encode(clients.sort(CLIENT), " and ".join(s.file for s in (sources[0], *sources[3:]))), sources


def _source(table: KaggleTable, clients: int, others: int = 0) -> TableSource:
    return TableSource(table.file, table.sha256, len(table.frame), clients, others, table.empty)


def _others(sample: KaggleTable, clients: pl.DataFrame) -> pl.DataFrame:
    """The sample repeats clients of the main table: each is taken once, complete."""
    people = _clients(sample)
    both = people.join(clients, on=CLIENT, suffix="_main").filter(pl.col(TARGET) != pl.col(f"{TARGET}_main"))
    if len(both):
        raise DataError(
            f"expected the same {TARGET} in {sample.file} as in {APPLICATIONS}, got another for "
            f"{len(both):,} clients, first {both[CLIENT][0]}: remove the sample or correct it"
        )
    return people.join(clients.select(CLIENT), on=CLIENT, how="anti").with_columns(complete=pl.lit(False))


def _clients(table: KaggleTable) -> pl.DataFrame:
    """One row a client: id, target and the features of the application table."""
    keys = table.keys()
    if len(repeated := keys.filter(keys.is_duplicated())):
        text = str(table.frame[CLIENT].filter(keys == repeated[0])[0])
        rounded = f", written {text!r}: a spreadsheet rounded them, take the file from before that"
        raise DataError(
            f"expected every {CLIENT} once in {table.file}, got {repeated[0]} "
            f"{(keys == repeated[0]).sum()} times"
            f"{rounded if 'e' in text.lower() else ': remove the repeated rows'}"
        )
    target = table.numbers(TARGET, _OUTCOMES)
    table.refuse(TARGET, ~target.is_in([0.0, 1.0]).fill_null(False), _OUTCOMES)
    watched = table.words(_WATCHED)
    table.refuse(_WATCHED, ~watched.is_in(list(GENDER)).fill_null(True), " or ".join(map(repr, GENDER)))
    days = table.numbers("DAYS_EMPLOYED")
    employed = days.set(days == NOT_EMPLOYED_DAYS, None)
    return pl.DataFrame(
        [keys, target]
        + [table.numbers(name) for name in _NUMBERS]
        + [table.words(name) for name in _WORDS]
        + [_years(table.numbers("DAYS_BIRTH"), "AGE_YEARS"), _years(employed, "YEARS_EMPLOYED")]
    )


def _years(days: pl.Series, name: str) -> pl.Series:
    """Kaggle counts days back from the application, so they are negative."""
    return (0.0 - days / DAYS_PER_YEAR).alias(name)


def _per_client(
    source: Path, file: str, column: str, feature: str, clients: pl.Series
) -> tuple[pl.DataFrame, TableSource]:
    """One value for each client of the table; raises `DataError` if it knows none of `clients`."""
    table = read_table(source, file, [CLIENT, column])
    rows = pl.DataFrame([table.keys(), table.numbers(column)])
    known = int(clients.is_in(rows[CLIENT].unique().implode()).sum())
    if not known:
        raise DataError(
            f"expected rows of the {len(clients):,} clients of {APPLICATIONS} in {table.file}, got none "
            f"(its first {CLIENT} is {rows[CLIENT][0]}, theirs {clients[0]}): take both from one source"
        )
    value = pl.col(column).max() if feature == OVERDUE_MAX else pl.col(column).mean()
    # Sorted, because the sum behind a mean depends on the order of its terms.
    per_client = rows.sort(CLIENT, column).group_by(CLIENT, maintain_order=True).agg(value.alias(feature))
    return per_client, _source(table, known, len(per_client) - known)


def _encode(clients: pl.DataFrame, files: str) -> Rows:
    columns = {name: clients[name].to_list() for name in SCHEMA.names}
    try:
        features = SCHEMA.encode_columns(columns)
    except UnacceptableRow as refusal:
        first = refusal.errors[0]
        _, row, name = first.pointer.split("/")
        value = columns[name][int(row)]
        shown = "" if value is None else f" ({value!r})"
        days = f", which {_DAYS[name]} says in days," if name in _DAYS else ""
        raise DataError(
            f"{first.detail}{shown} in {name}{days} of client {clients[CLIENT][int(row)]} (of {files}): "
            "correct the file or leave the client out"
        ) from None
    watched = np.array([GENDER.get(word, "") for word in clients[_WATCHED].to_list()])
    target, complete = clients[TARGET].to_numpy(), clients["complete"].to_numpy()
    return Rows(features, target, complete, INPUTS, {_WATCHED: watched})
