"""A scored file, part by part: blocks in threads, parts beside the output, one rename at the end."""

import fcntl
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import orjson
import polars as pl

from server.batch.blocks import BLOCK_BYTES, Block, blocks_of
from server.batch.formats import (
    ARROW,
    CSV,
    EXCEL,
    PARQUET,
    PARQUET_LEVEL,
    STANDARD,
    TEXTS,
    FileFormat,
    compressed,
    format_named,
    opened,
)
from server.batch.layout import Reading, check_writable, layout_of
from server.batch.parquet_columns import add_columns, can_be_added_to
from server.batch.results import Totals, described, refusal, write_report
from server.batch.scorer import BatchScorer, OnBadRow, Output
from server.batch.source_state import refuse_changed, state_of
from server.batch.tables import TABLE_ROWS, table_height, table_schema
from server.batch.unpacked import readable
from server.batch.values import for_worksheet, held_by
from server.compiled.backend import ROW_BYTES, Name
from server.errors import MAX_REPORTED, BadValue, BatchRefused
from server.model.bundle import Bundle

#: So much of a text is on the disk before the next is written: at the end there is little to wait for.
_SYNCED_BYTES = 32 * 2**20
#: A worksheet has 1,048,576 rows, the header among them (Excel specifications and limits).
MAX_SHEET_ROWS = 1_048_575


