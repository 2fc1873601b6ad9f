"""One row by compiled code: the bits of ONNX Runtime, or ONNX Runtime itself with a sentence."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
import psutil
import pytest

from export.lightgbm.model import convert_lightgbm
from loadtest.harness.subject import family, has_ended, runs
from server.compiled import kept, row_compiler, row_walk
from server.compiled.forest import NotCompilable
from server.compiled.kept import read_sealed, sealed, write_sealed
from server.compiled.row_code import RowCode, code_in, keep, kept_code, margin_by, path_of
from server.compiled.row_compiler import row_code as made_code
from server.compiled.trees import forest_of, parity_rows
from server.durable import lock
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.server.compiled.test_trees import categories, classes, float32, forest, zero_is_missing
from tests.support.export_models import export, train_lightgbm
from tests.support.servers import eventually, exchange, post, serving


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hotrow"


def large(folder: Path) -> Bundle:
    options = {"objective": "regression", "num_leaves": 200, "min_data_in_leaf": 2}
    return export(folder, convert_lightgbm(train_lightgbm(options, "value", 9)))


@pytest.mark.parametrize("make", [categories, float32, forest, large])
def test_a_row_has_the_bits_of_onnx_runtime(make: Callable[[Path], Bundle], tmp_path: Path) -> None:
    bundle = make(tmp_path)
    predictor = Predictor(bundle)
    score = margin_by(made_code(bundle), predictor)
    matrix = parity_rows(forest_of(bundle), 5003)
    assert [score(row.tobytes()) for row in matrix] == predictor.margins(matrix).tolist()
    predictor.score_by(score)
    for row in matrix[
        :50
    ]:  # and so has whatever is made of a margin, with the last one where it is looked for
        margin = predictor.margin(row.tobytes())
        assert predictor.last_margins() == [margin] == predictor.row_margins(row.tobytes())
    predictor.check_golden_rows()


@pytest.mark.parametrize(
    ("make", "why"), [(classes, "several outputs"), (zero_is_missing, "prepares the rows")]
)
def test_what_is_not_compiled_says_why(make: Callable[[Path], Bundle], why: str, tmp_path: Path) -> None:
    with pytest.raises(NotCompilable, match=why):
        made_code(make(tmp_path))


def test_code_that_differs_by_a_bit_is_not_used(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = row_walk.row_table

    def wrong(*arguments: object) -> row_walk.RowTable:
        table = exact(*arguments)  # type: ignore[arg-type]
        return table._replace(weights=np.nextafter(table.weights, np.inf))

    monkeypatch.setattr(row_compiler, "row_table", wrong)
    with pytest.raises(NotCompilable, match="not equal to the bit"):
        made_code(Bundle.load(three))


def test_code_is_kept_by_the_process_that_makes_it(three: Path, cache: Path) -> None:
    bundle = Bundle.load(three)
    assert kept_code(bundle) is None
    made = compile_row(three, bundle.digest)
    assert made.returncode == 0
    there = kept_code(bundle)
    assert isinstance(there, RowCode)
    assert sealed(there.packed()) == made.stdout == path_of(bundle).read_bytes()
    assert cache.stat().st_mode & 0o777 == 0o700
    found = code_in(made.stdout, bundle)
    assert isinstance(found, RowCode)
    assert found.packed() == there.packed()


def compile_row(folder: Path, digest: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "server.compiled.row_compiler", str(folder), digest]
    return subprocess.run(command, capture_output=True, check=False)


def test_no_code_but_this_users_of_this_bundle_is_run(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.load(three)
    code, path = made_code(bundle), path_of(bundle)
    write_sealed(path, code.packed())
    assert kept_code(bundle) is not None
    path.chmod(0o622)  # as if somebody else could have written it
    assert kept_code(bundle) is None
    write_sealed(path, code._replace(digest="another").packed())
    assert kept_code(bundle) is None
    path.write_bytes(sealed(code.packed())[:-1])
    assert kept_code(bundle) is None
    write_sealed(path, code.packed())
    monkeypatch.setattr(onnxruntime, "__version__", "1.0")  # what it was compared with
    assert kept_code(bundle) is None


def test_process_says_what_keeps_it_from_compiling(three: Path, tmp_path: Path) -> None:
    other = compile_row(three, "another digest")
    assert other.returncode == 1
    assert b"expected the bundle that is served in " in other.stdout
    assert compile_row(tmp_path / "gone", "").returncode == 1


def test_why_a_bundle_is_not_compiled_is_kept_too(tmp_path: Path) -> None:
    bundle = classes(tmp_path / "classes")
    made = compile_row(bundle.directory, bundle.digest)
    assert made.returncode == 0
    assert code_in(made.stdout, bundle) == kept_code(bundle) == "it has several outputs"


def test_without_a_compiler_it_says_what_is_missing(
    three: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.delitem(sys.modules, "server.compiled.trees")
    assert row_compiler.main([str(three), Bundle.load(three).digest]) == 1
    assert "llvmlite" in capsys.readouterr().out


def test_user_without_a_home_has_no_cache(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container's user that is an id alone."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    bundle = Bundle.load(three)
    keep(path_of(bundle), "no reason")
    assert kept_code(bundle) is None


def test_row_of_another_length_is_refused(three: Path) -> None:
    bundle = Bundle.load(three)
    score = margin_by(made_code(bundle), Predictor(bundle))
    with pytest.raises(ValueError, match="expected 24 bytes of a row, got 16"):
        score(bytes(16))


def test_nothing_is_written_where_nothing_can_be_kept(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    bundle = Bundle.load(three)
    made = compile_row(three, bundle.digest)
    assert made.returncode == 0
    assert code_in(made.stdout, bundle) is not None
    assert kept_code(bundle) is None


def test_what_was_not_used_for_longest_goes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both kinds of code, and of drafts that nobody finished; never what was just made."""
    names = ["one.o", "two.row", "tmpdraft", "row.lock", "three.o"]
    cache.mkdir(parents=True)
    for seconds, name in enumerate(names):
        write_sealed(cache / name, b"") if name != "row.lock" else (cache / name).touch()
        os.utime(cache / name, (seconds, seconds))
    monkeypatch.setattr(kept, "MAX_FILES", 3)
    assert read_sealed(cache / "one.o") == b""  # and so it is the last that was used
    write_sealed(cache / "four.row", b"")
    assert {path.name for path in cache.iterdir()} == {"row.lock", "three.o", "one.o", "four.row"}
    monkeypatch.setattr(kept, "MAX_BYTES", 100)
    write_sealed(cache / "large.o", bytes(1000))
    assert {path.name for path in cache.iterdir()} == {"row.lock", "large.o"}


