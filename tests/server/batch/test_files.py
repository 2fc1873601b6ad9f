"""Files as people have them: each record is one answer or one named bad row, or the file is refused.

`FILES_FUZZ=1` tries 400 well-formed files and 2,000 damaged ones; without it fewer.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import random
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loadtest.harness.subject import python
from server.batch.formats import FileFormat, TextFile
from server.batch.job import BatchJob
from server.batch.layout import FileLayout, Reading
from server.batch.results import Totals
from server.errors import BatchRefused, HotrowError
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.wrong_value import MISSING
from server.tables.csv_dialect import Options
from server.zstandard import zstd
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.compatibility import hold
from tests.support.servers import run

FULL = os.environ.get("FILES_FUZZ") == "1"
HEADER = ["note", "income", "contract", "owner"]
TEXTS = [
    "plain",
    "a,b",
    "a;b",
    "a\tb",
    "a|b",
    'say "hi"',
    "two\nlines",
    "two\r\nlines",
    "é",
    "\u2028x",
    "\x0b",
    " x ",
    "",
]


@pytest.fixture(scope="module")
def bundle(three: Path) -> Bundle:
    return Bundle.load(three)


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return Predictor(bundle)


def scored(
    path: Path, bundle: Bundle, on_bad_row: Any = "fail", reading: Reading | None = None, out: str = "out.csv"
) -> tuple[Totals, FileLayout, Path]:
    target = path.with_name(out)
    job = BatchJob(path, target, bundle, on_bad_row, 1, reading)
    return job.run(lambda *_: None), job.layout, target


def probability(predictor: Predictor, row: dict[str, Any]) -> float:
    return float(predictor.predict(THREE_FEATURES.encode(row))[0])


class Written:
    """A random table in a random dialect: what it says, and how it is written."""

    def __init__(self, source: random.Random) -> None:
        self.separator = source.choice(",;\t|")
        self.encoding = source.choice(["utf-8", "utf-8", "utf-8-sig", "cp1252", "utf-16"])
        self.end = source.choice(["\n", "\r\n", "\r"])
        self.missing = source.choice(MISSING)
        self.comma = self.separator == ";" and source.random() < 0.5
        self.rows = sample_rows(THREE_FEATURES, source.randrange(1, 40), source.randrange(10**6))
        texts = [t for t in TEXTS if self.encoding != "cp1252" or t.isascii() or t == "é"]
        # The breaks within a cell are the file's own: Python puts quotes around no others.
        self.notes = [source.choice(texts).replace("\r\n", "\n").replace("\n", self.end) for _ in self.rows]
        quoting = source.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        self.content = self._content(source, quoting).encode(self.encoding)

    def _content(self, source: random.Random, quoting: Any) -> str:
        text = io.StringIO(newline="")
        if source.random() < 0.1:
            text.write(f"sep={self.separator}{self.end}")
        writer = csv.writer(text, delimiter=self.separator, lineterminator=self.end, quoting=quoting)
        writer.writerow(HEADER)
        for note, row in zip(self.notes, self.rows, strict=True):
            if source.random() < 0.1:
                text.write(self.end)
            writer.writerow([note, *(self._cell(row.get(name)) for name in HEADER[1:])])
        if source.random() < 0.5:
            text.write(self.end)
        return text.getvalue()

    def _cell(self, value: Any) -> str:
        if value is None:
            return self.missing
        if isinstance(value, bool):
            return str(value).lower()
        return repr(value).replace(".", ",") if self.comma and isinstance(value, float) else str(value)


@pytest.mark.parametrize("seed", range(400 if FULL else 40))
def test_every_cell_and_score_of_a_well_formed_file_is_right(
    bundle: Bundle, predictor: Predictor, tmp_path: Path, seed: int
) -> None:
    file = Written(random.Random(seed))
    (tmp_path / "in.csv").write_bytes(file.content)
    totals, layout, target = scored(tmp_path / "in.csv", bundle)
    assert (totals.rows, layout.dialect.separator) == (len(file.rows), file.separator)
    with target.open(newline="", encoding="utf-8-sig") as out:
        found = list(csv.DictReader(out, delimiter=file.separator))
    assert [row["note"] for row in found] == file.notes
    decimals = (row["probability"].replace(",", ".") for row in found)
    assert [float(text) for text in decimals] == [probability(predictor, row) for row in file.rows]
    assert [row["income"] for row in found] == [file._cell(row["income"]) for row in file.rows]


@pytest.mark.parametrize("part", range(20 if FULL else 2))
def test_damaged_file_is_answered_row_by_row_or_refused_in_words(
    bundle: Bundle, tmp_path: Path, part: int
) -> None:
    """Of what is read, as many records come out as Python's csv reads, the bad ones named."""
    source = random.Random(1000 + part)
    for _ in range(100):
        file = Written(source)
        content = damaged(file.content, source)
        (tmp_path / "in.csv").write_bytes(content)
        try:
            totals, layout, target = scored(tmp_path / "in.csv", bundle, "null")
        except HotrowError:
            continue
        text = content.decode("utf-8-sig" if layout.encoding == "utf-8" else layout.encoding)
        expected = records(text.removeprefix("\ufeff"), layout)
        with target.open(newline="", encoding="utf-8-sig") as out:
            found = [r for r in csv.reader(out, delimiter=layout.dialect.separator) if r]
        assert (totals.rows, len(found) - 1) == (len(expected), len(expected)), content
        named = set() if totals.report is None else set(pl.read_csv(totals.report)["line"].to_list())
        empty = [row for row in found[1:] if row[-1] == ""]
        assert len(empty) == totals.bad_rows >= len(named) >= (totals.bad_rows > 0)


