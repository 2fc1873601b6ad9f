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
import numpy.typing as npt
import polars as pl

from server.errors import UnacceptableRow
from server.schema import Matrix
from train.errors import DataError
from train.features import SCHEMA
from train.tables import CLIENT, Table, read_parquet, read_table

APPLICATIONS = "application_train.csv"
BUREAU = "bureau.csv"
CARDS = "credit_card_balance.csv"
SAMPLE = "application_train_sample.parquet"

TARGET = "TARGET"
#: Kaggle's mark for "not employed" in DAYS_EMPLOYED: all pensioners and unemployed.
NOT_EMPLOYED_DAYS = 365_243
DAYS_PER_YEAR = 365.25

ATM_MEAN = "CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean"
OVERDUE_MAX = "BUREAU_AMT_CREDIT_SUM_OVERDUE_max"
_NUMBERS = ["EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3", "FLAG_DOCUMENT_3"]
_NUMBERS += ["AMT_INCOME_TOTAL", "AMT_CREDIT", "AMT_ANNUITY"]
_WORDS = ["NAME_EDUCATION_TYPE", "NAME_INCOME_TYPE", "CODE_GENDER"]
COLUMNS = [CLIENT, TARGET, *_NUMBERS, *_WORDS, "DAYS_BIRTH", "DAYS_EMPLOYED"]


@dataclass(frozen=True)
class Rows:
    """Clients in the order of their ids, encoded by the server's own schema.

    `features` is float64 [n, F] in the order of `SCHEMA` with NaN for missing,
    `target` float64 [n] of 0 and 1 (1: had payment difficulties), `complete`
    bool [n]: the secondary tables were looked up for this client.
    """

    features: Matrix
    target: npt.NDArray[np.float64]
    complete: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.target)

    def take(self, index: npt.NDArray[np.intp]) -> "Rows":
        """The clients at these positions."""
        return Rows(self.features[index], self.target[index], self.complete[index])


@dataclass(frozen=True)
class Source:
    """A file that was read: its name, the SHA-256 of its bytes and its number of rows."""

    file: str
    sha256: str
    rows: int


def load(folder: Path) -> tuple[Rows, list[Source]]:
    """Every client of the Kaggle files in `folder`, and the files they came from.

    Raises `DataError` in one sentence: what was expected, what came, where, and
    what to do.
    """
    applications = read_table(folder, APPLICATIONS, COLUMNS)
    clients = _clients(applications)
    overdue, bureau = _per_client(folder, BUREAU, "AMT_CREDIT_SUM_OVERDUE", OVERDUE_MAX)
    drawings, cards = _per_client(folder, CARDS, "CNT_DRAWINGS_ATM_CURRENT", ATM_MEAN)
    clients = clients.join(overdue, on=CLIENT, how="left").join(drawings, on=CLIENT, how="left")
    clients = clients.with_columns(complete=pl.lit(True))
    sources = [_source(applications), bureau, cards]
    if (folder / SAMPLE).is_file():
        sample = read_parquet(folder / SAMPLE, COLUMNS)
        # The sample repeats clients of the main table: each is taken once, complete.
        others = _clients(sample).join(clients.select(CLIENT), on=CLIENT, how="anti")
        others = others.with_columns(complete=pl.lit(False))
        clients = pl.concat([clients, others], how="diagonal")
        sources.append(_source(sample))
    return _encode(clients.sort(CLIENT), " and ".join(s.file for s in (sources[0], *sources[3:]))), sources


def _source(table: Table) -> Source:
    return Source(table.file, table.sha256, len(table.frame))


def _clients(table: Table) -> pl.DataFrame:
    """One row a client: id, target and the features of the application table."""
    keys = table.keys()
    if keys.n_unique() != len(keys):
        raise DataError(
            f"expected every {CLIENT} once in {table.file}, got one twice: remove the repeated rows"
        )
    target = table.numbers(TARGET)
    table.refuse(TARGET, ~target.is_in([0.0, 1.0]).fill_null(False), "0 or 1")
    days = table.numbers("DAYS_EMPLOYED")
    employed = days.set(days == NOT_EMPLOYED_DAYS, None)
    return pl.DataFrame(
        [keys, target]
        + [table.numbers(name) for name in _NUMBERS]
        + [table.frame[name] for name in _WORDS]
        + [_years(table.numbers("DAYS_BIRTH"), "AGE_YEARS"), _years(employed, "YEARS_EMPLOYED")]
    )


def _years(days: pl.Series, name: str) -> pl.Series:
    """Kaggle counts days back from the application, so they are negative."""
    return (0.0 - days / DAYS_PER_YEAR).alias(name)


def _per_client(folder: Path, file: str, column: str, feature: str) -> tuple[pl.DataFrame, Source]:
    table = read_table(folder, file, [CLIENT, column])
    rows = pl.DataFrame([table.keys(), table.numbers(column)])
    value = pl.col(column).max() if feature == OVERDUE_MAX else pl.col(column).mean()
    # Sorted, because the sum behind a mean depends on the order of its terms.
    per_client = rows.sort(CLIENT, column).group_by(CLIENT, maintain_order=True).agg(value.alias(feature))
    return per_client, _source(table)


def _encode(clients: pl.DataFrame, files: str) -> Rows:
    columns = {name: clients[name].to_list() for name in SCHEMA.names}
    try:
        features = SCHEMA.encode_columns(columns)
    except UnacceptableRow as refusal:
        first = refusal.errors[0]
        _, row, name = first.pointer.split("/")
        raise DataError(
            f"{first.detail} in {name} of client {clients[CLIENT][int(row)]} (of {files}): "
            "correct the file or leave the client out"
        ) from None
    return Rows(features, clients[TARGET].to_numpy(), clients["complete"].to_numpy())
