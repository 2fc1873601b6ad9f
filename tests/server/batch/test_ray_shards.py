"""A data set cut into shards, scored and written: what every node of a cluster does, in one process."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from server.batch import results as batch_results
from server.batch.blocks import Block
from server.batch.cluster import ray_job as batch_ray
from server.batch.cluster.ray_cluster import Where
from server.batch.cluster.ray_job import RayJob
from server.batch.cluster.shard_folder import MANIFEST_FILE, SUCCESS_FILE, ShardFolder
from server.batch.cluster.shard_scorer import REFUSED, UNFIT, ShardJob, score_shard
from server.batch.cluster.shards import Cut, count, cuts_of, files_of, layouts_of, placed, read
from server.batch.job import BatchJob
from server.batch.layout import FileLayout
from server.batch.results import BlockResult, Totals
from server.batch.scorer import Output
from server.compiled.backend import Name
from server.errors import BadValue, BatchRefused
from server.model.bundle import Bundle
from tests.server.batch.test_batch import BAD, LENIENT, lines, table
from tests.support.bundles import THREE_FEATURES, sample_rows
from tests.support.servers import run

pytestmark = pytest.mark.whole

ROWS = sample_rows(THREE_FEATURES, 300)


def layout(source: Path, three: Path) -> FileLayout:
    return layouts_of([source], Bundle.load(three), LENIENT)[0]


def shard_job(source: Path, out: Path, three: Path, ending: str, on_bad_row: Any = "fail") -> ShardJob:
    sha256 = Bundle.load(three).digest
    return ShardJob(str(three), sha256, layout(source, three), str(out), Output(ending, ",", on_bad_row))


@pytest.mark.parametrize("log", ["_delta_log", ".hoodie"])
def test_folder_of_a_table_with_a_log_is_refused(three: Path, tmp_path: Path, log: str) -> None:
    """Files of rows that were deleted lie in it, too."""
    write(tmp_path / "part-0.parquet")
    assert files_of(tmp_path)
    (tmp_path / log).mkdir()
    with pytest.raises(BatchRefused, match="which keeps rows that were changed or deleted"):
        files_of(tmp_path)


def cut(source: Path, size: int, three: Path) -> list[Cut]:
    cuts = list(cuts_of([source], [layout(source, three)], size))
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
    BatchJob(path, whole, Bundle.load(three), "fail", 1, LENIENT).run(lambda *_: None)
    (out / "_work").mkdir(parents=True)
    cuts = cut(path, 37 if source == "parquet" else 1111, three)
    for one in reversed(cuts):  # with equal bits, whatever scores them
        backend: Name = "compiled" if one.number % 2 else "onnx"
        score_shard(shard_job(path, out, three, f".{target}")._replace(backend=backend), one)
    shards = sorted(out.glob("part-*"))
    assert len(shards) == len(cuts) > 5
    if target == "parquet":
        assert pl.read_parquet(shards).equals(pl.read_parquet(whole))
        return
    header = whole.read_bytes().partition(b"\n")[0] + b"\n" if target == "csv" else b""
    assert header + b"".join(s.read_bytes().removeprefix(header) for s in shards) == whole.read_bytes()


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 10**6])
def test_every_record_is_in_one_shard_wherever_the_cuts_fall(three: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "in.csv"
    text = 'income,"b\nb"\n' + "".join(f'{i},"x ""{i}\n\n,"\n' for i in range(20)) + "last,1"
    path.write_bytes(text.encode())
    blocks = [read(one, layout(path, three)) for one in cut(path, size, three)]
    contents = [block.content for block in blocks if isinstance(block.content, bytes)]
    assert b"".join(contents).decode() == text.partition('b"\n')[2]
    for block in blocks:
        assert isinstance(block.content, bytes)
        if block.content:
            assert block.content.count(b'"') % 2 == 0
            at = text.encode().index(block.content)
            assert block.first == 1 + text.encode().count(b"\n", 0, at)


def test_mark_at_the_beginning_of_lines_is_no_content(three: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"income": 1}\n{"income": 2}\n')
    blocks = [read(one, layout(path, three)).content for one in cut(path, 5, three)]
    assert [content for content in blocks if len(content)] == [b'{"income": 1}\n', b'{"income": 2}\n']


def test_shard_is_written_once_whoever_comes_second(three: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out"
    write(path)
    (out / "_work").mkdir(parents=True)
    job, (first, *_) = shard_job(path, out, three, ".csv"), cut(path, 1111, three)
    known = score_shard(job, first)
    shard = out / known["name"]
    before = shard.stat()
    assert score_shard(job, first) == known
    (out / "_work" / "00000000.json").unlink()  # as if its writer had died before it told
    assert score_shard(job, first) | {"writer": ""} == known | {"writer": ""}
    after = shard.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, before.st_mtime_ns, 1)
    assert [path.name for path in (out / "_work").iterdir()] == ["00000000.json"]


@pytest.mark.parametrize("kept", [0, 100])
def test_shard_of_which_a_power_cut_kept_a_part_is_written_anew(
    three: Path, tmp_path: Path, kept: int
) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out"
    write(path)
    (out / "_work").mkdir(parents=True)
    job, (first, *_) = shard_job(path, out, three, ".csv"), cut(path, 1111, three)
    shard = out / score_shard(job, first)["name"]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:kept])
    (out / "_work" / "00000000.json").unlink()
    known = score_shard(job, first)
    assert shard.read_bytes() == whole
    assert (known["bytes"], known["sha256"]) == (len(whole), sha256(whole).hexdigest())
    assert [path.name for path in (out / "_work").iterdir()] == ["00000000.json"]


@pytest.mark.parametrize("on_bad_row", ["fail", "skip", "null"])
def test_bad_rows_of_a_shard_are_named_by_their_lines(three: Path, tmp_path: Path, on_bad_row: Any) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out"
    path.write_text(table(BAD))
    (out / "_work").mkdir(parents=True)
    job = shard_job(path, out, three, ".csv", on_bad_row)
    shards = [score_shard(job, one) for one in cut(path, 60, three)]
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
    assert "the same bundle" in score_shard(job, cut(path, 1111, three)[0])[UNFIT]


def test_input_that_is_no_table_and_a_path_that_a_node_lacks_are_told_apart(
    three: Path, tmp_path: Path
) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b"income,owner\n" + b"1,1\n" * 5000 + b"1,\xff\n")
    job = shard_job(path, tmp_path / "out", three, ".csv")
    job = job._replace(layout=job.layout._replace(encoding="utf-8"))
    assert "in line 5002" in score_shard(job, cut(path, 1111, three)[-1])[REFUSED]
    assert "No such file" in score_shard(job, Cut(0, str(tmp_path / "no.csv"), 0, 9))[UNFIT]


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Ray's place is taken by this process; what was in the folder `out` each time it was left."""
    found: list[list[str]] = []

    @contextmanager
    def here(where: Where) -> Iterator[None]:
        try:
            yield
        finally:
            found.append(sorted(path.name for path in Path(where.address).iterdir()))

    monkeypatch.setattr(batch_ray, "cluster", here)
    # Ray gives no order: the last shard comes first.
    monkeypatch.setattr(
        batch_ray, "mapped", lambda function, items, job: (function(item, job) for item in reversed(items))
    )
    return found


