"""Outcomes of a file, written down beside a log: what is there already is not written again."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.outcomes.decisions import Decisions, opened
from monitoring.outcomes.joining import load_outcomes
from monitoring.outcomes.told import Told, folder_of, kept_outcomes, read_outcomes
from server.errors import number_of
from server.model.bundle import Bundle
from server.outcomes.moments import FUTURE
from server.outcomes.record import AT, KEYS, OutcomeRecord, line_of
from server.outcomes.store import add_lines, outcome_path
from server.outcomes.values import Value

_WRITER = "added"
#: Records that are written at once.
_PORTION = 100_000


@dataclass(frozen=True)
class Added:
    """What became of the outcomes of a file.

    Of the `written` ones `corrected` are of keys that had another outcome, or were told two in the file;
    `unchanged` ones were there, and `unknown` ones are not known yet, of which nothing was known before.
    """

    file: Path
    written: int
    corrected: int
    unchanged: int
    unknown: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self) | {"file": str(self.file)}

    @property
    def sentence(self) -> str:
        """The same in words."""
        return (
            f"{number_of(self.written, 'outcome')} written to {self.file}"
            + (f", of which {self.corrected:,} told otherwise before" if self.corrected else "")
            + (f"; there already: {self.unchanged:,}" if self.unchanged else "")
            + (f"; not known yet: {self.unknown:,}" if self.unknown else "")
            + "."
        )


def add_outcomes(log: Path, file: Path, bundle: Bundle, now: datetime | None = None) -> Added:
    """Write the outcomes of a file down in the folder of a log; raises `LogError`."""
    now = now or datetime.now(UTC).replace(tzinfo=None)
    told = read_outcomes(file, bundle)
    if not set(told.kinds) <= set(KEYS):
        raise LogError(
            f"expected outcomes by {', '.join(KEYS[:-1])} or {KEYS[-1]} in {file}, got {told.kinds[0]}: "
            "those by a field are for `python -m monitoring performance --outcomes`"
        )
    _check_future(told, file, now)
    folder = folder_of(log)
    path = outcome_path(folder, _WRITER)
    with opened("outcomes") as table:
        news = _news(table, told, kept_outcomes([folder]), bundle)
        for start in range(0, len(news), _PORTION):
            lines = (_line(row, bundle, now) for row in news[start : start + _PORTION])
            try:
                add_lines(path, b"".join(lines))
            except OSError as error:
                raise LogError(f"expected to write {path}, got: {error.strerror}") from None
        ((unchanged, unknown),) = table.rows(
            "select count(*) filter (is_same), count(*) filter (is_unknown) from news"
        )
        return Added(path, len(news), sum(row[-1] for row in news), unchanged, unknown)


def _check_future(told: Told, file: Path, now: datetime) -> None:
    assert told.table is not None
    latest = told.table["came"].max()
    if isinstance(latest, datetime) and latest > now + FUTURE:
        row = told.table["came"].arg_max()
        raise LogError(
            f"expected outcomes that have come in {file}, got {AT} {latest.isoformat()} in row "
            f"{(row or 0) + 1:,}, which is in the future"
        )


def _news(table: Decisions, told: Told, kept: Told | None, bundle: Bundle) -> Sequence[tuple[Any, ...]]:
    """The rows (kind, key, value, came, corrected) that say more than what is kept."""
    if kept is not None:
        load_outcomes(table, kept, bundle)
    else:
        table.rows("create temp table outcomes (kind text, key text, value double, came timestamp)")
    assert told.table is not None
    with tempfile.TemporaryDirectory(prefix="hotrow-outcomes-") as folder:
        copy = f"{folder}/told.parquet"
        told.table.with_row_index("n").write_parquet(copy)
        order = "order by came desc nulls last, n desc"
        table.rows(
            "create temp table latest as select * exclude (rank) from (select *, "
            f"row_number() over (partition by kind, key {order}) rank, "
            "count(distinct value) over (partition by kind, key) > 1 two "
            f"from read_parquet({literal(copy)})) where rank = 1"
        )
    table.rows(
        "create temp table news as select l.*, o.key is null and l.value is null is_unknown, "
        "o.key is not null and l.value is not distinct from o.value "
        "and (l.came is null or l.came = o.came) is_same, "
        "l.two or (o.key is not null and l.value is distinct from o.value) corrected "
        "from latest l left join outcomes o using (kind, key)"
    )
    return table.rows(
        "select kind, key, value, came, corrected from news where not is_same and not is_unknown order by n"
    )


def _line(row: tuple[Any, ...], bundle: Bundle, now: datetime) -> bytes:
    kind, key, number, came, _ = row
    value: Value = number
    if number is not None and bundle.task == "multiclass":
        value = bundle.classes[int(number)]
    elif number is not None and bundle.task == "binary":
        value = int(number)
    return line_of(OutcomeRecord(kind, key, value, None), came, now)
