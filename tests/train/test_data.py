import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from server.zstandard import zstd
from tests.support.compatibility import hold
from train.errors import DataError
from train.tables.data import APPLICATIONS, BUREAU, CARDS, SAMPLE, load
from train.tables.features import MONOTONE, SCHEMA

APPLICATION_ROWS = """\
SK_ID_CURR,TARGET,NAME_CONTRACT_TYPE,CODE_GENDER,AMT_INCOME_TOTAL,AMT_CREDIT,AMT_ANNUITY,NAME_INCOME_TYPE,\
NAME_EDUCATION_TYPE,DAYS_BIRTH,DAYS_EMPLOYED,EXT_SOURCE_1,EXT_SOURCE_2,EXT_SOURCE_3,FLAG_DOCUMENT_3
100003,0,Cash loans,F,270000.0,1293502.5,35698.5,State servant,Higher education,-16765,-1188,0.31,0.62,,1
100002,1,Cash loans,M,202500.0,406597.5,,Working,Secondary / secondary special,-9461,-637,,0.26,0.14,0
100004,0,Revolving loans,XNA,117000000.0,135000.0,6750.0,Pensioner,Academic degree,-21915,365243,,,0.73,1
"""
BUREAU_ROWS = "SK_ID_CURR,SK_ID_BUREAU,AMT_CREDIT_SUM_OVERDUE\n100002,1,0.0\n100002,2,40.5\n100003,3,\n"
CARD_ROWS = (
    "SK_ID_PREV,SK_ID_CURR,CNT_DRAWINGS_ATM_CURRENT\n1,100003,4.0\n1,100003,\n2,100003,1.0\n3,100002,\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / APPLICATIONS).write_text(APPLICATION_ROWS)
    (tmp_path / BUREAU).write_text(BUREAU_ROWS)
    (tmp_path / CARDS).write_text(CARD_ROWS)
    return tmp_path


def row(folder: Path, position: int) -> dict[str, object]:
    rows, _ = load(folder)
    return SCHEMA.fields(rows.features[position].tolist())


def test_features_are_those_of_the_specification() -> None:
    assert SCHEMA.names == (
        "EXT_SOURCE_1",
        "EXT_SOURCE_2",
        "EXT_SOURCE_3",
        "NAME_EDUCATION_TYPE",
        "NAME_INCOME_TYPE",
        "FLAG_DOCUMENT_3",
        "CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean",
        "BUREAU_AMT_CREDIT_SUM_OVERDUE_max",
        "AMT_INCOME_TOTAL",
        "AMT_CREDIT",
        "AMT_ANNUITY",
        "AGE_YEARS",
        "YEARS_EMPLOYED",
    )
    required = {feature.name for feature in SCHEMA.features if not feature.nullable}
    assert required == {"AMT_INCOME_TOTAL", "AMT_CREDIT", "AGE_YEARS"}
    assert set(MONOTONE) < set(SCHEMA.names)
    assert all(feature.label and feature.help and feature.group for feature in SCHEMA.features)
    assert all(f.default is None or f.encode(f.default) >= 0 for f in SCHEMA.features)
    assert all(len(f.categories) == len(f.category_labels) for f in SCHEMA.features)


def test_clients_are_read_with_the_maximum_overdue_and_the_mean_of_drawings(folder: Path) -> None:
    rows, sources = load(folder)
    assert rows.target.tolist() == [1, 0, 0]
    assert rows.complete.all()
    assert [(source.file, source.rows) for source in sources] == [(APPLICATIONS, 3), (BUREAU, 3), (CARDS, 4)]
    assert row(folder, 0) == {
        "EXT_SOURCE_2": 0.26,
        "EXT_SOURCE_3": 0.14,
        "NAME_EDUCATION_TYPE": "Secondary / secondary special",
        "NAME_INCOME_TYPE": "Working",
        "FLAG_DOCUMENT_3": 0,
        "BUREAU_AMT_CREDIT_SUM_OVERDUE_max": 40.5,
        "AMT_INCOME_TOTAL": 202500.0,
        "AMT_CREDIT": 406597.5,
        "AGE_YEARS": 9461 / 365.25,
        "YEARS_EMPLOYED": 637 / 365.25,
    }
    assert rows.watched["CODE_GENDER"].tolist() == ["Male", "Female", "Not stated"]
    assert row(folder, 1)["CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean"] == 2.5


def test_a_client_without_work_or_without_rows_elsewhere_is_missing_those_features(folder: Path) -> None:
    pensioner = row(folder, 2)
    assert "YEARS_EMPLOYED" not in pensioner
    assert "BUREAU_AMT_CREDIT_SUM_OVERDUE_max" not in pensioner
    assert "CRECARD_CNT_DRAWINGS_ATM_CURRENT_mean" not in pensioner
    assert pensioner["AMT_INCOME_TOTAL"] == 117_000_000


def test_zipped_files_give_the_same_rows(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    zipped = tmp_path_factory.mktemp("zipped")
    for file in folder.iterdir():
        with zipfile.ZipFile(zipped / f"{file.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(file, file.name)
    np.testing.assert_array_equal(load(zipped)[0].features, load(folder)[0].features)


def test_the_order_of_rows_and_columns_does_not_matter(folder: Path) -> None:
    before, _ = load(folder)
    for file in folder.iterdir():
        table = pl.read_csv(file, infer_schema=False)
        table.select(reversed(table.columns)).reverse().write_csv(file)
    np.testing.assert_array_equal(load(folder)[0].features, before.features)


def test_the_sample_adds_clients_it_does_not_repeat_and_marks_them(folder: Path) -> None:
    sample = pl.read_csv(folder / APPLICATIONS).with_columns(
        SK_ID_CURR=pl.Series([100_001, 100_002, 100_009])
    )
    sample.write_parquet(folder / SAMPLE)
    rows, sources = load(folder)
    assert rows.complete.tolist() == [False, True, True, True, False]
    assert sources[-1].file == SAMPLE
    index = SCHEMA.names.index("BUREAU_AMT_CREDIT_SUM_OVERDUE_max")
    assert np.isnan(rows.features[~rows.complete, index]).all()


def rewrite(change: Callable[[str], str | bytes]) -> Callable[[Path], None]:
    """Every file of the folder changed in the same way."""

    def made(folder: Path) -> None:
        for file in folder.iterdir():
            changed = change(file.read_text())
            file.write_bytes(changed if isinstance(changed, bytes) else changed.encode())

    return made


def packed(ending: str, pack: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        for file in list(folder.iterdir()):
            (folder / f"{file.name}{ending}").write_bytes(pack(file.read_bytes()))
            if ending:
                file.unlink()

    return made


def one_archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / "home-credit-default-risk.zip", "w") as archive:
        for file in sorted(folder.glob("*.csv")):
            archive.writestr(f"__MACOSX/._{file.name}", b"x")
            archive.write(file, f"home/{file.name}")
            file.unlink()


def as_parquet(folder: Path) -> None:
    for file in list(folder.iterdir()):
        words = pl.col(pl.String).cast(pl.Categorical)
        pl.read_csv(file).with_columns(words).write_parquet(file.with_suffix(".parquet"))
        file.unlink()


def in_folders_of_their_names(folder: Path) -> None:
    for file in list(folder.iterdir()):
        content = file.read_bytes()
        file.unlink()
        file.mkdir()
        (file / file.name).write_bytes(content)


def in_upper_case(folder: Path) -> None:
    for file in list(folder.iterdir()):
        file.rename(folder / file.name.upper())


def each_line(change: Callable[[str, int], str]) -> Callable[[Path], None]:
    return rewrite(lambda text: "".join(change(line, i) + "\n" for i, line in enumerate(text.splitlines())))


def header(change: Callable[[str], str]) -> Callable[[Path], None]:
    return each_line(lambda line, i: line if i else change(line))


def word_for_missing(word: str) -> Callable[[Path], None]:
    def filled(line: str, i: int) -> str:
        return ",".join(cell or word for cell in line.split(","))

    return each_line(filled)


FORMS: dict[str, Callable[[Path], None]] = {
    "gzip": packed(".gz", gzip.compress),
    "gzip without the ending": packed("", gzip.compress),
    "zstd": packed(".zst", lambda content: zstd.compress(content[:60]) + zstd.compress(content[60:])),
    "pzstd": packed(".zst", lambda content: b"\x50\x2a\x4d\x18\x04\0\0\0size" + zstd.compress(content)),
    "bzip2": packed(".bz2", bz2.compress),
    "xz": packed(".xz", lzma.compress),
    "one archive": one_archive,
    "parquet with categories": as_parquet,
    "folders of the files' names": in_folders_of_their_names,
    "upper-case file names": in_upper_case,
    "semicolons": rewrite(lambda text: text.replace(",", ";")),
    "sep= line": rewrite(lambda text: "sep=;\n" + text.replace(",", ";")),
    "semicolons and decimal commas": rewrite(lambda text: text.replace(",", ";").replace(".", ",")),
    "tabs": rewrite(lambda text: text.replace(",", "\t")),
    "UTF-16": rewrite(lambda text: text.encode("utf-16")),
    "UTF-16 without a mark": rewrite(lambda text: text.encode("utf-16-be")),
    "byte order mark": rewrite(lambda text: text.encode("utf-8-sig")),
    "CRLF": rewrite(lambda text: text.replace("\n", "\r\n")),
    "CR alone": rewrite(lambda text: text.replace("\n", "\r")),
    "blank lines": rewrite(lambda text: "\n" + text.replace("\n", "\n  \n") + "\n\n"),
    "rows of nothing at the end": rewrite(
        lambda text: text + "," * text.partition("\n")[0].count(",") + "\n"
    ),
    "no last line end": rewrite(str.rstrip),
    "a column in Latin-1": each_line(lambda line, _: f"{line},caf\xe9"),
    "Latin-1": rewrite(lambda text: text.replace("\n", ",caf\xe9\n").encode("latin-1")),
    "quoted line break in the last row": rewrite(
        lambda text: text.rstrip().replace("\n", ",note\n") + ',"one, ""two""\n\nthree"'
    ),
    "lower-case header": header(str.lower),
    "header with blanks": header(lambda line: line.replace(",", " , ").replace("_", " ")),
    "blanks around values": each_line(lambda line, _: line.replace(",", " , ")),
    **{f"{word} for missing": word_for_missing(word) for word in ("NA", "nan", "NaN", "NULL", "\\N", "None")},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_files_are_read_as_people_have_them(folder: Path, form: str) -> None:
    before, _ = load(folder)
    FORMS[form](folder)
    rows, _ = load(folder)
    np.testing.assert_array_equal(rows.features, before.features)
    np.testing.assert_array_equal(rows.target, before.target)


def test_an_archive_of_all_tables_is_named_itself(folder: Path) -> None:
    before, _ = load(folder)
    one_archive(folder)
    rows, sources = load(folder / "home-credit-default-risk.zip")
    np.testing.assert_array_equal(rows.features, before.features)
    assert sources[0].file == f"{APPLICATIONS} in home-credit-default-risk.zip"


def test_ids_and_outcomes_are_read_as_pandas_writes_them(folder: Path) -> None:
    before, _ = load(folder)
    path = folder / APPLICATIONS
    table = pl.read_csv(path).with_columns(pl.col("SK_ID_CURR").cast(pl.Float64), pl.col("TARGET") == 1)
    table.write_csv(path)
    rows, _ = load(folder)
    np.testing.assert_array_equal(rows.features, before.features)
    np.testing.assert_array_equal(rows.target, before.target)


def test_it_is_said_of_how_many_clients_a_table_has_rows(folder: Path) -> None:
    rewrite(lambda text: text + "," * text.partition("\n")[0].count(",") + "\n")(folder)
    _, sources = load(folder)
    assert [(source.clients, source.empty_rows) for source in sources] == [(3, 1), (2, 1), (2, 1)]


def test_a_table_cut_between_two_rows_shows_in_clients_that_only_others_have(folder: Path) -> None:
    header, first, cut, other = (folder / APPLICATIONS).read_text().splitlines(keepends=True)
    assert cut.startswith("100002")
    (folder / APPLICATIONS).write_text(header + first + other)
    _, sources = load(folder)
    assert [(source.clients, source.other_clients) for source in sources] == [(2, 0), (1, 1), (1, 1)]


def edit(file: str, old: str, new: str) -> Callable[[Path], None]:
    def mistake(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return mistake


def replace(file: str, content: bytes) -> Callable[[Path], None]:
    def mistake(folder: Path) -> None:
        (folder / file).write_bytes(content)

    return mistake


def zipped(name: str, content: bytes) -> Callable[[Path], None]:
    def mistake(folder: Path) -> None:
        (folder / BUREAU).unlink()
        with zipfile.ZipFile(folder / f"{BUREAU}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)

    return mistake


def damaged_zip(cut: slice) -> Callable[[Path], None]:
    def mistake(folder: Path) -> None:
        zipped(BUREAU, BUREAU_ROWS.encode() * 50)(folder)
        path = folder / f"{BUREAU}.zip"
        path.write_bytes(path.read_bytes()[cut])

    return mistake


def flip_a_byte(folder: Path) -> None:
    damaged_zip(slice(None))(folder)
    path = folder / f"{BUREAU}.zip"
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)


def sample_of_other_outcomes(folder: Path) -> None:
    table = pl.read_csv(folder / APPLICATIONS)
    table.with_columns(TARGET=1 - pl.col("TARGET")).write_parquet(folder / SAMPLE)


def folder_of_that_name(folder: Path) -> None:
    (folder / BUREAU).unlink()
    (folder / BUREAU).mkdir()


def rounded_ids(folder: Path) -> None:
    """As a spreadsheet writes them back from a narrow column."""
    lines = (folder / APPLICATIONS).read_text().replace("100002,", "1E+05,").replace("100003,", "1E+05,")
    (folder / APPLICATIONS).write_text(lines)


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing file": (lambda folder: (folder / CARDS).unlink(), "credit_card_balance.csv.zip"),
    "empty file": (replace(BUREAU, b""), "bureau.csv, got an empty file"),
    "folder of a file's name": (folder_of_that_name, "got application_train.csv, bureau.csv/, credit_card"),
    "ids that a spreadsheet rounded": (rounded_ids, "got 100000 2 times, written '1E+05': a spreadsheet"),
    "blank file": (replace(BUREAU, b"\n\n"), "bureau.csv"),
    "only a header": (replace(BUREAU, b"SK_ID_CURR,AMT_CREDIT_SUM_OVERDUE\n"), "a header without any"),
    "no table": (replace(BUREAU, b"\x00\xff\xfe\x80" * 9), "bureau.csv"),
    "no zip": (lambda folder: (folder / CARDS).rename(folder / f"{CARDS}.zip"), "a whole zip archive"),
    "truncated zip": (damaged_zip(slice(0, 80)), "a whole zip archive"),
    "flipped byte": (flip_a_byte, "a whole zip archive"),
    "another file in the zip": (zipped("other.csv", b"x"), "an archive without it"),
    "missing column": (edit(APPLICATIONS, "EXT_SOURCE_2", "EXT_SOURCE_9"), "the column EXT_SOURCE_2"),
    "text for a number": (
        edit(APPLICATIONS, "406597.5", "much"),
        "column AMT_CREDIT of application_train.csv",
    ),
    "inf for a number": (
        edit(APPLICATIONS, "406597.5", "inf"),
        "application_train.csv, got 'inf' in data row",
    ),
    "nan where a value is needed": (
        edit(APPLICATIONS, "406597.5", "nan"),
        "got null in AMT_CREDIT of client",
    ),
    "text in bureau": (edit(BUREAU, "40.5", "forty"), "data row 2"),
    "text for a client": (edit(CARDS, "1,100003,4.0", "1,somebody,4.0"), "an integer in column SK_ID_CURR"),
    "target 2": (edit(APPLICATIONS, "100002,1", "100002,2"), "0 or 1 in column TARGET"),
    "no target": (edit(APPLICATIONS, "100002,1", "100002,"), "0 or 1 in column TARGET"),
    "client twice": (edit(APPLICATIONS, "100004", "100003"), "every SK_ID_CURR once"),
    "unknown category": (edit(APPLICATIONS, "Pensioner", "Retired"), "NAME_INCOME_TYPE of client 100004"),
    "required value missing": (edit(APPLICATIONS, "135000.0", ""), "AMT_CREDIT of client 100004"),
    "target in words": (edit(APPLICATIONS, "100002,1", "100002,Yes"), "0 or 1 in column TARGET"),
    "out of range": (
        edit(APPLICATIONS, "-21915", "-219150"),
        "AGE_YEARS, which DAYS_BIRTH says in days, of client",
    ),
    "cut short": (edit(APPLICATIONS, ",,,0.73,1\n", ","), "got 12, in the last row: the file is cut short"),
    "table of strangers": (
        replace(BUREAU, BUREAU_ROWS.replace("1000", "9000").encode()),
        "of application_train.csv in bureau.csv, got none (its first SK_ID_CURR is 900002, theirs 100003)",
    ),
    "column without a value": (
        replace(BUREAU, b"SK_ID_CURR,AMT_CREDIT_SUM_OVERDUE\n100002,\n100003,NA\n"),
        "values in column AMT_CREDIT_SUM_OVERDUE of bureau.csv, got none in all 2 rows",
    ),
    "short row in the middle": (edit(CARDS, "1,100003,\n", "1,100003\n"), "3 fields in data row 2"),
    "long row": (edit(CARDS, "1,100003,\n", "1,100003,,\n"), "3 fields in data row 2"),
    "quote that never ends": (edit(CARDS, "1,100003,\n", '"1,100003,\n'), "quotes in pairs"),
    "half a gzip file": (replace(BUREAU, gzip.compress(BUREAU_ROWS.encode())[:-9]), "bureau.csv to be whole"),
    "half a zstd file": (replace(BUREAU, zstd.compress(BUREAU_ROWS.encode())[:-3]), "to be whole"),
    "half an xz file": (replace(BUREAU, lzma.compress(BUREAU_ROWS.encode())[:-9]), "to be whole"),
    "half a bzip2 file": (replace(BUREAU, bz2.compress(BUREAU_ROWS.encode())[:-9]), "to be whole"),
    "two columns of one name": (
        edit(CARDS, "SK_ID_PREV,SK_ID_CURR", "sk_id_curr,Sk_Id_Curr"),
        "the column SK_ID_CURR once",
    ),
    "sample of other outcomes": (sample_of_other_outcomes, "the same TARGET in application_train_sample"),
    "cut in the header": (replace(BUREAU, b"SK_ID_CURR,SK_ID_B"), "the column AMT_CREDIT_SUM_OVERDUE"),
    "sample is no parquet": (replace(SAMPLE, b"PAR1 but not really"), "to be a Parquet file"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_in_the_data_is_one_sentence(folder: Path, name: str) -> None:
    make, expected = MISTAKES[name]
    make(folder)
    with pytest.raises(DataError) as error:
        load(folder)
    message = str(error.value)
    assert expected in message
    assert message.startswith("expected ")
    assert "\n" not in message


def test_what_becomes_of_each_form_is_in_the_document(tmp_path: Path) -> None:
    rows = []
    for i, (name, make) in enumerate(
        {**FORMS, **{name: make for name, (make, _) in MISTAKES.items()}}.items()
    ):
        folder = tmp_path / str(i)
        folder.mkdir()
        for file, text in ((APPLICATIONS, APPLICATION_ROWS), (BUREAU, BUREAU_ROWS), (CARDS, CARD_ROWS)):
            (folder / file).write_text(text)
        make(folder)
        try:
            load(folder)
            rows.append((name, "read"))
        except DataError as refusal:
            sentence = str(refusal).replace(f"{folder}/", "").replace(str(folder), "the folder")
            rows.append((name, f"refused: {sentence.partition(': ')[0]}"))
    hold("Training data", ("Home Credit's files", "what `python -m train` does"), rows)


def test_a_missing_folder_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere, got none: name it with --data"):
        load(tmp_path / "nowhere")