def ray_job(tmp_path: Path, three: Path, on_bad_row: Any) -> RayJob:
    source, out = tmp_path / "in.csv", tmp_path / "out"
    return RayJob(source, out, Bundle.load(three), on_bad_row, Where(str(out), 1), 60, LENIENT)


@pytest.mark.usefixtures("left")
def test_bad_rows_are_told_again_by_a_run_that_finds_all_done(three: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(table(BAD))
    done = ray_job(tmp_path, three, "skip").run(lambda *_: None)
    again = ray_job(tmp_path, three, "skip").run(lambda *_: None)
    assert again == Totals(done.rows, done.bad_rows, done.rows, tmp_path / "out.bad.csv")
    assert done.bad_rows > 0

    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out.bad.csv").unlink()
    (tmp_path / "out.bad.csv").mkdir()  # where no report can be written
    with pytest.raises(IsADirectoryError):
        ray_job(tmp_path, three, "skip").run(lambda *_: None)
    assert not (tmp_path / "out" / SUCCESS_FILE).exists()  # nothing is complete without its report


@pytest.mark.usefixtures("left")
def test_of_many_bad_values_the_first_are_reported_whatever_order_shards_come_in(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.csv").write_text(table(BAD * 20))
    job = ray_job(tmp_path, three, "skip")
    whole = pl.read_csv(job.run(lambda *_: None).report or "")
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(batch_ray, "MAX_REPORTED", 7)
    monkeypatch.setattr(batch_results, "MAX_REPORTED", 7)
    totals = ray_job(tmp_path, three, "skip").run(lambda *_: None)
    assert totals.bad_rows > 7
    assert pl.read_csv(totals.report or "").equals(whole.head(7))
    block = Block(0, 1, 1, b"")
    assert (
        len(batch_results.described(block, BlockResult(b"", 9, 9, [BadValue(1, "a", "b")] * 9))["bad"]) == 7
    )


def test_folder_is_discarded_once_the_cluster_is_left(
    three: Path, tmp_path: Path, left: list[list[str]]
) -> None:
    (tmp_path / "in.csv").write_text(table(BAD))
    with pytest.raises(BatchRefused, match="line"):
        ray_job(tmp_path, three, "fail").run(lambda *_: None)
    assert "_work" in left[0]
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_discarded_is_told(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    out = tmp_path / "out"
    out.symlink_to(tmp_path / "disk")  # the link is the user's, and is not followed
    code = "import sys; from pathlib import Path; from server.batch.cluster.shard_folder import ShardFolder; "
    done = run("-c", code + "ShardFolder(Path(sys.argv[1]), '.csv').discard()", str(out))
    assert f"{out} could not be removed" in done.stderr
    assert out.is_symlink()


def test_record_longer_than_a_read_is_followed_to_its_end(three: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    for size in (2**16 - 8, 2**16 - 7, 2**16 - 6, 5 * 2**16):
        record = b'1,"' + b"x\n" * (size // 2) + b'""' + b"y" * 2**16 + b'\n"\n'
        path.write_bytes(b"income,b\n" + record + b"2,3\n")
        blocks = [read(one, layout(path, three)) for one in cut(path, 2**15, three)]
        contents = [block.content for block in blocks if isinstance(block.content, bytes)]
        assert [content for content in contents if content] == [record, b"2,3\n"]


def test_folder_of_another_job_is_left_alone(tmp_path: Path) -> None:
    folder = ShardFolder(tmp_path / "out", ".csv")
    folder.begin({"a": 1}, [Cut(0, "in.csv", 0, 9)])
    assert folder.plan({"a": 1}) == [Cut(0, "in.csv", 0, 9)]
    with pytest.raises(BatchRefused, match="remove it"):
        folder.plan({"a": 2})
    folder.finish({"a": 1}, [], [], None)
    assert folder.is_complete
    assert {path.name for path in folder.path.iterdir()} == {MANIFEST_FILE, SUCCESS_FILE}
    assert json.loads((folder.path / MANIFEST_FILE).read_bytes())["rows"] == 0


def test_folder_of_files_is_one_data_set(three: Path, tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "_SUCCESS", ".hidden.csv"):
        (tmp_path / name).write_text("income,owner\n1,1\n")
    (tmp_path / "empty.csv").touch()
    bundle = Bundle.load(three)
    files = files_of(tmp_path)
    assert [path.name for path in files] == ["a.csv", "b.csv"]
    layouts = layouts_of(files, bundle, LENIENT)
    assert layouts[0].names == ("income", "owner")
    assert [cut.path for cut in cuts_of(files, layouts, 100)] == [str(path) for path in files]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.csv", "income\n1\n", r"columns of a\.csv in c\.csv, got none of owner"),
        ("c.csv", "owner,income\n1,1\n", "another order"),
        ("c.csv", "income,owner,more\n1,1,1\n", "got more more"),
        ("c.csv", "income;owner\n1;1\n", r"c\.csv to be written as a\.csv"),
        ("c.jsonl", "{}", "one kind"),
        ("c.jsonl", '[{"income": 1}]', "expected JSON Lines for --engine ray, got an array in c.jsonl"),
        ("c.csv.gz", "\x1f\x8b", "to be whole"),
        ("day=1/c.csv", "income,owner\n1,1\n", "day=1, which is a folder"),
    ],
)
def test_file_that_does_not_belong_is_named(
    three: Path, tmp_path: Path, name: str, content: str, words: str
) -> None:
    (tmp_path / "a.csv").write_text("income,owner\n1,1\n")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(BatchRefused, match=words):
        layouts_of(files_of(tmp_path), Bundle.load(three), LENIENT)


def test_link_to_nothing_and_files_of_other_types_are_named(three: Path, tmp_path: Path) -> None:
    pl.DataFrame({"income": [1.0], "id": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"income": [1.0], "id": ["x"]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(BatchRefused, match=r"types of a\.parquet in b\.parquet, got id as String"):
        layouts_of(files_of(tmp_path), Bundle.load(three), LENIENT)
    (tmp_path / "c.parquet").symlink_to(tmp_path / "gone")
    with pytest.raises(BatchRefused, match=r"c\.parquet, which is a link to nothing"):
        files_of(tmp_path)


@pytest.mark.usefixtures("left")
def test_bad_rows_of_a_folder_name_their_file(three: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "in" / name).write_text("income,contract\n1,none\nx,none\n")
    out = tmp_path / "out"
    job = RayJob(tmp_path / "in", out, Bundle.load(three), "skip", Where(str(out), 1), 60, LENIENT)
    report = pl.read_csv(job.run(lambda *_: None).report or "")
    assert report.select("file", "line").rows() == [("a.csv", 3), ("b.csv", 3)]
    again = RayJob(
        tmp_path / "in", tmp_path / "fail", Bundle.load(three), "fail", Where(str(out), 1), 60, LENIENT
    )
    with pytest.raises(BatchRefused, match=r"in/[ab]\.csv.*line 3: income"):
        again.run(lambda *_: None)


@pytest.mark.usefixtures("left")
def test_name_of_a_file_is_never_a_pattern(three: Path, tmp_path: Path) -> None:
    for name, income in (("b?.parquet", 1.0), ("b1.parquet", 2.0)):
        pl.DataFrame({"income": [income] * 3}).write_parquet(tmp_path / name)
    out = tmp_path / "out.csv"
    assert (
        BatchJob(tmp_path / "b?.parquet", out, Bundle.load(three), "fail", 1, LENIENT)
        .run(lambda *_: None)
        .rows
        == 3
    )
    (tmp_path / "in").mkdir()
    for path in tmp_path.glob("b*.parquet"):
        path.rename(tmp_path / "in" / path.name)
    shards = tmp_path / "shards"
    job = RayJob(tmp_path / "in", shards, Bundle.load(three), "fail", Where(str(shards), 1), 60, LENIENT)
    assert job.run(lambda *_: None).rows == 6


def test_damaged_table_is_refused_by_its_name(three: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[:8] + bytes(len(content) // 2 - 8) + content[len(content) // 2 :])
    with pytest.raises(BatchRefused, match=r"in\.parquet to be a whole parquet file"):
        BatchJob(path, tmp_path / "out.csv", Bundle.load(three), "fail", 1, LENIENT).run(lambda *_: None)
    (tmp_path / "out" / "_work").mkdir(parents=True)
    job = shard_job(path, tmp_path / "out", three, ".csv")
    assert "in.parquet" in score_shard(job, cut(path, 1000, three)[0])[REFUSED]


def test_without_ray_one_sentence_says_how_to_get_it(three: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(table(ROWS))
    done = run(
        "-m", "server.batch", str(tmp_path / "in.csv"), str(tmp_path / "out"), "--model", str(three),
        "--engine", "ray",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "make ray" in done.stderr
