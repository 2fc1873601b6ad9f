"""Lines that are no JSON, and packed files that are damaged: named, and nothing of them lost."""

import base64
import bz2
import gzip
import lzma
import random
import subprocess
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import openpyxl
import orjson
import polars as pl
import pytest

from server.batch.job import BatchJob
from server.batch.layout import Reading
from server.batch.results import Totals
from server.batch.worksheet import read_sheet
from server.errors import BatchRefused, HotrowError
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.tables.csv_dialect import Options
from server.zstandard import zstd

GOOD = b'{"income": 5, "contract": "none", "owner": 1}'
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": partial(zstd.compress, options={zstd.CompressionParameter.checksum_flag: 1}),
}

#: An Arrow stream without rows as pyarrow writes it: income is float64, id decimal256(40, 0).
DECIMAL256 = base64.b64decode(
    "/////7gAAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAIAAABQAAAABAAAAMj///8AAAEHEAAAACAAAAAE"
    "AAAAAAAAAAIAAABpZAAAAAAKAAwABAAAAAgACgAAACgAAAAAAQAAEAAUAAgABgAHAAwAAAAQABAAAAAAAAEDEAAAACAAAAAEAAAAAAAAAAYA"
    "AABpbmNvbWUAAAAABgAIAAYABgAAAAAAAgAAAAAA/////wAAAAA="
)

#: Streams of pyarrow, too: of a list_view, which polars does not know; and of a category with a gap, packed
#: by lz4 as pandas does: income 5 and 9, contract none and missing, owner true and false.
LIST_VIEW = base64.b64decode(
    "/////6gAAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAEAAAAEAAAA1P///wAAARkUAAAAHAAA"
    "AAQAAAABAAAAJAAAAAEAAAB4AAAABAAEAAQAAAAQABQACAAGAAcADAAAABAAEAAAAAAAAQIQAAAAIAAAAAQAAAAAAAAABAAAAGl0"
    "ZW0AAAAACAAMAAgABwAIAAAAAAAAAUAAAAD/////AAAAAA=="
)
GAP = base64.b64decode(
    "/////wgBAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAEAAAAhP///wQAAAADAAAArAAAAEAAAAAEAAAAcP///wAAAQYQAAAAGAAA"
    "AAQAAAAAAAAABQAAAG93bmVyAAAAnP///xAAGAAIAAYABwAMABAAFAAQAAAAAAABFBQAAABIAAAAJAAAAAQAAAAAAAAACAAAAGNv"
    "bnRyYWN0AAAAAAgACAAAAAQACAAAAAwAAAAIAAwACAAHAAgAAAAAAAABCAAAAAQABAAEAAAAEAAUAAgABgAHAAwAAAAQABAAAAAA"
    "AAEDEAAAACAAAAAEAAAAAAAAAAYAAABpbmNvbWUAAAAABgAIAAYABgAAAAAAAgD/////uAAAABQAAAAAAAAADAAYAAYABQAIAAwA"
    "DAAAAAACBAAYAAAASAAAAAAAAAAAAAAACAAIAAAABAAIAAAAEAAAAAwAHAAQAAQACAAMAAwAAABYAAAAHAAAABQAAAABAAAAAAAA"
    "AAAAAAAEAAQABAAAAAMAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAkAAAAAAAAACgAAAAAAAAAGwAAAAAAAAAAAAAAAQAAAAEA"
    "AAAAAAAAAAAAAAAAAAAQAAAAAAAAAAQiTRhgQIINAAAAEwABAIAEAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAEIk0YYECCBAAAgG5v"
    "bmUAAAAAAAAAAAD/////+AAAABQAAAAAAAAADAAYAAYABQAIAAwADAAAAAADBAAcAAAAeAAAAAAAAAAAAAAADAAcABAABAAIAAwA"
    "DAAAAIgAAAAcAAAAFAAAAAIAAAAAAAAAAAAAAAQABAAEAAAABgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACYAAAAAAAAAKAAA"
    "AAAAAAAYAAAAAAAAAEAAAAAAAAAAGQAAAAAAAABgAAAAAAAAAAAAAAAAAAAAYAAAAAAAAAAYAAAAAAAAAAAAAAADAAAAAgAAAAAA"
    "AAAAAAAAAAAAAAIAAAAAAAAAAQAAAAAAAAACAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAEIk0YYECCDwAAABEAAQCgFEAAAAAAAAAi"
    "QAAAAAAAAAEAAAAAAAAABCJNGGBAggEAAIABAAAAAAIAAAAAAAAABCJNGGBAggIAAIAA/wAAAAAAAAAAAAAAAQAAAAAAAAAEIk0Y"
    "YECCAQAAgAEAAAAA/////wAAAAA="
)


