"""The outcomes of a folder of logs: files beside those of the predictions, which are only appended to.

Later lines correct earlier ones: nothing is changed but by `erase_outcomes`.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from server.durable import append_synced, drop_lines
from server.log.rotation import rewritten
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
    """Take out the outcomes of these keys, by kind; how many."""
    return sum(drop_lines(file, rewritten(file), lambda line: _is_of(line, names)) for file in files)


def _is_of(line: bytes, names: Mapping[str, Collection[str]]) -> bool:
    told = object_or_empty(line)
    for kind in KEYS:
        key, gone = str(told.get(kind, "")), names.get(kind, ())
        if key and (key in gone or (kind == "id" and sought(key) in gone)):
            return True
    return False
