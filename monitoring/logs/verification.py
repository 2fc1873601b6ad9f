"""Whether a log lost a line: numbers without gaps, held against the journal beside it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import duckdb

from monitoring.errors import LogError
from monitoring.logs.database import literal
from monitoring.logs.files import absent_files, journal_records, log_files
from server.errors import first_line


class LogVerdict(Enum):
    """What can be said of a log."""

    WHOLE = "whole"
    NOT_PROVABLE = "not provable"
    MISSING = "missing"


@dataclass(frozen=True)
class Instance:
    """The lines of one instance of one worker (the prefix of their ids).

    `gaps` are ranges of numbers that no line has, `removed` the lines before the
    first one kept, if old files were deleted, `erased` those taken out for a subject.
    """

    instance: str
    lines: int
    last: int
    duplicates: int
    gaps: list[tuple[int, int]]
    removed: int
    erased: int = 0

    @property
    def lost(self) -> int:
        """The lines that are provably missing."""
        return sum(end - first + 1 for first, end in self.gaps)


@dataclass(frozen=True)
class Process:
    """One worker process as its journal tells: the instances it had, and its last words, if any.

    `lines` and `dropped` are what it said when it closed its log, None if it never did;
    `deleted` whether old files were deleted, as the settings ask for.
    """

    instances: list[Instance]
    opened: str
    lines: int | None
    dropped: int | None
    deleted: bool = False

    @property
    def unwritten(self) -> int:
        """Lines after the last one of each instance: written, it said, or dropped, and not there."""
        if self.lines is None or (self.deleted and not all(instance.last for instance in self.instances)):
            return 0  # of an instance without a line left, nobody knows how many went with old files
        there = sum(
            instance.lines + instance.removed + instance.erased + instance.lost for instance in self.instances
        )
        return max(0, self.lines + (self.dropped or 0) - there)


@dataclass(frozen=True)
class Verification:
    """What `verify` found in some files; `absent` closed files are not among them, as their numbers tell."""

    files: list[Path]
    lines: int
    unreadable: int
    instances: list[Instance]
    processes: list[Process]
    absent: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """The lines that are provably missing, at either end or in between."""
        return sum(instance.lost for instance in self.instances) + sum(p.unwritten for p in self.processes)

    @property
    def duplicates(self) -> int:
        """The lines that are there more than once."""
        return sum(instance.duplicates for instance in self.instances)

    @property
    def whole(self) -> bool:
        """Whether nothing is missing, double or unreadable."""
        return not (self.lost or self.duplicates or self.unreadable)

    @property
    def unvouched(self) -> int:
        """The instances whose last lines nothing vouches for: never closed, or without a journal."""
        told = {instance.instance for process in self.processes for instance in process.instances}
        open_ended = [instance for p in self.processes if p.lines is None for instance in p.instances]
        return len(open_ended) + sum(instance.instance not in told for instance in self.instances)

    @property
    def verdict(self) -> LogVerdict:
        """Whether something is missing; if not, whether that is proven."""
        if not self.whole:
            return LogVerdict.MISSING
        return LogVerdict.NOT_PROVABLE if self.unvouched else LogVerdict.WHOLE

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return {
            "verdict": self.verdict.value,
            "lines": self.lines,
            "unreadable": self.unreadable,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "unvouched_instances": self.unvouched,
            "absent": self.absent,
            "instances": [asdict(instance) for instance in self.instances],
        }


def verify(paths: Sequence[Path]) -> Verification:
    """Count the lines of every instance in some files, held against the journals; raises `LogError`."""
    files = log_files(paths)
    connection = duckdb.connect()
    try:
        return _verification(connection, files, _load(connection, files))
    except duckdb.Error as error:
        raise LogError(f"expected whole log files, got one that is broken: {first_line(error)}") from None
    finally:
        connection.close()


def _verification(connection: duckdb.DuckDBPyConnection, files: list[Path], unreadable: int) -> Verification:
    records = journal_records(files)
    _load_erased(connection, records)
    instances = _instances(connection, removed=any(record.get("event") == "removed" for record in records))
    logs = {file.name.split(".", 1)[0] for file in files}
    own = [record for record in records if record["log"] in logs]
    lines = sum(instance.lines for instance in instances.values())
    return Verification(
        files, lines, unreadable, list(instances.values()), _processes(own, instances), absent_files(files)
    )


def verify_table(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> Verification:
    """The same for files whose lines a table `requests` has, with `id` and `seq`."""
    connection.execute("create view lines as select split_part(id, '-', 1) instance, seq from requests")
    return _verification(connection, files, 0)


def _load(connection: duckdb.DuckDBPyConnection, files: list[Path]) -> int:
    names = ", ".join(literal(str(file)) for file in files)
    connection.execute("set enable_progress_bar=false")
    connection.execute(
        "create table lines as select split_part(id, '-', 1) instance, seq from read_json("
        f"[{names}], format='newline_delimited', columns={{'id': 'VARCHAR', 'seq': 'BIGINT'}}, "
        "ignore_errors=true, maximum_object_size=67108864)"
    )
    query = "select count(*) from lines where instance is null or seq is null"
    (unreadable,) = connection.execute(query).fetchone() or (0,)
    return int(unreadable)


def _load_erased(connection: duckdb.DuckDBPyConnection, records: list[dict[str, Any]]) -> None:
    """The numbers that journals say are erased and that are not there: a crash may have come in between."""
    erased = {
        (instance, number)
        for record in records
        if record.get("event") == "erased"
        for instance, numbers in record["numbers"].items()
        for number in numbers
    }
    connection.execute("create table erased (instance varchar, seq bigint)")
    if erased:
        connection.executemany("insert into erased values (?, ?)", sorted(erased))
    connection.execute("delete from erased e using lines l where e.instance = l.instance and e.seq = l.seq")


def _instances(connection: duckdb.DuckDBPyConnection, removed: bool) -> dict[str, Instance]:
    gaps: dict[str, list[tuple[int, int]]] = {}
    known = "(select instance, seq from lines union all select instance, seq from erased)"
    previous = "coalesce(lag(seq) over (partition by instance order by seq), 0)"
    numbered = f"select instance, seq, {previous} p from {known}"
    found = "seq > p + 1 and instance is not null order by 1, 2"
    query = f"select instance, p + 1, seq - 1 from ({numbered}) where {found}"
    for instance, first, end in connection.execute(query).fetchall():
        gaps.setdefault(instance, []).append((first, end))
    query = (
        "select instance, count(*), count(distinct seq), max(seq) from lines "
        "where instance is not null and seq is not null group by 1 order by 1"
    )
    erased = dict(connection.execute("select instance, count(*) from erased group by 1").fetchall())
    instances = {
        instance: Instance(instance, 0, 0, 0, gaps.get(instance, []), 0, count)
        for instance, count in erased.items()
    }
    for instance, lines, distinct, last in connection.execute(query).fetchall():
        missing = gaps.get(instance, [])
        # Deleted files leave a gap before the first line that is kept.
        before = missing.pop(0)[1] if removed and missing and missing[0][0] == 1 else 0
        instances[instance] = Instance(
            instance, lines, last, lines - distinct, missing, before, erased.get(instance, 0)
        )
    return instances


def _processes(records: list[dict[str, Any]], instances: dict[str, Instance]) -> list[Process]:
    closed = {record["boots"][0]: record for record in records if record.get("event") == "closed"}
    deleted = any(record.get("event") == "removed" for record in records)
    processes = []
    for opened, names in _opened(records):
        last_words = closed.get(names[0], {})
        there = [instances.get(name, Instance(name, 0, 0, 0, [], 0)) for name in names]
        processes.append(Process(there, opened, last_words.get("lines"), last_words.get("dropped"), deleted))
    return processes


def _opened(records: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """When each process opened its log, and all instances it had, those of later reloads too."""
    opened: list[tuple[str, list[str]]] = []
    for record in records:
        if record.get("event") == "opened":
            opened.append((record["ts"], list(record["boots"])))
        elif record.get("event") == "admitted" and opened:  # by the process that opened this log last
            opened[-1][1].extend(record["boots"])
    return opened
