"""A scored file, part by part: blocks in threads, parts beside the output, one rename at the end."""

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from server.batch.blocks import BLOCK_BYTES, Block, csv_blocks, csv_header, line_blocks, parquet_blocks
from server.batch.columns import BatchRefused
from server.batch.scorer import CSV, LINES, PARQUET, Bad, BatchScorer, OnBadRow, Result, first_members
from server.model.bundle import GRAPH_FILE, Bundle

ENDINGS = {".csv": CSV, ".jsonl": LINES, ".ndjson": LINES, ".parquet": PARQUET, ".pq": PARQUET}
#: Bad rows that are written to the report; the others are counted.
MAX_REPORTED = 100_000


@dataclass
class Totals:
    """What a job did."""

    rows: int = 0
    bad_rows: int = 0
    resumed_rows: int = 0
    report: Path | None = None


def format_of(path: Path) -> str:
    """The format a file's ending names; raises `BatchRefused`."""
    try:
        return ENDINGS[path.suffix.lower()]
    except KeyError:
        raise BatchRefused(
            f"expected a file that ends in {', '.join(ENDINGS)}, got {path.name}: rename it"
        ) from None


def columns_of(path: Path) -> list[str]:
    """The names of a file's columns, or of its first rows' members; raises `BatchRefused`."""
    if format_of(path) == CSV:
        return csv_header(path)
    if format_of(path) == LINES:
        return first_members(path)
    try:
        return list(pl.read_parquet_schema(path))
    except pl.exceptions.PolarsError as error:
        first = str(error).strip().splitlines()[0]
        raise BatchRefused(f"expected {path} to be a Parquet file, got: {first}") from None