@pytest.fixture(scope="module")
def bundle(three: Path) -> Bundle:
    return Bundle.load(three)


def scored(source: Path, target: Path, bundle: Bundle, **options: Any) -> Totals:
    return BatchJob(source, target, bundle, "null", 1, Reading(Options(**options))).run(lambda *_: None)


def nested(depth: int) -> bytes:
    return GOOD[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"


def test_every_line_becomes_a_line_of_json(bundle: Bundle, tmp_path: Path) -> None:
    """Whatever came: what is an object keeps its text, what is none stands under `line`."""
    lines = [
        GOOD,
        GOOD.replace(b"5", b"NaN"),
        GOOD + GOOD,
        GOOD + b"\r" + GOOD,
        GOOD + b",",
        GOOD.replace(b"5", b"1e400"),
        b"{",
        b"[1]",
        b"\x1e" + GOOD,
        *(nested(depth) for depth in range(900, 1100)),
        nested(100_000),
        GOOD,
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    totals = scored(tmp_path / "in.jsonl", tmp_path / "out.jsonl", bundle)
    found = (tmp_path / "out.jsonl").read_bytes().split(b"\n")[:-1]
    assert (totals.rows, len(found)) == (len(lines), len(lines))
    assert totals.report is not None
    named = set(pl.read_csv(totals.report)["line"].to_list())
    assert len(named) == totals.bad_rows
    for number, (line, text) in enumerate(zip(lines, found, strict=True), start=1):
        if text.startswith(line[:-1]):
            continue
        answered = orjson.loads(text)
        assert (number in named, answered["probability"], answered["line"]) == (True, None, line.decode())
    assert named.issuperset(range(2, 10))
    assert named.isdisjoint([1, 10, len(lines)])


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_files_are_read_and_written(bundle: Bundle, tmp_path: Path, ending: str) -> None:
    (tmp_path / "in.jsonl").write_bytes(PACKERS[ending](GOOD + b"\n"))
    scored(tmp_path / "in.jsonl", tmp_path / f"once.csv{ending}", bundle)
    scored(tmp_path / f"once.csv{ending}", tmp_path / "twice.csv", bundle)
    assert (tmp_path / "twice.csv").read_text().startswith("income,contract,owner,probability,decision,hot")


@pytest.mark.parametrize("ending", PACKERS)
def test_damaged_packed_file_is_refused_in_words(bundle: Bundle, tmp_path: Path, ending: str) -> None:
    """A byte changed, two put in, or the end cut off: refused, or all rows are there."""
    source = random.Random(7)
    content = PACKERS[ending](b"income,contract,owner\n" + b"".join(b"%d,none,1\n" % i for i in range(300)))
    refused = 0
    for case in range(60):
        at = source.randrange(len(content))
        new = [bytes([source.randrange(256)]), b"xy", b""][case % 3]
        damaged = content[:at] + new + (content[at + 1 :] if new else b"")
        (tmp_path / "in.csv").write_bytes(damaged)
        try:
            assert scored(tmp_path / "in.csv", tmp_path / "out.csv", bundle).rows == 300
        except HotrowError as error:
            refused += "\n" not in str(error)
    assert refused > 30


@pytest.mark.parametrize(("separator", "cell"), [(",", '"1,234"'), (";", "1.234"), ("\t", '"1,234"')])
def test_number_of_two_meanings_is_asked_for(
    bundle: Bundle, tmp_path: Path, separator: str, cell: str
) -> None:
    """A factor of a thousand is never guessed."""
    rows = [["income", "contract", "owner"], [cell, "none", "1"]]
    (tmp_path / "in.csv").write_text("".join(separator.join(row) + "\n" for row in rows))
    with pytest.raises(BatchRefused, match=r"read in one way.*--decimal"):
        scored(tmp_path / "in.csv", tmp_path / "out.parquet", bundle)
    for decimal in ".,":
        scored(tmp_path / "in.csv", tmp_path / "out.parquet", bundle, decimal=decimal)
        expected = 1.234 if decimal in cell else 1234.0
        assert pl.read_parquet(tmp_path / "out.parquet")["income"].to_list() == [expected]


@pytest.mark.parametrize("out", ["out.csv", "out.parquet", "out.jsonl"])
def test_lines_without_a_member_are_bad_rows_of_any_output(bundle: Bundle, tmp_path: Path, out: str) -> None:
    (tmp_path / "in.json").write_bytes(b'[[5, "none"], [9, null]]')
    totals = scored(tmp_path / "in.json", tmp_path / out, bundle)
    assert (totals.rows, totals.bad_rows) == (2, 2)
    assert (tmp_path / out).exists()


def test_decimals_that_polars_cannot_write_are_refused_by_name(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in.arrow").write_bytes(DECIMAL256)
    with pytest.raises(
        BatchRefused, match=r"at most 38 digits in .*in\.arrow, got more in id: write them as"
    ):
        scored(tmp_path / "in.arrow", tmp_path / "out.parquet", bundle)


def test_table_without_a_column_is_refused_in_whole_words(bundle: Bundle, tmp_path: Path) -> None:
    pl.DataFrame().write_parquet(tmp_path / "in.parquet")
    with pytest.raises(BatchRefused, match=r"in\.parquet, got no column: none of them"):
        scored(tmp_path / "in.parquet", tmp_path / "out.parquet", bundle)


def test_arrow_of_types_that_are_not_read_says_what_to_write(bundle: Bundle, tmp_path: Path) -> None:
    table = pl.DataFrame({"income": [5], "contract": ["none"], "owner": [1]})
    table.write_ipc(tmp_path / "in.arrow")
    whole = (tmp_path / "in.arrow").read_bytes()
    (tmp_path / "in.arrow").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BatchRefused, match=r"if other programs read it, write it as \.parquet or \.csv"):
        scored(tmp_path / "in.arrow", tmp_path / "out.parquet", bundle)


def test_polars_gives_up_without_a_word_of_its_own(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It panics in Rust on what it does not know, and prints so."""
    (tmp_path / "in.arrow").write_bytes(LIST_VIEW)
    with pytest.raises(BatchRefused, match=r"in\.arrow to be a whole arrow file, got: .*: if other programs"):
        scored(tmp_path / "in.arrow", tmp_path / "out.parquet", bundle)
    assert capfd.readouterr().err == ""


def test_gap_in_a_category_is_read_where_pyarrow_is(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in.feather").write_bytes(GAP)
    with pytest.raises(BatchRefused, match=r"without gaps .*: install it here, or write the file as"):
        scored(tmp_path / "in.feather", tmp_path / "out.csv", bundle)


@pytest.mark.whole
def test_gap_in_a_category_is_a_missing_value(three: Path, bundle: Bundle, tmp_path: Path) -> None:
    """Ray's environment has pyarrow."""
    (tmp_path / "in.feather").write_bytes(GAP)
    command = ["-m", "server.batch", "in.feather", "out.csv", "--model", str(three), "--nice", "0"]
    paths = [str(tmp_path / name) if name.startswith(("in.", "out.")) else name for name in command]
    subprocess.run([".venv-ray/bin/python", *paths], check=True)
    rows: list[dict[str, Any]] = [
        {"income": 5, "contract": "none", "owner": True},
        {"income": 9, "owner": False},
    ]
    expected = [Predictor(bundle).predict(bundle.schema.encode(row))[0] for row in rows]
    found = pl.read_csv(tmp_path / "out.csv")
    assert (found["contract"].to_list(), found["probability"].to_list()) == (["none", None], expected)


@pytest.mark.parametrize("out", ["out.csv", "out.jsonl", "out.xlsx"])
def test_value_that_cannot_be_written_is_one_sentence(bundle: Bundle, tmp_path: Path, out: str) -> None:
    table = pl.DataFrame({"income": [5], "contract": ["none"], "owner": [1], "day": [2**31 - 1]})
    table.with_columns(pl.col("day").cast(pl.Int32).cast(pl.Date)).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(BatchRefused, match=r"hold, got: .*out-of-range date.*: write another kind of file"):
        scored(tmp_path / "in.parquet", tmp_path / out, bundle)


def test_cells_of_a_worksheet_are_what_they_are_beside_others(bundle: Bundle, tmp_path: Path) -> None:
    """TRUE is no 1, a number beside a word keeps its digits, and an id its zeros."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (
        ["income", "contract", "owner", "id", "mixed"],
        [1234.0625, "none", True, "0012", 1e-12],
        [True, "none", 1, 12, "a word"],
        [],
        ["NA", None, 0, "x", True],
        [0.123456789012345, "none", "yes", 1.5, date(2026, 11, 27)],
    ):
        sheet.append(row)
    book.save(tmp_path / "in.xlsx")
    totals = scored(tmp_path / "in.xlsx", tmp_path / "out.parquet", bundle)
    assert (totals.rows, totals.bad_rows) == (4, 2)
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table["income"].to_list() == ["1234.0625", "true", "NA", "0.123456789012345"]
    assert table["id"].to_list() == ["0012", "12", "x", "1.5"]
    assert table["mixed"].to_list() == ["1e-12", "a word", "true", "2026-11-27 00:00:00"]
    predictor = Predictor(bundle)
    rows = [
        {"income": income, "contract": "none", "owner": True} for income in (1234.0625, 0.123456789012345)
    ]
    first, last = (predictor.predict(bundle.schema.encode(row))[0] for row in rows)
    assert table["probability"].to_list() == [first, None, None, last]


#: Rows of a worksheet as Excel writes them, with a cell at its end as some program might.
TABLE = (
    b'<row r="1"><c r="A1" t="inlineStr"><is><t>income</t></is></c></row>'
    b'<row r="2"><c r="A2"><v>5</v></c></row>'
)
FAR = {
    "as Excel writes it": b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>',
    "as a text": b'<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>x</t></is></c></row>',
    "other members before": b'<row><c cm="1"\nvm="1" s="%b" r=\'XFD1048576\'><v>1</v></c></row>'
    % (b"1" * 300),
    "places counted on": b'<row r="1048576">%b<c><v>1</v></c></row>' % (b"<c/>" * 16_383),
}


def workbook(path: Path, rows: bytes, prefix: bytes | None = b"") -> Path:
    """A workbook whose one sheet has these rows; openpyxl writes the rest."""
    openpyxl.Workbook().save(path.with_name("whole.xlsx"))
    xml = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>%b</sheetData></worksheet>'
    xml %= rows
    if prefix is None:
        xml = xml.replace(b' xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"', b"")
    elif prefix:
        xml = (
            xml.replace(b"</", b"</x:")
            .replace(b"<", b"<x:")
            .replace(b"<x:/x:", b"</x:")
            .replace(b"xmlns=", b"xmlns:x=")
        )
    with ZipFile(path.with_name("whole.xlsx")) as whole, ZipFile(path, "w") as book:
        for name in whole.namelist():
            content = whole.read(name)
            book.writestr(name, xml if name.endswith("/sheet1.xml") else content)
    return path


@pytest.mark.parametrize("prefix", [b"", b"x", None])
@pytest.mark.parametrize("far", FAR)
def test_cell_at_the_end_of_the_sheet_is_refused_before_room_is_made(
    tmp_path: Path, far: str, prefix: bytes | None
) -> None:
    """The reader asked for 549 GB for the places between, and the process ended without a word."""
    path = workbook(tmp_path / "in.xlsx", TABLE + FAR[far], prefix)
    with pytest.raises(BatchRefused, match=r"the 3 cells of .*sheet1.* among 17,179,869,184 places"):
        read_sheet(path)


@pytest.mark.parametrize("prefix", [b"", b"x"])
def test_cells_that_are_not_read_may_stand_anywhere(tmp_path: Path, prefix: bytes) -> None:
    """Cells without a value, and those of other sheets."""
    empty = b'<row r="1048576"><c r="XFD1048576" s="1"/></row>'
    path = workbook(tmp_path / "in.xlsx", TABLE + empty, prefix)
    assert read_sheet(path).rows() == [(5,)]
    book = openpyxl.Workbook()
    book.create_sheet("far")["XFD1048576"] = "x"
    for row in (["income"], [5]):
        book.worksheets[0].append(row)
    book.save(tmp_path / "two.xlsx")
    assert read_sheet(tmp_path / "two.xlsx").rows() == [(5,)]
    book.move_sheet("far", -1)
    book.save(tmp_path / "two.xlsx")
    with pytest.raises(BatchRefused, match=r"the 1 cells of xl/worksheets/sheet1\.xml"):
        read_sheet(tmp_path / "two.xlsx")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (b"<row></c>", "expected XML in"),
        (b"<!--%b-->" % (b" " * 2**23), "expected tags of"),
    ],
)
def test_worksheet_that_is_no_xml_is_refused(tmp_path: Path, rows: bytes, words: str) -> None:
    with pytest.raises(BatchRefused, match=words):
        read_sheet(workbook(tmp_path / "in.xlsx", rows))


def test_workbook_whose_first_sheet_is_another_says_so(bundle: Bundle, tmp_path: Path) -> None:
    pl.DataFrame({"note": ["see below"]}).write_excel(tmp_path / "in.xlsx")
    with pytest.raises(BatchRefused, match=r"in the first sheet of .*in\.xlsx, got note"):
        scored(tmp_path / "in.xlsx", tmp_path / "out.csv", bundle)
