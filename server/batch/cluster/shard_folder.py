"""A folder of scored shards: each written once, by whichever process is first; a mark when all are there."""

import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from socket import gethostname
from typing import Any

import orjson

from server.batch.cluster.shards import Cut
from server.batch.results import Totals
from server.durable import sync_path, write_synced
from server.errors import BatchRefused

logger = logging.getLogger(__name__)

#: Readers of many files (Spark, Arrow, DuckDB, polars) pass over names that begin with `_`.
SUCCESS_FILE, MANIFEST_FILE, WORK_FOLDER = "_SUCCESS", "_manifest.json", "_work"
PLAN_FILE = "plan.json"


class ShardFolder:
    """The output of a job of many processes, on a file system that all of them see.

    Under a shard's own name there is a whole shard or nothing, on the disk before its
    description is. It gets the name by a hard link, which fails if the name is taken:
    of two processes that score the same shard (one was thought dead) the second finds
    it written, and adds nothing. Only other content than its own it replaces: a disk
    that lost power can have kept a name and not what it named.
    """

    def __init__(self, path: Path, ending: str) -> None:
        self.path, self.ending = path, ending
        self._work = path / WORK_FOLDER

    def name(self, number: int) -> str:
        """The file name of a shard; the order of the names is that of the rows."""
        return f"part-{number:08d}{self.ending}"

    def plan(self, identity: Mapping[str, Any]) -> list[Cut] | None:
        """The cuts of an earlier run of the same job, None if there was none.

        Raises `BatchRefused` if the folder holds anything else.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return None
        for file in (self.path / MANIFEST_FILE, self._work / PLAN_FILE):
            known = _read(file)
            if known is not None and known["job"] == identity:
                return [Cut(*cut) for cut in known["cuts"]]
        raise BatchRefused(
            f"expected a new folder, or one that the same job has begun, got another at {self.path}: "
            "remove it or name another"
        )

    def begin(self, identity: Mapping[str, Any], cuts: Sequence[Cut]) -> None:
        """Make the folder and note what belongs into it."""
        self._work.mkdir(parents=True, exist_ok=True)
        self._write(self._work / PLAN_FILE, {"job": identity, "cuts": [list(cut) for cut in cuts]})

    @property
    def is_complete(self) -> bool:
        return (self.path / SUCCESS_FILE).exists()

    def totals(self) -> Totals:
        """What the job that completed the folder did."""
        known = _read(self.path / MANIFEST_FILE)
        bad_rows = sum(shard["bad_rows"] for shard in known["shards"])
        report = self.path.with_name(known["report"]) if known["report"] else None
        return Totals(known["rows"], bad_rows, known["rows"], report)

    def description(self, number: int) -> dict[str, Any] | None:
        """What is known of a shard that is written, None of another."""
        known: dict[str, Any] | None = _read(self._description(number))
        return known

    def write(self, number: int, content: bytes, description: Mapping[str, Any]) -> dict[str, Any]:
        """Write a shard, unless it is there already, and then its description, which is returned.

        A shard without rows gets a description and no file.
        """
        shard, sha256 = self.path / self.name(number), hashlib.sha256(content).hexdigest()
        if content:
            self._put(shard, content, sha256)
        known = {**description, "name": shard.name if content else "", "bytes": len(content)}
        known |= {"sha256": sha256, "writer": f"{gethostname()}:{os.getpid()}"}
        self._write(self._description(number), known)
        return known

    def finish(
        self,
        identity: Mapping[str, Any],
        cuts: Sequence[Cut],
        shards: Iterable[Mapping[str, Any]],
        report: Path | None,
    ) -> None:
        """Write the manifest, mark the folder complete, and remove what only the work needed.

        `report` stands beside the folder.
        """
        kept = ("name", "rows", "bad_rows", "bytes", "sha256", "writer")
        listed = [{key: shard[key] for key in kept} for shard in shards]
        document = {
            "job": identity,
            "rows": sum(s["rows"] for s in listed),
            "report": report.name if report else None,
            "cuts": [list(cut) for cut in cuts],
            "shards": listed,
        }
        self._write(self.path / MANIFEST_FILE, document)
        (self.path / SUCCESS_FILE).touch()
        sync_path(self.path)
        shutil.rmtree(self._work, ignore_errors=True)

    def discard(self) -> None:
        """Remove the folder and what is in it, or say that something of it stays."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.exists():
            logger.warning("%s could not be removed as a whole: remove it by hand", self.path)

    def _put(self, shard: Path, content: bytes, sha256: str) -> None:
        draft = self._draft(shard)
        write_synced(draft, content)
        try:
            os.link(draft, shard)
        except FileExistsError:  # an attempt that ended before it could tell has written it
            if _sha256(shard) != sha256:
                draft.replace(shard)
        draft.unlink(missing_ok=True)
        sync_path(self.path)

    def _description(self, number: int) -> Path:
        return self._work / f"{number:08d}.json"

    def _draft(self, path: Path) -> Path:
        """A name in the folder that no other process of any node writes to."""
        return self._work / f"{path.name}.{secrets.token_hex(8)}.draft"

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        draft = self._draft(path) if self._work.exists() else path
        write_synced(draft, orjson.dumps(content))
        draft.replace(path)
        sync_path(path.parent)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(file: Path) -> Any:
    try:
        return orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return None