def damaged(content: bytes, source: random.Random) -> bytes:
    for _ in range(source.randrange(1, 4)):
        at = source.randrange(len(content) + 1)
        kind = source.randrange(3)
        if kind == 0:
            content = content[:at] + content[at + source.randrange(1, 20) :]
        elif kind == 1:
            content = (
                content[:at]
                + source.choice([b'"', b"\n", b"\r", b",", b";", b"\0", b"\xff", b"x"])
                + content[at:]
            )
        else:
            content = content[: max(1, at)]
    return content


def records(text: str, layout: FileLayout) -> list[list[str]]:
    """The records after the header, by Python's csv alone."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=layout.dialect.separator, strict=True)
    found = [record for record in reader if record]
    if found and len("".join(found[0])) <= 4 and "sep=" in ",".join(found[0]).lower():
        found = found[1:]
    return found[1:]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("income;contract;owner\n1234,5;none;1\n", ["separated by ';'", "decimal comma"]),
        ("income;contract;owner\n1.234,5;none;1\n", ["decimal comma", "thousands parted by '.'"]),
        ('income,contract,owner\n"1,234.5",none,1\n', ["thousands parted by ','"]),
        ("income;contract;owner\n1234.5;none;1\n", ["separated by ';'"]),
        ("income;contract;owner\n1 234,5;none;1\n", ["decimal comma"]),
        ("income\tcontract\towner\n1234.5\tnone\tTRUE\n", ["separated by tab"]),
        ("sep=;\nincome;contract;owner\n1234,5;none;yes\n", ["sep= line"]),
        ("Monthly income|Contract|OWNER\n1'234.5|none|1\n", ["separated by '|'", "'OWNER' taken for owner"]),
    ],
)
def test_numbers_are_read_as_they_are_written_and_it_is_said(
    bundle: Bundle, predictor: Predictor, tmp_path: Path, text: str, names: list[str]
) -> None:
    (tmp_path / "in.csv").write_text(text)
    _, layout, target = scored(tmp_path / "in.csv", bundle)
    separator = layout.dialect.separator
    (row,) = csv.DictReader(io.StringIO(target.read_text()), delimiter=separator)
    expected = probability(predictor, {"income": 1234.5, "contract": "none", "owner": True})
    assert float(row["probability"].replace(",", ".")) == expected
    for words in names:
        assert words in "; ".join(layout.notes)


@pytest.mark.parametrize("cell", ["1,234", "1.234.5", "12 34", "1e400", "1_000", "0x10", "1" * 5000 + "x"])
def test_number_that_could_be_two_or_none_is_a_bad_row(bundle: Bundle, tmp_path: Path, cell: str) -> None:
    (tmp_path / "in.csv").write_text(f'income,contract,owner\n"{cell}",none,1\n0.5,none,1\n"0,5",none,1\n')
    with pytest.raises(BatchRefused, match="--decimal"):
        scored(tmp_path / "in.csv", bundle)
    totals, _, _ = scored(tmp_path / "in.csv", bundle, "null", Reading(Options(decimal=".")))
    assert (totals.rows, totals.bad_rows) == (3, 2)


def test_options_overrule_what_is_recognised(bundle: Bundle, predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes("1,5;ohne;x\xe9\n2;-;y\n".encode("latin-1"))
    names = ("income", "contract", "note")
    options = Options(encoding="iso8859-1", decimal=",", missing=("-", "ohne"), columns=names, separator=";")
    _, _, target = scored(
        tmp_path / "in.csv", bundle, reading=Reading(options, allow_missing=True, prefix="p_")
    )
    rows = list(csv.DictReader(io.StringIO(target.read_text("utf-8-sig")), delimiter=";"))
    assert [float(row["p_probability"].replace(",", ".")) for row in rows] == [
        probability(predictor, {"income": 1.5}),
        probability(predictor, {"income": 2}),
    ]
    assert rows[0]["note"] == "xé"


def test_word_for_missing_may_look_like_a_number(
    bundle: Bundle, predictor: Predictor, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("income,contract,owner\n9,none,9\n99,none, 9 \n999,none,1\n")
    with pytest.raises(BatchRefused, match="line 2: income"):
        scored(tmp_path / "in.csv", bundle, reading=Reading(Options(missing=("9",))))
    _, _, target = scored(tmp_path / "in.csv", bundle, "null", Reading(Options(missing=("9",))))
    first, second, third = csv.DictReader(io.StringIO(target.read_text()))
    assert not first["probability"]
    assert float(second["probability"]) == probability(predictor, {"income": 99, "contract": "none"})
    assert float(third["probability"]) == probability(
        predictor, {"income": 999, "contract": "none", "owner": 1}
    )


@pytest.mark.parametrize(
    "options",
    [Options(missing=("-999",)), Options(decimal=","), Options(quotes=False), Options(escaped=True)],
)
def test_what_is_said_of_cells_is_refused_of_values_that_have_types(
    bundle: Bundle, tmp_path: Path, options: Options
) -> None:
    row = {"income": -999.0, "contract": "none", "owner": 1}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    pl.DataFrame([row]).write_parquet(tmp_path / "in.parquet")
    for name in ("in.jsonl", "in.parquet"):
        with pytest.raises(BatchRefused, match=r"for a CSV file, got .* leave it out"):
            scored(tmp_path / name, bundle, reading=Reading(options))


@pytest.mark.parametrize("text", ['5\\" pipe', 'say \\"hi\\"', "a\\\\", '\\"x, \\\\\\"\\"', "\\N\\n"])
def test_escaped_quotes_are_read_and_come_out_doubled(
    bundle: Bundle, predictor: Predictor, tmp_path: Path, text: str
) -> None:
    """As MySQL (INTO OUTFILE), Spark and R (qmethod="escape") write them."""
    (tmp_path / "in.csv").write_text(f'note,income,contract,owner\n"{text}",5,\\N,1\n"x",6,"none",1\n')
    if '"' in text:
        with pytest.raises(BatchRefused, match=r"line 2 a quote inside a cell.*say --quotes escaped"):
            scored(tmp_path / "in.csv", bundle)
    _, _, target = scored(tmp_path / "in.csv", bundle, reading=Reading(Options(escaped=True)))
    first, second = csv.DictReader(io.StringIO(target.read_text()))
    assert first["note"] == text.replace('\\"', '"').replace("\\\\", "\\")
    assert float(first["probability"]) == probability(predictor, {"income": 5, "owner": 1})
    assert float(second["probability"]) == probability(
        predictor, {"income": 6, "contract": "none", "owner": 1}
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pair_of_a_backslash_is_read_across_pieces(tmp_path: Path, size: int) -> None:
    (tmp_path / "in.csv").write_bytes(b'"a\\\\","\\"b\\\\\\"",\\N\\')
    with TextFile(tmp_path / "in.csv", "", "utf-8", escaped=True) as file:
        assert b"".join(iter(lambda: file.read(size), b"")) == b'"a\\","""b\\""",\\N\\'


@pytest.mark.parametrize("encoding", ["mac_roman", "cp437", "cp850"])
@pytest.mark.parametrize("word", ["Orléans", "MÜNCHEN", "caf\u00e9", "fa\u00e7ade", "ma\u00eetre"])
@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_text_of_another_age_is_not_taken_for_windows(
    bundle: Bundle, tmp_path: Path, encoding: str, word: str, name: str
) -> None:
    row = {"income": 5, "contract": "none", "owner": 1, "note": word}
    text = f"{','.join(row)}\n{','.join(map(str, row.values()))}\n"
    if name == "in.jsonl":
        text = json.dumps(row, ensure_ascii=False) + "\n"
    (tmp_path / name).write_bytes(text.encode(encoding))
    with pytest.raises(BatchRefused, match="say which it is with --encoding, such as mac_roman or cp850"):
        scored(tmp_path / name, bundle)
    _, _, target = scored(tmp_path / name, bundle, reading=Reading(Options(encoding=encoding)))
    assert word in target.read_text("utf-8-sig")
    (tmp_path / name).write_bytes(text.replace(word, f"l’{word} – “{word}” €").encode("cp1252"))
    assert scored(tmp_path / name, bundle)[1].encoding == "cp1252"


def test_scored_file_can_be_scored_again(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("income,contract,owner\n5,none,1\n")
    _, _, first = scored(tmp_path / "in.csv", bundle)
    _, _, second = scored(first, bundle, out="two.csv")
    scored(second, bundle, out="three.csv")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "three.csv").read_text()))
    assert len({row[f"{prefix}probability"] for prefix in ("", "hotrow_", "hotrow_hotrow_")}) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [("in.csv", b"income,contract,owner\n"), ("in.jsonl", b""), ("in.csv", b"income,contract,owner")],
)
@pytest.mark.parametrize("out", ["out.csv", "out.jsonl", "out.parquet", "out.arrow"])
def test_file_without_rows_becomes_one_without_rows(
    bundle: Bundle, tmp_path: Path, name: str, content: bytes, out: str
) -> None:
    (tmp_path / name).write_bytes(content)
    totals, _, target = scored(tmp_path / name, bundle, out=out)
    assert totals.rows == 0
    if out == "out.csv":
        assert target.read_text().endswith("probability,decision\n")
    elif out != "out.jsonl":
        table = pl.read_parquet(target) if out == "out.parquet" else pl.read_ipc(target)
        assert table.columns[-2:] == ["probability", "decision"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, out])


def test_second_run_on_one_output_is_refused_and_the_first_is_whole(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("income,contract,owner\n" + "5,none,1\n" * 100)
    seen: list[str] = []

    def second(*_: int) -> None:
        with pytest.raises(BatchRefused, match="no other run"):
            scored(tmp_path / "in.csv", bundle, "skip")
        seen.append("refused")

    BatchJob(tmp_path / "in.csv", tmp_path / "out.csv", bundle, "fail", 1).run(second)
    assert seen == ["refused"]
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 101
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_part_that_is_gone_refuses_the_join(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("income,contract,owner\n5,none,1\n")

    def remove(*_: int) -> None:
        (tmp_path / ".out.csv.parts" / "00000000.csv").unlink()

    with pytest.raises(BatchRefused, match="as they were written"):
        BatchJob(tmp_path / "in.csv", tmp_path / "out.csv", bundle, "fail", 1).run(remove)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize("way", ["exchanged", "written to", "gone"])
@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.parquet"])
def test_file_that_changes_while_it_is_scored_is_refused(
    bundle: Bundle, tmp_path: Path, name: str, way: str
) -> None:
    """Nothing is written of two files: of Parquet the packed columns would stand beside others' answers."""
    source, other = tmp_path / name, tmp_path / f"other-{name}"
    for path, income in ((source, 5), (other, 7)):
        table = pl.DataFrame({"income": [income] * 100, "contract": ["none"] * 100, "owner": [True] * 100})
        write = {".csv": "write_csv", ".jsonl": "write_ndjson", ".parquet": "write_parquet"}[path.suffix]
        getattr(table, write)(path)

    def change(*_: int) -> None:
        if way == "exchanged":
            other.replace(source)
        elif way == "written to":
            source.write_bytes(other.read_bytes())
            os.utime(source, ns=(0, 1))  # a clock may stand still between two writes
        else:
            source.unlink()

    with pytest.raises(BatchRefused, match=f"{name} to stay as it was"):
        BatchJob(source, tmp_path / f"out{source.suffix}", bundle, "fail", 1).run(change)
    assert {path.name for path in tmp_path.iterdir()} <= {name, f"other-{name}"}


