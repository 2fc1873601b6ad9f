"""The outcomes of a folder of logs: files beside those of the predictions, which are only appended to.

Later lines correct earlier ones: nothing is changed but by `erase_outcomes`.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from server.durable import append_synced, held_file, sync_path
from server.log.rotation import REWRITTEN_SUFFIX
from server.model.json_text import object_or_empty
from server.model.row_names import sought
from server.outcomes.record import KEYS

#: Not that of the log's own lines: a reader of predictions passes these files over.
SUFFIX = ".outcomes.ndjson"


def outcome_path(folder: Path, writer: str) -> Path:
    """The file of one writer: a server, or who adds files."""
    return folder / f"{writer}{SUFFIX}"


def outcome_files(folders: Iterable[Path]) -> list[Path]:
    """The files of outcomes in some folders."""
    return [file for folder in dict.fromkeys(folders) for file in sorted(folder.glob(f"*{SUFFIX}"))]


def add_lines(path: Path, lines: bytes) -> None:
    """Append whole lines, on the disk when this returns; raises `OSError`."""
    append_synced(path, lines)


def erase_outcomes(files: Iterable[Path], names: Mapping[str, Collection[str]]) -> int:
    """Take out the outcomes of these keys, by kind; how many. The file is whole at every moment."""
    return sum(_without(file, lambda line: _is_of(line, names)) for file in files)


def _is_of(line: bytes, names: Mapping[str, Collection[str]]) -> bool:
    told = object_or_empty(line)
    for kind in KEYS:
        key, gone = str(told.get(kind, "")), names.get(kind, ())
        if key and (key in gone or (kind == "id" and sought(key) in gone)):
            return True
    return False


def _without(file: Path, is_gone: Callable[[bytes], bool]) -> int:
    fresh = file.with_name(file.name + REWRITTEN_SUFFIX)
    gone = 0
    with held_file(file) as descriptor, open(descriptor, "rb", closefd=False) as lines:
        with open(fresh, "wb") as kept:
            os.fchmod(kept.fileno(), 0o600)
            for line in lines:
                if is_gone(line):
                    gone += 1
                else:
                    kept.write(line)
        if gone:
            sync_path(fresh)
            fresh.replace(file)
            sync_path(file.parent)
        else:
            fresh.unlink()
    return gone
