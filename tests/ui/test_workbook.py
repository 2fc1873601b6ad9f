"""Excel workbooks in and out of the page: what comes back, and what is refused, in a process of its own."""

import asyncio
import csv
import io
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from server.errors import BatchRefused, UnacceptableRow
from tests.support.bundles import CREDIT
from tests.support.pages import page_client
from ui.workbook import child, sheet
from ui.workbook.bounded import Workbooks
from ui.workbook.limits import WorkbookRefused


def book_of(*rows: list[Any]) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()


def test_a_sheet_becomes_text_with_every_digit() -> None:
    book = book_of(
        ["name", "x", "y", None],
        ["Ann, é", 0.1, 12],
        [],
        [True, date(2026, 11, 26), 1e300, "extra"],
        ["007", 123456789.0, None],
    )
    assert child.csv_of(book).decode().splitlines() == [
        "name,x,y",
        '"Ann, é",0.1,12',
        "true,2026-11-26T00:00:00,1e+300,extra",
        "007,123456789,",
    ]


def test_a_cell_with_a_line_end_of_any_kind_stays_one_cell() -> None:
    cells = ["x\ry", "p\r\nq", "m\nn"]
    text = child.csv_of(book_of(["a", "b", "c"], cells, ["z"])).decode()
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["a", "b", "c"], cells, ["z", "", ""]]


def test_a_table_becomes_a_workbook_whose_cells_run_nothing() -> None:
    table = '\ufeffa;b;c\r\n=1+1;0,5;007\r\n"x\ny";-1e-05;12345678901234567890\r\n\x01;;1,5,3\r\n'
    made = openpyxl.load_workbook(io.BytesIO(child.workbook_of(table.encode(), ";", ","))).worksheets[0]
    rows = [[(cell.value, cell.data_type) for cell in row] for row in made.iter_rows(min_row=2)]
    assert rows[0] == [("=1+1", "s"), (0.5, "n"), ("007", "s")]
    assert rows[1] == [("x\ny", "s"), (-1e-05, "n"), ("12345678901234567890", "s")]
    assert rows[2][2] == ("1,5,3", "s")
    again = child.csv_of(child.workbook_of(b"probability\n0.0123456789012345678\n", ",", "."))
    assert float(again.split()[1]) == 0.0123456789012345678


def test_no_character_of_a_text_is_lost_on_its_way_through_a_workbook() -> None:
    """XML has no place for some; Excel writes them as _x0001_, and that itself as _x005F_x0001_."""
    cells = [f"a{chr(code)}b" for code in (*range(0x20), 0x7F, 0x85, 0xA0, 0x2028, 0xFEFF, 0xFFFE, 0xFFFF)]
    cells += ["_x0041_", "_x005F_x0041_", "_x005f__x000D_", "_x_", "_xD83D_", "\U0001f600", "__x00e9__"]
    table = io.StringIO(newline="")
    csv.writer(table, quoting=csv.QUOTE_ALL).writerows([["text"], *([cell] for cell in cells)])
    content = child.workbook_of(table.getvalue().encode(), ",", ".")
    again = csv.reader(io.StringIO(child.csv_of(content).decode(), newline=""))
    assert [row[0] for row in again][1:] == cells
    shown = [row[0] for row in openpyxl.load_workbook(io.BytesIO(content)).worksheets[0].values]
    assert shown[2] == "a_x0001_b"
    foreign = book_of(["text"], ["line_x000D_\nline"], ["_xD83D_"])
    assert child.csv_of(foreign).decode() == 'text\n"line\r\nline"\n_xD83D_\n'


_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PARTS = {
    "[Content_Types].xml": b"<broken",
    "docProps/custom.xml": b"<broken",
    "xl/workbook.xml": f'<workbook {_MAIN}><workbookPr date1904="1"/><sheets><sheet r:id="a" '
    f'xmlns:r="{_RELATIONS}"/></sheets><definedNames><broken'.encode(),
    "xl/_rels/workbook.xml.rels": f'''<Relationships>
        <Relationship Id="b" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet2.xml"/>
        <Relationship Id="a" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/>
        <Relationship Id="c" Type="{_RELATIONS}/sharedStrings" Target="/xl/sharedStrings.xml"/>
        <Relationship Id="d" Type="{_RELATIONS}/styles" Target="styles.xml"/></Relationships>'''.encode(),
    "xl/sharedStrings.xml": f"<sst {_MAIN}><si><t>a</t></si><si><r><t>b</t></r><r><t> c</t></r>"
    "<rPh><t>spoken</t></rPh></si></sst>".encode(),
    "xl/styles.xml": f"""<styleSheet {_MAIN}><numFmts><numFmt numFmtId="170" formatCode="[hh]:mm"/></numFmts>
        <cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/>
        <xf numFmtId="170"/></cellXfs><broken""".encode(),
    "xl/worksheets/sheet2.xml": b"<broken",
}