def test_parts_of_a_bundle_with_another_threshold_are_not_used(
    three: Path, bundle: Bundle, tmp_path: Path
) -> None:
    from dataclasses import replace

    (tmp_path / "in.csv").write_text("income,contract,owner\n5,none,1\n")

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BatchJob(tmp_path / "in.csv", tmp_path / "out.csv", bundle, "fail", 1).run(stop)
    other = replace(bundle, decision=replace(bundle.decision, threshold=0.99), digest="0" * 64)
    totals, _, _ = scored(tmp_path / "in.csv", other)
    assert (totals.rows, totals.resumed_rows) == (1, 0)


def test_columns_that_cannot_be_written_are_named_before_scoring(bundle: Bundle, tmp_path: Path) -> None:
    columns = {"income": [5.0], "contract": ["none"], "owner": [True]}
    table = pl.DataFrame(columns | {"tags": [[1]], "raw": [b"\0"], "s": [{"a": 1}]})
    table.write_parquet(tmp_path / "in.parquet")
    with pytest.raises(BatchRefused, match="got tags, raw, s: write to"):
        scored(tmp_path / "in.parquet", bundle)
    with pytest.raises(BatchRefused, match="got raw: write to"):
        scored(tmp_path / "in.parquet", bundle, out="out.jsonl")
    _, _, target = scored(tmp_path / "in.parquet", bundle, out="out.parquet")
    assert pl.read_parquet(target).select(table.columns).equals(table)


