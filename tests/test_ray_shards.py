"""A data set cut into shards, scored and written: what every node of a cluster does, in one process."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from server.batch_columns import BatchRefused
from server.batch_folder import MANIFEST_FILE, SUCCESS_FILE, ShardFolder
from server.batch_job import BatchJob, columns_of, format_of
from server.batch_shard_scorer import REFUSED, UNFIT, ShardJob, score_shard
from server.batch_shards import Cut, count, cuts_of, files_of, header_of, placed, read
from server.bundle import Bundle
from tests.bundles import THREE_FEATURES, sample_rows
from tests.servers import run
from tests.test_batch import BAD, lines, table

ROWS = sample_rows(THREE_FEATURES, 300)


def shard_job(source: Path, out: Path, three: Path, ending: str, on_bad_row: Any = "fail") -> ShardJob:
    sha256 = Bundle.load(three).digest
    header = tuple(columns_of(source))
    return ShardJob(str(three), sha256, header, format_of(source), str(out), ending, on_bad_row)


def cut(source: Path, size: int) -> list[Cut]:
    cuts = list(cuts_of([source], size))
    return cuts if source.suffix == ".parquet" else placed(cuts, [count(one) for one in cuts])


def write(path: Path, copies: int = 1) -> None:
    if path.suffix == ".jsonl":
        path.write_text(lines(ROWS) * copies)
    elif path.suffix == ".csv":
        header, _, records = table(ROWS).partition("\n")
        path.write_text(header + "\n" + records * copies)
    else:
        columns = {n: [row.get(n) for row in ROWS] for n in ("income", "contract")}
        pl.DataFrame(columns | {"client": range(len(ROWS))}).write_parquet(path, row_group_size=70)


@pytest.mark.parametrize("source", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("target", ["csv", "jsonl", "parquet"])
def test_shards_in_their_order_are_the_local_output(
    three: Path, tmp_path: Path, source: str, target: str
) -> None:
    path, whole, out = tmp_path / f"in.{source}", tmp_path / f"whole.{target}", tmp_path / "out"
    write(path)
    BatchJob(path, whole, Bundle.load(three), "fail", 1).run(lambda *_: None)
    (out / "_work").mkdir(parents=True)
    cuts = cut(path, 37 if source == "parquet" else 1111)
    for one in reversed(cuts):
        score_shard(shard_job(path, out, three, f".{target}"), one)
    shards = sorted(out.glob("part-*"))
    assert len(shards) == len(cuts) > 5
    if target == "parquet":
        assert pl.read_parquet(shards).equals(pl.read_parquet(whole))
        return
    header = whole.read_bytes().partition(b"\n")[0] + b"\n" if target == "csv" else b""
    assert header + b"".join(s.read_bytes().removeprefix(header) for s in shards) == whole.read_bytes()


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 10**6])
def test_every_record_is_in_one_shard_wherever_the_cuts_fall(tmp_path: Path, size: int) -> None:
    path = tmp_path / "in.csv"
    text = 'a,"b\nb"\n' + "".join(f'{i},"x ""{i}\n\n,"\n' for i in range(20)) + "last,1"
    path.write_bytes(text.encode())
    blocks = [read(one) for one in cut(path, size)]
    contents = [block.content for block in blocks if isinstance(block.content, bytes)]
    assert b"".join(contents).decode() == text.partition('b"\n')[2]
    for block in blocks:
        assert isinstance(block.content, bytes)
        if block.content:
            assert block.content.count(b'"') % 2 == 0
            at = text.encode().index(block.content)
            assert block.first == 1 + text.encode().count(b"\n", 0, at)


def test_mark_at_the_beginning_of_lines_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"income": 1}\n{"income": 2}\n')
    blocks = [read(one).content for one in cut(path, 5)]
    assert [content for content in blocks if len(content)] == [b'{"income": 1}\n', b'{"income": 2}\n']


def test_shard_is_written_once_whoever_comes_second(three: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out"
    write(path)
    (out / "_work").mkdir(parents=True)
    job, (first, *_) = shard_job(path, out, three, ".csv"), cut(path, 1111)
    known = score_shard(job, first)
    shard = out / known["name"]
    before = shard.stat()
    assert score_shard(job, first) == known
    (out / "_work" / "00000000.json").unlink()  # as if its writer had died before it told
    assert score_shard(job, first) | {"writer": ""} == known | {"writer": ""}
    after = shard.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, before.st_mtime_ns, 1)
    assert [path.name for path in (out / "_work").iterdir()] == ["00000000.json"]


@pytest.mark.parametrize("on_bad_row", ["fail", "skip", "null"])
def test_bad_rows_of_a_shard_are_named_by_their_lines(three: Path, tmp_path: Path, on_bad_row: Any) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out"
    path.write_text(table(BAD))
    (out / "_work").mkdir(parents=True)
    job = shard_job(path, out, three, ".csv", on_bad_row)
    shards = [score_shard(job, one) for one in cut(path, 60)]
    assert [entry[0] for shard in shards for entry in shard["bad"]] == [4, 5, 6]
    assert sum(shard["rows"] for shard in shards) == 5
    rows = sum(
        len(shard.read_bytes().splitlines()) - 1 for shard in out.glob("part-*") if shard.stat().st_size
    )
    if on_bad_row != "fail":  # a line break is in one of them
        assert rows == {"skip": 3, "null": 6}[on_bad_row]


def test_bundle_that_is_another_on_a_node_is_refused_in_a_sentence(three: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    write(path)
    job = shard_job(path, tmp_path / "out", three, ".csv")._replace(model_sha256="0")
    assert "the same bundle" in score_shard(job, cut(path, 1111)[0])[UNFIT]


def test_input_that_is_no_table_and_a_path_that_a_node_lacks_are_told_apart(
    three: Path, tmp_path: Path
) -> None:
    path = tmp_path / "in.csv"
    path.write_text("income,owner\n1,1\n1,1,1\n")
    job = shard_job(path, tmp_path / "out", three, ".csv")
    assert "line 3" in score_shard(job, cut(path, 1111)[0])[REFUSED]
    assert "No such file" in score_shard(job, Cut(0, str(tmp_path / "no.csv"), 0, 9))[UNFIT]


def test_folder_of_another_job_is_left_alone(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path / "out", ".csv")
    folder.begin({"a": 1}, [Cut(0, "in.csv", 0, 9)])
    assert folder.plan({"a": 1}) == [Cut(0, "in.csv", 0, 9)]
    with pytest.raises(BatchRefused, match="remove it"):
        folder.plan({"a": 2})
    folder.finish({"a": 1}, [], [])
    assert folder.is_complete
    assert {path.name for path in folder.path.iterdir()} == {MANIFEST_FILE, SUCCESS_FILE}
    assert json.loads((folder.path / MANIFEST_FILE).read_bytes())["rows"] == 0


def test_folder_of_files_is_one_data_set(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "_SUCCESS", ".hidden.csv"):
        (tmp_path / name).write_text("income,owner\n1,1\n")
    files = files_of(tmp_path)
    assert [path.name for path in files] == ["a.csv", "b.csv"]
    assert header_of(files) == ["income", "owner"]
    assert [cut.path for cut in cuts_of(files, 100)] == [str(path) for path in files]
    (tmp_path / "c.csv").write_text("income\n1\n")
    with pytest.raises(BatchRefused, match=r"columns of a\.csv"):
        header_of(files_of(tmp_path))
    (tmp_path / "d.jsonl").write_text("{}")
    with pytest.raises(BatchRefused, match="one kind"):
        files_of(tmp_path)


def test_without_ray_one_sentence_says_how_to_get_it(three: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(table(ROWS))
    done = run(
        "-m", "server.batch", str(tmp_path / "in.csv"), str(tmp_path / "out"), "--model", str(three),
        "--engine", "ray",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "make ray" in done.stderr