def parts_in(parts: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return made.getvalue()


def sheet_of(row: bytes) -> bytes:
    """A workbook whose first row has these cells, and whose other parts are broken behind what is needed."""
    sheet = b"<worksheet %b><sheetData><row>%b</row></sheetData><broken" % (_MAIN.encode(), row)
    return parts_in({**_PARTS, "xl/worksheets/sheet1.xml": sheet})


def test_nothing_of_a_workbook_is_read_that_makes_no_cell() -> None:
    """600,000 defined names, or as many styles, kept a library busy for minutes."""
    cells = (
        b"<c t='s'><v>1</v></c><c><f>1+1</f><v>2</v></c><c s='1'><v>1</v></c><c s='2'><v>1.5</v></c>"
        b"<c r='H1' t='inlineStr'><is><r><t>d</t></r><r><t>e</t></r></is></c><c t='b'><v>1</v></c>"
        b"<c t='str'><v>f</v></c><c t='e'><v>#N/A</v></c><c s='1'><v>1e9</v></c><c><v>1E2</v></c>"
        b"<c><f>x</f></c>"
    )
    expected = 'b c,2,1904-01-02T00:00:00,"1 day, 12:00:00",,,,de,true,f,#N/A,#VALUE!,100'
    assert child.csv_of(sheet_of(cells)).decode() == expected + "\n"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b"<c r='XFE1'><v>1</v></c>", "in no column"),
        (b"<c r='A1A'><v>1</v></c>", "in no column"),
        (b"</row><row r='1'>", "not in their order"),
        (b"</row><row r='%b'>" % (b"9" * 5000), "not in their order"),
        (b"<c t='s'><v>2</v></c>", "of something else"),
        (b"<c t='s'><v>%b</v></c>" % (b"1" * 5000), "of something else"),
        (b"<c><v>1x</v></c>", "of something else"),
        (b"<c><v>%b</v></c>" % (b"1" * 5000), "of something else"),
        (b"<c t='str'><v>%b</v></c>" % (b"x" * 300_000), "a text of more than 32,767"),
        (b"<c r='%b'/>" % (b"A" * 600_000), "tags of at most 262,144 bytes"),
        (b"<c/>" * 101, "more than 100 elements"),
    ],
)
def test_sheet_of_something_else_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, row: bytes, words: str
) -> None:
    monkeypatch.setattr(sheet, "MAX_ELEMENTS", 100)
    with pytest.raises((WorkbookRefused, BatchRefused), match=words):
        child.csv_of(sheet_of(row))


def test_part_that_is_packed_as_none_is_refused() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("xl/workbook.xml", b"0")
    with pytest.raises(WorkbookRefused, match="packed as no workbook is"):
        child.csv_of(made.getvalue())


def test_what_is_too_large_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/workbook.xml", b"0" * 100_000)
    monkeypatch.setattr(child, "MAX_UNPACKED_BYTES", 50_000)
    with pytest.raises(WorkbookRefused, match="unpacks to 100,000 bytes"):
        child.csv_of(bomb.getvalue())
    monkeypatch.setattr(child, "MAX_UNPACKED_BYTES", 2**20)
    monkeypatch.setattr(child, "MAX_CELLS", 5)
    with pytest.raises(WorkbookRefused, match="more than"):
        child.csv_of(book_of([1, 2, 3], [4, 5, 6]))
    with pytest.raises(WorkbookRefused, match="take it as CSV"):
        child.workbook_of(b"1,2,3\n4,5,6\n", ",", ".")
    with pytest.raises(WorkbookRefused, match="a text of more than 32,767 characters: take it as CSV"):
        child.workbook_of(b"a\n" + b"x" * 32_768 + b"\n", ",", ".")
    with pytest.raises(WorkbookRefused, match=r"no whole \.xlsx workbook"):
        child.csv_of(b"\xd0\xcf\x11\xe0 an old workbook")


def test_a_broken_workbook_ends_a_process_and_not_the_server(tmp_path: Path) -> None:
    laughs = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    with pytest.raises(UnacceptableRow, match=r"^expected no DTD in xl/workbook\.xml"):
        asyncio.run(Workbooks().csv_of(parts_in({"xl/workbook.xml": laughs})))
    with page_client(CREDIT, tmp_path) as client:
        answer = client.post("/page/many/sheet", content=sheet_of(b"<c t='s'><v>7</v></c>"))
        assert answer.json()["problem"].startswith("expected an Excel workbook (.xlsx) or CSV: it has a cell")
        assert client.post("/page/many/sheet", content=b"x" * (2**25 + 1)).status_code == 413
        sheet = client.post("/page/many/sheet", content=book_of(["AMT_CREDIT"], [5000]))
        assert sheet.text == "AMT_CREDIT\n5000\n"
        made = client.post("/page/many/workbook", content=b"a,b\n1,x\n", headers={"Content-Type": "text/csv"})
        assert [c.value for c in openpyxl.load_workbook(io.BytesIO(made.content)).worksheets[0][2]] == [
            1,
            "x",
        ]


def test_file_that_never_finds_room_is_too_large(tmp_path: Path) -> None:
    """It was told to come again, for ever."""
    with page_client(CREDIT, tmp_path, max_batch_bytes=2**20) as client:
        for path in ("/page/many/sheet", "/page/many/workbook"):
            answer = client.post(path, content=bytes(3 * 2**20), headers={"Content-Type": "text/csv"})
            assert (answer.status_code, f"at most {2**21} bytes" in answer.json()["detail"]) == (413, True)