def test_digits_stay_as_they_are(bundle: Bundle, tmp_path: Path) -> None:
    big = "123456789012345678901234567890"
    (tmp_path / "in.jsonl").write_text(f'{{"id": {big}, "income": 5, "contract": "none", "owner": 1}}\n')
    for out in ("out.csv", "out.parquet"):
        _, _, target = scored(tmp_path / "in.jsonl", bundle, out=out)
        text = pl.read_parquet(target).write_csv() if out == "out.parquet" else target.read_text()
        assert f"\n{big}," in text
    (tmp_path / "in.csv").write_text(f"id,income,contract,owner\n{big},5,none,1\n")
    _, _, target = scored(tmp_path / "in.csv", bundle, out="out.jsonl")
    assert f'"id":"{big}","income":5.0,"contract":"none","owner":1,' in target.read_text()


def test_standard_input_and_output(three: Path, tmp_path: Path) -> None:
    command = python("-m", "server.batch", "--nice", "0", "-", "-", "--model", str(three))
    text = b"income;contract;owner\n5,5;none;1\n"
    done = subprocess.run(command, input=gzip.compress(text), capture_output=True, cwd=Path.cwd())
    assert done.returncode == 0
    assert done.stdout.startswith(b"income;contract;owner;probability;decision\n5,5;none;1;0,")
    assert b"separated by ';', decimal comma" in done.stderr


