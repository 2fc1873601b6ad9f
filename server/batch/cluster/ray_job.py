"""A data set scored by a Ray cluster: shards over its nodes with Ray Data, whatever becomes of a node.

The rows of the Ray data set are not the rows of the files but their shards, and
each is read, scored and written by one task: Ray's own readers cut files by what a
cluster has room for, so that the content of an output file would differ from run
to run, and a shard that was written could not be told from one that is missing.
A task of a lost node is run again on another one; a shard that it had written
already stays as it is.
"""

from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from server.batch.cluster.ray_cluster import ClusterError, Where, cluster, mapped
from server.batch.cluster.shard_folder import ShardFolder
from server.batch.cluster.shard_scorer import REFUSED, UNFIT, ShardJob, score_shard
from server.batch.cluster.shards import (
    SHARD_BYTES,
    SHARD_ROWS,
    Count,
    Cut,
    count,
    cuts_of,
    files_of,
    layouts_of,
    placed,
)
from server.batch.formats import CSV, ENDINGS, EXCEL, TEXTS
from server.batch.layout import Reading, check_writable
from server.batch.results import Totals, refusal, write_report
from server.batch.scorer import BatchScorer, OnBadRow, Output
from server.batch.source_state import refuse_changed, state_of
from server.compiled.backend import ROW_BYTES, Name
from server.errors import MAX_REPORTED, BadValue, BatchRefused
from server.model.bundle import Bundle

#: Text whose line breaks and quotes are counted by one task, about a second's work.
COUNT_BYTES = 2**30


