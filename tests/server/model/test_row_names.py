"""A row of a batch has one name, for all who tell it and all who look for it, whatever else is erased."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as some

from monitoring.logs.erasure import erase
from monitoring.logs.finding import Search
from monitoring.logs.subject import ResponseIds
from monitoring.outcomes.decisions import open_decisions
from server.log.journal import LogJournal
from server.log.lookup import find_lines
from server.log.reviews import Reviews
from server.model.row_names import line_id, name_of_row, row_name, rows_called

INSTANCE = "0123456789ab"
#: Rows in each line of each batch.
BATCHES = some.lists(some.lists(some.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=2)


def lines_of(batches: list[list[int]], *, numbered: bool = True) -> list[dict[str, Any]]:
    """Lines as the server writes them; each row's income is its own, and so are the ids the client gave."""
    lines, income, seq = [], 0, 0
    for batch in batches:
        response, first = f"{INSTANCE}-{seq + 1}", 0
        for part, count in enumerate(batch):
            seq += 1
            rows = range(income, income + count)
            line = {"id": line_id(response, part), "seq": seq, "model": "m@1", "ts": "2026-03-01T08:00:00Z"}
            line |= {"probabilities": [n / 100 for n in rows], "decisions": ["grant"] * count}
            line |= {"first_row": first} if part and numbered else {}
            line |= {
                "row_ids": [int(given_id(n)) if n % 2 else given_id(n) for n in rows],
                "request_id": "all/0",
            }
            lines.append(line | {"input": {"rows": [{"income": n} for n in rows]}})
            first, income = first + count, income + count
    return lines


def given_id(income: int) -> str:
    """What the client calls a row, in a number or a text."""
    return str(income) if income % 2 else f"row {income}"


def told(batches: list[list[int]]) -> dict[str, int]:
    """What a client is told of each row: the id of its response and its place in the request."""
    names: dict[str, int] = {}
    seq = income = 0
    for batch in batches:
        for place in range(sum(batch)):
            names[row_name(f"{INSTANCE}-{seq + 1}", place)] = income
            income += 1
        seq += len(batch)
    return names


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    file = folder / "predictions-1-0.jsonl"
    file.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    journal = LogJournal(file)
    journal.began("opened", 1, {INSTANCE: "ab" * 32}, {})
    journal.closed([INSTANCE], len(lines), 0)
    return file


def incomes(folder: Path, name: str) -> tuple[list[int], list[int]]:
    """The rows that a name finds: in a running server, and with `monitoring find`."""
    looked_up = [line.record["input"]["rows"][row] for line in find_lines(folder, name) for row in line.rows]
    found = [row for line in Search([folder], ResponseIds([name])).lines() for row in line["input"]["rows"]]
    return [row["income"] for row in looked_up], [row["income"] for row in found]


@settings(max_examples=10)
@given(batches=BATCHES, data=some.data())
def test_a_name_finds_its_row_before_and_after_others_are_erased(
    batches: list[list[int]], data: some.DataObject
) -> None:
    names = told(batches)
    gone = data.draw(some.lists(some.sampled_from(sorted(names)), unique=True, max_size=8))
    with TemporaryDirectory() as directory:
        folder = Path(directory)
        file = write(folder, data.draw(some.permutations(lines_of(batches))))
        reviews = Reviews(folder, "page-1")
        reviews.path.write_bytes(b"".join(orjson.dumps({"of": name}) + b"\n" for name in names))
        for stage in ([], gone[::2], gone[1::2]):
            if stage:
                erased = erase([folder], ResponseIds(stage))
                assert erased.is_complete
                assert erased.reviews == len(stage)
            names = {name: income for name, income in names.items() if name not in stage}
            left = [orjson.loads(line) for line in file.read_bytes().splitlines()]
            for name, income in names.items():
                for called in (name, given_id(income)):
                    rows = [line["input"]["rows"][i] for line in left for i in rows_called(line, {called})]
                    assert rows == [{"income": income}]
            for name in stage[:1]:
                assert incomes(folder, name) == ([], [])
            for name, income in list(names.items())[-1:]:
                assert incomes(folder, name) == ([income], [income])
                assert incomes(folder, given_id(income)) == ([income], [income])
        assert {review["of"] for review in reviews.all()} == names.keys()


def test_outcomes_call_rows_the_same_also_after_an_erasure(tmp_path: Path) -> None:
    """In SQL as in Python, also in lines of a server that told no place: those are called by their line."""
    batches = [[3, 2, 4], [1], [2, 2]]
    file = write(tmp_path, lines_of(batches))
    older = lines_of([[2, 3]], numbered=False)
    for line in older:
        line["id"] = line["id"].replace("-1", "-99")
    with file.open("ab") as log:
        log.write(b"".join(orjson.dumps(line) + b"\n" for line in older))
    gone = [f"{INSTANCE}-1/{place}" for place in (0, 3, 4, 6)] + [f"{INSTANCE}-99.1/1"]
    assert erase([file], ResponseIds(gone)).rows == 3
    lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    named = [(name_of_row(line, i), p) for line in lines for i, p in enumerate(line["probabilities"])]
    expected = {name: income / 100 for name, income in told(batches).items() if name not in gone}
    expected |= {f"{INSTANCE}-99/{i}": i / 100 for i in range(2)}
    expected |= {f"{INSTANCE}-99.1/{i}": (i + 2) / 100 for i in (0, 2)}
    assert dict(named) == expected
    with open_decisions([file], "binary", "m") as decisions:
        assert sorted(decisions.rows("select key0, score from decisions")) == sorted(expected.items())
    assert incomes(tmp_path, f"{INSTANCE}-99.1/2") == ([4], [4])


def test_a_name_that_a_client_took_hides_nobody(tmp_path: Path) -> None:
    """A request may be called as somebody else's row: both are shown, each under its own name."""
    lines = lines_of([[2], [1]])
    lines[1]["request_id"] = f"{INSTANCE}-1/1"
    write(tmp_path, lines)
    found = find_lines(tmp_path, f"{INSTANCE}-1/1")
    assert [name_of_row(line.record, row) for line in found for row in line.rows] == [
        f"{INSTANCE}-2/0",
        f"{INSTANCE}-1/1",
    ]
    assert len(find_lines(tmp_path, "all/0")) == 1