ROW = {"income": 1234.5, "contract": "none", "owner": True}
TABLE = pl.DataFrame({"income": [1234.5, 9.0], "contract": ["none", None], "owner": [1, 0]})
LINES = b'{"income": 1234.5, "contract": "none", "owner": 1}\n{"income": 9, "owner": 0}\n'


def binary(write: str) -> bytes:
    out = io.BytesIO()
    getattr(TABLE, write)(out)
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("__MACOSX/._rows.csv", b"\0")
    return out.getvalue()


CSV = b"income,contract,owner\n1234.5,none,1\n9,,0\n"
ARRAY = b"[" + LINES.strip().replace(b"\n", b",\n  ") + b"]"
#: A file, how it is called, and its bytes.
FILES: list[tuple[str, str, bytes]] = [
    ("CSV, as Python writes it", "in.csv", CSV),
    (
        "CSV of Excel in France: `;`, decimal comma, Windows-1252",
        "in.csv",
        "income;contract;owner;ville\n1234,5;none;1;Orléans\n9;;0;\n".encode("cp1252"),
    ),
    (
        "CSV of Excel in Germany: thousands parted by points",
        "in.csv",
        b"income;contract;owner\n1.234,5;none;1\n9;;0\n",
    ),
    ("CSV with a `sep=` line", "in.csv", b"sep=|\n" + CSV.replace(b",", b"|")),
    ("Unicode text of Excel: UTF-16, tabs", "in.txt", CSV.decode().replace(",", "\t").encode("utf-16")),
    ("TSV", "in.tsv", CSV.replace(b",", b"\t")),
    ("CSV of R: quoted texts, NA", "in.csv", b'"income","contract","owner"\n1234.5,"none",1\n9,NA,0\n'),
    ("CSV of MySQL or Postgres: \\N", "in.csv", CSV.replace(b"9,,", b"9,\\N,")),
    ("CSV of pandas with N/A", "in.csv", CSV.replace(b"9,,0", b"9,N/A,0")),
    ("CSV in UTF-32", "in.csv", CSV.decode().encode("utf-32")),
    (
        "CSV in Mac Roman",
        "in.csv",
        "income,contract,owner,ville\n1234.5,none,1,Orléans\n9,,0,\n".encode("mac_roman"),
    ),
    ("CSV separated by ^", "in.csv", CSV.replace(b",", b"^")),
    ("CSV below a title", "in.csv", b"Report 2026,,\n\n" + CSV),
    ("CSV of Excel in the USA: thousands parted by commas", "in.csv", CSV.replace(b"1234.5", b'"1,234.5"')),
    ("CSV whose only large number is 1,234", "in.csv", CSV.replace(b"1234.5", b'"1,234"')),
    (
        "CSV whose only large number is 1.234, between semicolons",
        "in.csv",
        CSV.replace(b"1234.5", b"1.234").replace(b",", b";"),
    ),
    (
        "CSV with CRLF, a mark and an empty last line",
        "in.csv",
        b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n") + b"\r\n",
    ),
    ("CSV of an old Macintosh: CR", "in.csv", CSV.replace(b"\n", b"\r")),
    (
        "CSV with the labels of the description as names",
        "in.csv",
        CSV.replace(b"income,contract,owner", b"Monthly income,Contract,Owns a home"),
    ),
    ("CSV with trailing separators in every line", "in.csv", CSV.replace(b"\n", b",,\n")),
    ("CSV with names in capitals", "in.csv", CSV.upper().replace(b"NONE", b"none")),
    ("CSV without a header", "in.csv", CSV.partition(b"\n")[2]),
    ("CSV with a row too long", "in.csv", CSV + b"5,none,1,1\n"),
    ("CSV of MySQL, Spark or R: quotes behind a backslash", "in.csv", CSV.replace(b"none", b'"5\\" pipe"')),
    ("CSV with an unescaped quote", "in.csv", CSV.replace(b"none", b'"5" pipe"')),
    ("CSV of which no column is a feature", "in.csv", b"a,b\n1,2\n"),
    ("CSV without the column of a feature", "in.csv", b"income,contract\n1,none\n"),
    ("CSV, gzip", "in.csv.gz", gzip.compress(CSV)),
    ("CSV, gzip, called .csv", "in.csv", gzip.compress(CSV)),
    ("CSV, bzip2", "in.csv.bz2", bz2.compress(CSV)),
    ("CSV, xz", "in.csv.xz", lzma.compress(CSV)),
    ("CSV, gzip twice", "in.csv.gz", gzip.compress(gzip.compress(CSV))),
    ("CSV alone in a zip archive", "in.zip", zipped({"rows.csv": CSV, ".DS_Store": b"\0"})),
    ("zip archive of two files", "in.zip", zipped({"rows.csv": CSV, "more.csv": CSV})),
    ("CSV, gzip, a part of UNLOAD without an ending", "rows_0000_part_00.gz", gzip.compress(CSV)),
    ("CSV, Zstandard", "in.csv.zst", zstd.compress(CSV)),
    ("CSV, Zstandard of pzstd", "in.csv.zst", b"\x50\x2a\x4d\x18\x04\0\0\0size" + zstd.compress(CSV)),
    ("CSV, gzip, cut short", "in.csv.gz", gzip.compress(CSV)[:-9]),
    ("JSON Lines", "in.jsonl", LINES),
    ("JSON Lines, a row without a member of the model", "in.jsonl", LINES + b'{"a": 1}\n'),
    ("JSON Lines called .txt", "in.txt", LINES),
    ("JSON, one array of objects", "in.json", ARRAY),
    ("JSON, one array of objects in UTF-16", "in.json", ARRAY.decode().encode("utf-16")),
    ("JSON, arrays line by line", "in.jsonl", b'["income"]\n[1]\n'),
    (
        "JSON, a table by column (pandas' to_json)",
        "in.json",
        b'{"income": {"0": 1}, "owner": {"0": 1}, "contract": {"0": "none"}}',
    ),
    ("JSON, a table with its columns (split)", "in.json", b'{"columns": ["income"], "data": [[1]]}'),
    ("JSON, an array of arrays (values)", "in.json", b'[[5, "none"], [9, null]]'),
    ("JSON, the body of a request", "in.json", b'{"rows": [{"income": 1}]}'),
    ("CSV below a comment", "in.csv", b"# of the 3rd\n" + CSV),
    ("CSV with a total below", "in.csv", CSV + b"Total: 2 rows,,\n"),
    ("CSV of Postgres: t and f", "in.csv", CSV.replace(b",1\n", b",t\n").replace(b",0\n", b",f\n")),
    (
        "CSV of Excel in Germany: WAHR and FALSCH",
        "in.csv",
        CSV.replace(b",1\n", b",WAHR\n").replace(b",0\n", b",FALSCH\n"),
    ),
    ("CSV with a word for missing of its own", "in.csv", CSV.replace(b"9,,0", b"9,none,?")),
    ("CSV with currencies", "in.csv", CSV.replace(b"1234.5", b"$1234.5")),
    ("JSON Lines, gzip", "in.jsonl.gz", gzip.compress(LINES)),
    ("workbook of old Excel called .csv", "in.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0"),
    ("a web page called .csv", "in.csv", b"<!DOCTYPE html><p>log in"),
    ("worksheet of LibreOffice", "in.ods", zipped({"content.xml": b"", "META-INF/manifest.xml": b""})),
    ("worksheet of Numbers", "in.numbers", zipped({"Index/Document.iwa": b"", "preview.jpg": b""})),
    ("Avro called .csv", "in.csv", b"Obj\x01\x04\x14avro.codec"),
    ("Parquet that is a pointer of Git LFS", "in.parquet", b"version https://git-lfs.github.com/spec/v1\n"),
    ("Parquet", "in.parquet", binary("write_parquet")),
    ("Parquet, gzip", "in.parquet.gz", gzip.compress(binary("write_parquet"))),
    ("Arrow file", "in.arrow", binary("write_ipc")),
    ("Arrow stream", "in.arrow", binary("write_ipc_stream")),
    ("Excel workbook", "in.xlsx", binary("write_excel")),
    ("Parquet, cut short", "in.parquet", binary("write_parquet")[:-9]),
    ("a picture called .csv", "in.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
]


def test_table_of_files_says_what_becomes_of_each(
    bundle: Bundle, predictor: Predictor, tmp_path: Path
) -> None:
    expected = [probability(predictor, ROW), probability(predictor, {"income": 9, "owner": 0})]
    rows = []
    for i, (words, name, content) in enumerate(FILES):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / name).write_bytes(content)
        try:
            totals, layout, target = scored(folder / name, bundle, out="out.parquet")
        except HotrowError as error:
            rows.append([words, name, f"refused: {error}".replace(str(folder / name), name)])
            continue
        assert (totals.rows, totals.bad_rows) == (2, 0)
        assert pl.read_parquet(target)["probability"].to_list() == expected, words
        rows.append([words, name, "scored" + (f"; {', '.join(layout.notes)}" if layout.notes else "")])
    hold("Files", ["file", "name", "`python -m server.batch`"], rows)


def test_every_case_of_a_command_is_a_sentence(three: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("income,contract,owner\n5,none,1\n")
    for options, code in (
        (["--separator", "ab"], 2),
        (["--encoding", "nope"], 2),
        (["--encoding", "rot13"], 2),
        (["--columns", "a=income,b"], 2),
        (["--columns", "x=income"], 1),
        (["--columns", "income=incme"], 1),
        (["--encoding", "utf-16"], 1),
    ):
        done = run(
            "-m",
            "server.batch",
            "--nice",
            "0",
            str(tmp_path / "in.csv"),
            str(tmp_path / "o.csv"),
            "--model",
            str(three),
            *options,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), (options, done.stderr)


def test_endings_name_formats() -> None:
    from server.batch.formats import format_named

    assert format_named(Path("a.TSV.gz")) == FileFormat(".csv", "\t", ".gz")
    assert format_named(Path("a.b.ndjson")) == FileFormat(".jsonl")
    with pytest.raises(BatchRefused, match=r"ends in \.csv"):
        format_named(Path("a.gz"))