class BatchJob:
    """Scores `source` into `target`, which is there complete or not at all.

    Parts are kept in a folder beside the target until it is complete: the same
    command goes on after an interruption, and no second run works on one target.
    `threads` blocks are in work at once, so memory does not grow with the file.
    `-` is standard input and output.
    """

    def __init__(
        self,
        source: Path,
        target: Path,
        bundle: Bundle,
        on_bad_row: OnBadRow,
        threads: int,
        reading: Reading | None = None,
        backend: Name = "onnx",
    ) -> None:
        self.source, self.target, self._bundle, self._threads = source, target, bundle, threads
        self._reading = reading or Reading()
        self._on_bad_row = on_bad_row
        self._check_paths()
        self._spool = tempfile.TemporaryDirectory(prefix="hotrow-batch-")
        with ExitStack() as unfinished:
            unfinished.callback(self._spool.cleanup)
            self._path, self._format = readable(source, Path(self._spool.name))
            self._state = state_of(self._path)
            self._to = self._target_format()
            where = "standard input" if source == STANDARD else str(source)
            self.layout = layout_of(self._path, self._format, bundle, self._reading, where)
            check_writable(self._path, self._format.kind, self._to.kind)
            self._is_copied = self._can_be_copied()
            self._scorer = BatchScorer(bundle, self.layout, self._output(), backend, self._bytes())
            self._folder = self._parts_folder()
            unfinished.pop_all()

    @property
    def size(self) -> int | None:
        """How much there is to do: bytes of text, rows of a table; None if that is not known before."""
        if self._format.kind not in TEXTS:
            return table_height(self._path, self._format.kind)
        return None if self._format.compression else self._path.stat().st_size

    def _bytes(self) -> int:
        """About how much there is to do, in bytes of text."""
        size = self.size
        if size is None:
            return self._path.stat().st_size * 4  # what text usually comes to
        return size if self._format.kind in TEXTS else size * ROW_BYTES

    @property
    def notes(self) -> tuple[str, ...]:
        """How the file is read and scored, as far as that is not as usual."""
        return (*self.layout.notes, *filter(None, [self._scorer.backend.note]))

    def run(self, advance: Callable[[int, int], None]) -> Totals:
        """Score everything; `advance` is told the size and the rows of each part that is done.

        Raises `BatchRefused` and leaves no output if a row is bad and bad rows fail.
        """
        try:
            with self._locked():
                return self._run(advance)
        except OSError as error:
            raise BatchRefused(
                f"expected to write beside {self.target}, got: {error.strerror or error}"
            ) from None
        finally:
            self._spool.cleanup()

    def _run(self, advance: Callable[[int, int], None]) -> Totals:
        totals = Totals()
        done = self._open_folder()
        totals.resumed_rows = sum(part["rows"] for part in done)
        bad: list[BadValue] = []
        try:
            with self._joined() as add:
                for part in self._parts(done):
                    totals.rows += part["rows"]
                    totals.bad_rows += part["bad_rows"]
                    bad += [BadValue(*entry) for entry in part.pop("bad")[: MAX_REPORTED - len(bad)]]
                    if part["bad_rows"] and self._on_bad_row == "fail":
                        raise refusal(self._bundle, str(self.source), part["bad_rows"], bad, self.layout)
                    advance(part["size"], part["rows"])
                    add(part)
            refuse_changed(self._path, self._state, self.source)
            self._hand_over()
        except BatchRefused:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        totals.report = write_report(self.target, bad)
        shutil.rmtree(self._folder)
        return totals

    def _check_paths(self) -> None:
        source, target = self.source, self.target
        if source != STANDARD and not source.exists():
            raise BatchRefused(f"expected a file to score, got none at {source}")
        if source.is_dir():
            raise BatchRefused(
                f"expected a file to score, got the folder {source}: --engine ray scores folders"
            )
        if (source != STANDARD and target.exists() and target.samefile(source)) or target.is_dir():
            raise BatchRefused(f"expected another file than the input to write, got {target}")

    def _target_format(self) -> FileFormat:
        """The format of the output: on standard output the input's."""
        return FileFormat(self._format.kind) if self.target == STANDARD else format_named(self.target)

    def _output(self) -> Output:
        """What is written: of CSV with the separator of the output's ending, or else the input's own."""
        own = "" if self._format.separator else self.layout.dialect.separator
        separator = self._to.separator or (own if self.layout.kind == CSV else "") or ","
        # Parts of Parquet are Arrow: they are packed once, when they are put together.
        kind = ARROW if self._to.kind == PARQUET else self._to.kind
        reading = self._reading
        return Output(
            kind, separator, self._on_bad_row, reading.allow_missing, reading.reasons, alone=self._is_copied
        )

    def _can_be_copied(self) -> bool:
        """Whether the input's columns are written as they are packed, with the new ones beside them."""
        kinds, path = {self._format.kind, self._to.kind}, self._path
        # A row that is left out is left out of every column.
        wanted = kinds == {PARQUET} and self._on_bad_row != "skip"
        return wanted and can_be_added_to(path, table_schema(path, PARQUET))

    def _parts_folder(self) -> Path:
        if self.target == STANDARD:
            return Path(tempfile.mkdtemp(prefix="hotrow-batch-"))
        return self.target.with_name(f".{self.target.name}.parts")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the target alone; raises `BatchRefused` if another run of this machine does."""
        if self.target == STANDARD:
            yield
            return
        path = self._folder.with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path) as held:
            if not held:
                raise BatchRefused(
                    f"expected no other run that writes {self.target}, got one under way: "
                    "wait for it, or name another output"
                )
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def _identity(self) -> dict[str, Any]:
        """What must be the same for parts to belong to this job."""
        source = "-" if self.source == STANDARD else str(self.source.resolve())
        return {
            "source": [source, self._state.size, self._state.changed_ns],
            "model": [self._bundle.label, self._bundle.digest],
            "on_bad_row": self._on_bad_row,
            "block": [BLOCK_BYTES, TABLE_ROWS],
            "layout": self.layout,
            "to": self._to,
            "reading": self._reading,
            "copied": self._is_copied,
        }

    def _open_folder(self) -> list[dict[str, Any]]:
        """The folder of parts, and what is known of those that an interrupted run left."""
        identity = self._folder / "job.json"
        wanted = orjson.dumps(self._identity(), default=list)
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
                for block in self._some(self._blocks(done), not done):
                    waiting.append(pool.submit(self._make_part, block))
                    if len(waiting) > self._threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _blocks(self, done: list[dict[str, Any]]) -> Iterator[Block]:
        rows = sum(part["rows"] for part in done)
        return blocks_of(
            self._path, self._format.compression, self.layout, self._scorer.read, len(done), rows
        )

    def _some(self, blocks: Iterator[Block], none_yet: bool) -> Iterator[Block]:
        """The blocks; of a file without records an empty one, so that there is a part to make a file of."""
        for block in blocks:
            none_yet = False
            yield block
        if none_yet:
            yield Block(0, self.layout.first_line, 0, b"")

    def _make_part(self, block: Block) -> dict[str, Any]:
        result = self._scorer.score(block)
        self._write(self._part(block.number), result.content)
        part = described(block, result)
        self._write(self._part(block.number).with_suffix(".json"), orjson.dumps(part))
        return part

    def _part(self, index: int) -> Path:
        return self._folder / f"{index:08d}{self._to.kind if self._to.kind in TEXTS else ARROW}"

    def _write(self, path: Path, content: bytes) -> None:
        """A part is there whole or not: a killed run leaves nothing that looks done."""
        draft = path.with_suffix(path.suffix + ".draft")
        draft.write_bytes(content)
        draft.replace(path)

    @contextmanager
    def _joined(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A function that takes the parts in order: a thread puts them together while others are scored."""
        ready: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        with ThreadPoolExecutor(1) as pool:
            joining = pool.submit(self._join, self._whole_parts(ready))

            def add(part: dict[str, Any]) -> None:
                if joining.done():
                    joining.result()  # raises: there is no use in scoring more
                ready.put(part)

            try:
                yield add
            except BaseException:
                ready.put(None)
                raise
            ready.put({})
            joining.result()

    def _whole_parts(self, ready: "SimpleQueue[dict[str, Any] | None]") -> Iterator[Path]:
        """The files of the parts that come, until an empty one ends them, each as it was written."""
        while part := ready.get():
            path = self._part(part["index"])
            if not path.exists() or path.stat().st_size != part["bytes"]:
                raise BatchRefused(
                    f"expected the parts in {self._folder} as they were written, got others: "
                    "run the command again, and no other on the same output"
                )
            yield path
        if part is None:
            raise _Interrupted

    def _join(self, paths: Iterator[Path]) -> None:
        """Put the parts together as they come."""
        if self._to.kind in TEXTS:
            header = self._scorer.columns() if self._to.kind == CSV else b""
            _concatenate(paths, self._whole, self._mark() + header)
        elif self._is_copied:
            add_columns(self._path, map(pl.read_ipc, paths), self._whole)
        else:
            with held_by(self._to.kind):
                _write_table(list(paths), self._whole, self._to.kind)

    def _mark(self) -> bytes:
        """Excel tells UTF-8 by a mark: one stands where the input had one, or was no UTF-8."""
        if self._to.kind != CSV or self.layout.kind != CSV:
            return b""
        with opened(self._path, self._format.compression) as file:
            marked = file.read(3) == b"\xef\xbb\xbf"
        return b"\xef\xbb\xbf" if marked or self.layout.encoding != "utf-8" else b""

    @property
    def _whole(self) -> Path:
        return self._folder / "whole"

    def _hand_over(self) -> None:
        compressed(self._whole, self._to.compression)
        with open(self._whole, "rb") as file:
            if self.target == STANDARD:
                shutil.copyfileobj(file, sys.stdout.buffer, 2**20)
                sys.stdout.buffer.flush()
                return
            os.fsync(file.fileno())
        self._whole.replace(self.target)