class RayJob:
    """Scores a file, or the files of a folder, into a folder of shards; a second run does the missing ones.

    `source`, `target` and the bundle are paths of a file system that every node
    sees. `shard_size` is in bytes of text or rows of Parquet.
    """

    def __init__(
        self,
        source: Path,
        target: Path,
        bundle: Bundle,
        on_bad_row: OnBadRow,
        where: Where,
        shard_size: int | None = None,
        reading: Reading | None = None,
        backend: Name = "onnx",
    ) -> None:
        self._where, self._begun = where, False
        self.source, self.target, self._bundle, self._on_bad_row = source, target, bundle, on_bad_row
        reading = reading or Reading()
        self._files = files_of(source)
        self._states = [state_of(path) for path in self._files]
        self._layouts = layouts_of(self._files, bundle, reading)
        self.layout = self._layouts[0]
        self._size = shard_size or (SHARD_BYTES if self.layout.kind in TEXTS else SHARD_ROWS)
        self._output = self._output_of(target, reading)
        check_writable(self._files[0], self.layout.kind, self._output.kind)
        BatchScorer(bundle, self.layout, self._output)  # refuses here what no node could score
        if target.is_file() or target.resolve() in (source.resolve(), self._files[0].resolve().parent):
            raise BatchRefused(f"expected a folder apart from the input for the shards, got {target}")
        self._folder = ShardFolder(target, self._output.kind)
        paths = [path.resolve() for path in self._files]
        self._cuts = self._folder.plan(self._identity()) or list(cuts_of(paths, self._layouts, self._size))
        self._job = ShardJob(
            model=str(bundle.directory.resolve()),
            model_sha256=bundle.digest,
            layout=self.layout,
            target=str(target.resolve()),
            output=self._output,
            backend=backend,
            size=self.size * (1 if self.layout.kind in TEXTS else ROW_BYTES),
        )

    def _output_of(self, target: Path, reading: Reading) -> Output:
        """The ending of the folder says what its shards are; without one they are what the input is."""
        named = ENDINGS.get(target.suffix.lower(), self.layout.kind)
        if named == EXCEL:
            raise BatchRefused(
                f"expected shards of another kind than {EXCEL}: name a folder such as OUT.parquet"
            )
        separator = "\t" if target.suffix.lower() == ".tsv" else ","
        if self.layout.kind == CSV and target.suffix.lower() != ".tsv":
            separator = self.layout.dialect.separator
        return Output(named, separator, self._on_bad_row, reading.allow_missing, reading.reasons)

    @property
    def notes(self) -> tuple[str, ...]:
        return self.layout.notes

    @property
    def size(self) -> int:
        """How much there is to do: bytes of text, rows of Parquet."""
        return sum(cut.end - cut.begin for cut in self._cuts)

    def run(self, advance: Callable[[int, int], None]) -> Totals:
        """Score every shard that is not there; `advance` is told the size and rows of each.

        Raises `BatchRefused`, and leaves no folder, if a row is bad and bad rows fail;
        `ClusterError`, and leaves what is done, if a node or the cluster fails.
        """
        if self._folder.is_complete:
            totals = self._folder.totals()
            advance(self.size, totals.rows)
            return totals
        try:
            shards, bad = self._scored(advance)
            for path, state in zip(self._files, self._states, strict=True):
                refuse_changed(path, state, path)
            return self._finished(shards, bad)
        except BatchRefused:  # the cluster has been left: no task is given there any more
            if self._begun:
                self._folder.discard()
            raise

    def _scored(self, advance: Callable[[int, int], None]) -> tuple[list[dict[str, Any]], list[BadValue]]:
        """The shards in their order, and the first bad values of all."""
        shards: dict[int, dict[str, Any]] = {}
        bad: list[tuple[int, BadValue]] = []
        with cluster(self._where):
            if self._folder.plan(self._identity()) is None:
                self._cuts = self._placed()
                self._folder.begin(self._identity(), self._cuts)
            self._begun = True  # only from here on is the folder ours to remove
            for shard in self._shards():
                number = shard["index"]
                file = shard["file"] if len(self._files) > 1 else ""
                bad += [(number, value) for value in _bad(shard.pop("bad"), file)]
                # They come in any order: what is beyond the limit now is beyond it at the end too.
                bad = sorted(bad, key=itemgetter(0))[:MAX_REPORTED]
                shards[number] = shard
                advance(shard["size"], shard["rows"])
        return [shards[cut.number] for cut in self._cuts], [value for _, value in bad]

    def _shards(self) -> Iterator[dict[str, Any]]:
        """The description of each shard as it is there, those of an earlier run first."""
        missing = []
        for cut in self._cuts:
            if known := self._folder.description(cut.number):
                yield known | {"resumed": True}
            else:
                missing.append(orjson.dumps(list(cut)))
        for shard in map(orjson.loads, mapped(_score, missing, self._job)):
            if REFUSED in shard:
                raise BatchRefused(shard[REFUSED])
            if UNFIT in shard:  # the shards that are there stay
                raise ClusterError(f"{shard[UNFIT]}: mend it, and the same command goes on")
            if shard["bad_rows"] and self._on_bad_row == "fail":
                bad, where = _bad(shard["bad"], ""), str(self.source)
                if len(self._files) > 1:
                    where = str(self.source / shard["file"])
                raise refusal(self._bundle, where, shard["bad_rows"], bad, self.layout)
            yield shard

    def _placed(self) -> list[Cut]:
        """The cuts with what stands before each, counted by the cluster where it is much text."""
        if self.layout.kind not in TEXTS:
            return self._cuts
        each = max(1, COUNT_BYTES // self._size)
        groups = [self._cuts[i : i + each] for i in range(0, len(self._cuts), each)]
        if len(groups) == 1:
            return placed(self._cuts, [count(cut) for cut in self._cuts])
        items = [orjson.dumps([list(cut) for cut in group]) for group in groups]
        counts = {n: Count(*c) for counted in mapped(_count, items, None) for n, *c in orjson.loads(counted)}
        return placed(self._cuts, [counts[cut.number] for cut in self._cuts])

    def _finished(self, shards: list[dict[str, Any]], bad: list[BadValue]) -> Totals:
        totals = Totals(
            rows=sum(shard["rows"] for shard in shards),
            bad_rows=sum(shard["bad_rows"] for shard in shards),
            resumed_rows=sum(shard["rows"] for shard in shards if "resumed" in shard),
        )
        totals.report = write_report(self.target, bad)
        self._folder.finish(self._identity(), self._cuts, shards, totals.report)
        return totals

    def _identity(self) -> dict[str, Any]:
        """What must be the same for shards to belong to this job."""
        files = [(path, path.stat()) for path in self._files]
        identity = {
            "source": [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in files],
            "model": [self._bundle.label, self._bundle.digest],
            "layouts": self._layouts,
            "output": self._output,
            "shard_size": self._size,
        }
        known: dict[str, Any] = orjson.loads(orjson.dumps(identity, default=list))
        return known


def _score(cut: bytes, job: ShardJob) -> bytes:
    return orjson.dumps(score_shard(job, Cut(*orjson.loads(cut))))


def _count(group: bytes, _: None) -> bytes:
    cuts = [Cut(*cut) for cut in orjson.loads(group)]
    return orjson.dumps([[cut.number, *count(cut)] for cut in cuts])


def _bad(entries: list[list[Any]], file: str) -> list[BadValue]:
    return [BadValue(*entry)._replace(file=file) for entry in entries]