@pytest.mark.whole
def test_workers_without_a_cache_compile_once(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    log = tmp_path / "server.log"
    with serving(three, tmp_path, row_backend="auto", workers="2"):
        eventually(lambda: log.read_text().count("scored by compiled trees") == 2)
        (folder,) = (tmp_path / "temporary").glob("hotrow-*")
        made = [path.suffix for path in (folder / "hotrow").iterdir()]
        assert sorted(made) == [".lock", ".row"]
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.whole
def test_server_answers_by_compiled_code_once_there_is_some(three: Path, tmp_path: Path) -> None:
    """The first of two servers makes it meanwhile, the second finds it; a reload keeps to it."""
    bundle = Bundle.load(three)
    rows = [(orjson.dumps(dict(one.fields)), one.outputs[0]) for one in bundle.golden_rows()]
    log = tmp_path / "server.log"
    for _ in range(2):
        with serving(three, tmp_path, row_backend="auto") as subject:
            assert [_scored(subject.url, body) for body, _ in rows] == [output for _, output in rows]
            eventually(lambda: log.read_text().count("scored by compiled trees") == 1)
            assert [_scored(subject.url, body) for body, _ in rows] == [output for _, output in rows]
            subject.process.send_signal(signal.SIGHUP)
            eventually(lambda: log.read_text().count("scored by compiled trees") == 2)
            assert [_scored(subject.url, body) for body, _ in rows] == [output for _, output in rows]


@pytest.mark.whole
def test_compiler_that_stands_still_stops_no_answer_and_no_end(three: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(three)
    rows = [(orjson.dumps(dict(one.fields)), one.outputs[0]) for one in bundle.golden_rows()]
    path_of(bundle).parent.mkdir(parents=True)
    with path_of(bundle).with_name("row.lock").open("wb") as guard:
        lock(guard.fileno(), 0.0, 0.0)  # so it is there when it is looked for
        with serving(three, tmp_path, row_backend="auto") as subject:
            found: list[psutil.Process] = []

            def compiles() -> bool:  # a thread looks first whether code was kept
                found[:] = [child for child in family(subject.pid) if runs(child, row_compiler.__name__)]
                return bool(found)

            eventually(compiles)
            (compiler,) = found
            compiler.suspend()
            assert [_scored(subject.url, body) for body, _ in rows] == [output for _, output in rows]
            subject.process.send_signal(signal.SIGTERM)
            assert subject.process.wait(30) == 0
        assert has_ended(compiler.pid)


def _scored(url: str, body: bytes) -> float:
    (response,) = exchange(url, post("/predict", body))
    found: float = orjson.loads(response.body)["probability"]
    return found