class _Interrupted(Exception):
    """No more parts come."""


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold a lock on a file that whoever holds it removes at the end; False if another process has it."""
    while True:
        with open(path, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            # Between the opening and the lock its holder may have removed it.
            if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                yield True
                return


def _concatenate(paths: Iterator[Path], whole: Path, beginning: bytes) -> None:
    with open(whole, "wb") as out:
        out.write(beginning)
        synced = 0
        for path in paths:
            with open(path, "rb") as part:
                shutil.copyfileobj(part, out, 2**20)
            if out.tell() - synced > _SYNCED_BYTES:
                os.fdatasync(out.fileno())
                synced = out.tell()


def _write_table(paths: list[Path], whole: Path, kind: str) -> None:
    parts = pl.scan_ipc(paths, glob=False)
    if kind == EXCEL:
        rows = parts.select(pl.len()).collect().item()
        if rows > MAX_SHEET_ROWS:
            raise BatchRefused(
                f"expected at most {MAX_SHEET_ROWS:,} rows for a worksheet, got {rows:,}: write to .parquet"
            )
        for_worksheet(parts.collect()).write_excel(whole.with_suffix(".xlsx"))
        whole.with_suffix(".xlsx").replace(whole)
    elif kind == PARQUET:
        parts.sink_parquet(whole, compression="zstd", compression_level=PARQUET_LEVEL)
    else:
        parts.sink_ipc(whole)