class BatchJob:
    """Scores `source` into `target`, which is there complete or not at all.

    Parts are kept in a folder beside the target until it is complete: the same
    command goes on after an interruption. `threads` blocks are in work at once, so
    memory does not grow with the file.
    """

    def __init__(
        self, source: Path, target: Path, bundle: Bundle, on_bad_row: OnBadRow, threads: int
    ) -> None:
        self.source, self.target, self._bundle = source, target, bundle
        self._from, self._to, self._on_bad_row = format_of(source), format_of(target), on_bad_row
        if not source.is_file():
            raise BatchRefused(f"expected a file to score, got none at {source}")
        if target.resolve() == source.resolve() or target.is_dir():
            raise BatchRefused(f"expected another file than the input to write, got {target}")
        self._threads = threads
        self._folder = target.with_name(f".{target.name}.parts")
        self._scorer = BatchScorer(bundle, columns_of(source), self._from, self._to, on_bad_row)

    @property
    def size(self) -> int:
        """How much there is to do: bytes of text, rows of Parquet."""
        if self._from == PARQUET:
            rows: int = pl.scan_parquet(self.source).select(pl.len()).collect().item()
            return rows
        return self.source.stat().st_size

    def run(self, advance: Callable[[int, int], None]) -> Totals:
        """Score everything; `advance` is told the size and the rows of each part that is done.

        Raises `BatchRefused` and leaves no output if a row is bad and bad rows fail.
        """
        totals = Totals()
        try:
            done = self._open_folder()
            totals.resumed_rows = sum(part["rows"] for part in done)
            bad: list[Bad] = []
            for part in self._parts(done):
                totals.rows += part["rows"]
                totals.bad_rows += part["bad_rows"]
                bad += [Bad(*entry) for entry in part["bad"][: MAX_REPORTED - len(bad)]]
                if part["bad_rows"] and self._on_bad_row == "fail":
                    raise refusal(self._bundle, self.source, part["bad_rows"], bad)
                advance(part["size"], part["rows"])
            self._join(totals.rows)
        except BatchRefused:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        except OSError as error:
            raise BatchRefused(f"expected to write beside {self.target}, got: {error.strerror}") from None
        totals.report = write_report(self.target, bad)
        shutil.rmtree(self._folder)
        return totals

    def _identity(self) -> dict[str, Any]:
        """What must be the same for parts to belong to this job."""
        stat = self.source.stat()
        return {
            "source": [str(self.source.resolve()), stat.st_size, stat.st_mtime_ns],
            "model": [self._bundle.label, self._bundle.manifest["files"][GRAPH_FILE]],
            "schema": self._bundle.manifest["features"],
            "on_bad_row": self._on_bad_row,
            "block_bytes": BLOCK_BYTES,
        }

    def _open_folder(self) -> list[dict[str, Any]]:
        """The folder of parts, and what is known of those that an interrupted run left."""
        identity = self._folder / "job.json"
        wanted = orjson.dumps(self._identity())
        if identity.is_file() and identity.read_bytes() == wanted:
            known = sorted(self._folder.glob("*.json"))
            parts = [orjson.loads(path.read_bytes()) for path in known if path != identity]
            return [part for i, part in enumerate(parts) if part["index"] == i]
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        identity.write_bytes(wanted)
        return []

    def _parts(self, done: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Every part in order, those of an earlier run first; blocks are scored in threads."""
        yield from done
        with ThreadPoolExecutor(self._threads) as pool:
            waiting: deque[Future[dict[str, Any]]] = deque()
            try:
                for block in self._blocks(done):
                    waiting.append(pool.submit(self._make_part, block))
                    if len(waiting) > self._threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _blocks(self, done: list[dict[str, Any]]) -> Iterable[Block]:
        if self._from == PARQUET:
            return parquet_blocks(self.source, sum(part["rows"] for part in done), len(done))
        blocks = csv_blocks(self.source) if self._from == CSV else line_blocks(self.source)
        return (block for block in blocks if block.number >= len(done))

    def _make_part(self, block: Block) -> dict[str, Any]:
        result = self._scorer.score(block)
        self._write(self._part(block.number), result.content)
        part = described(block, result)
        self._write(self._part(block.number).with_suffix(".json"), orjson.dumps(part))
        return part

    def _part(self, index: int) -> Path:
        return self._folder / f"{index:08d}{self._to}"

    def _write(self, path: Path, content: bytes) -> None:
        """A part is there whole or not: a killed run leaves nothing that looks done."""
        draft = path.with_suffix(path.suffix + ".draft")
        draft.write_bytes(content)
        draft.replace(path)

    def _join(self, rows: int) -> None:
        parts = sorted(path for path in self._folder.glob(f"*{self._to}"))
        if not rows:
            raise BatchRefused(f"expected rows in {self.source}, got none")
        whole = self._folder / "whole"
        if self._to == PARQUET:
            pl.scan_parquet(parts).sink_parquet(whole)
        else:
            with open(whole, "wb") as out:
                if self._to == CSV:
                    out.write(self._scorer.columns())
                for path in parts:
                    with open(path, "rb") as part:
                        shutil.copyfileobj(part, out, 2**20)
        whole.replace(self.target)


def write_report(target: Path, bad: list[Bad]) -> Path | None:
    """`OUT.bad.csv`, a line a bad value; one of an earlier run does not stay."""
    path = target.with_name(target.name + ".bad.csv")
    path.unlink(missing_ok=True)
    if not bad:
        return None
    pl.DataFrame(bad, schema=["line", "feature", "detail"], orient="row").write_csv(path)
    return path


def refusal(bundle: Bundle, source: Path, bad_rows: int, bad: list[Bad]) -> BatchRefused:
    """The sentence about bad rows, the first of them named."""
    first = "; ".join(": ".join(filter(None, (f"line {b.line}", b.feature, b.detail))) for b in bad[:10])
    words = "a row that is" if bad_rows == 1 else f"{bad_rows} rows that are"
    return BatchRefused(
        f"expected rows of {bundle.label} in {source}, got {words} not ({first}): "
        "correct them, or choose --on-bad-row skip or null"
    )


def described(block: Block, result: Result) -> dict[str, Any]:
    """What is kept of a part beside its content."""
    return {
        "index": block.number,
        "size": block.size,
        "rows": result.rows,
        "bad_rows": result.bad_rows,
        "bad": [list(bad) for bad in result.bad[:MAX_REPORTED]],
    }
