"""Which files a log is made of, and what its ledgers say."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from monitoring.errors import LogError
from server.log.journal import LEDGER_SUFFIX


def log_files(paths: Iterable[Path]) -> list[Path]:
    """The files named, and of a folder every `*.jsonl` in it and its folders, sorted.

    Behind Ray each replica has a folder of its own there. Raises `LogError` if there is none.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
        if not found or not all(file.is_file() for file in found):
            raise LogError(
                f"expected a log file, or a folder with *.jsonl files, got {path}: "
                "name the server's HOTROW_LOG_DIR"
            )
        files += found
    return files


def ledger_records(files: Sequence[Path]) -> list[dict[str, Any]]:
    """The records of every ledger beside these files, oldest first in each.

    `log` is added to each: whose ledger it is, the stem of the file's name.
    """
    folders = dict.fromkeys(file.parent for file in files)
    ledgers = [ledger for folder in folders for ledger in sorted(folder.glob(f"*{LEDGER_SUFFIX}"))]
    return [record for ledger in ledgers for record in _records(ledger)]


def masked_fields(files: Sequence[Path]) -> Mapping[str, str]:
    """How each field was hidden, by any server that wrote to these folders."""
    masked: dict[str, str] = {}
    for record in ledger_records(files):
        masked |= record.get("masked", {})
    return masked


def _records(ledger: Path) -> Iterator[dict[str, Any]]:
    for line in ledger.read_bytes().splitlines():
        try:
            yield {**orjson.loads(line), "log": ledger.stem}
        except orjson.JSONDecodeError:
            continue  # cut off by a crash: what it would have said is unknown
