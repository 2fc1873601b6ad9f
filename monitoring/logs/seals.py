"""Whether a log is what its server wrote: its files and its journals, held against the journals' seals.

This is another question than whether it is whole: a forged line has a number, too.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monitoring.errors import LogError
from monitoring.logs.files import GZIP, PLAIN, ZSTD, journals_of, open_lines
from server.log.journal import JOURNAL_SUFFIX
from server.log.rotation import closed_files, is_closed
from server.log.seal import DIGEST, SEAL, SIZE, last_seal, records, sealed

_PIECE_BYTES = 2**20


@dataclass
class Seals:
    """What the seals of some logs tell.

    `faults` say, a sentence each, what is not as it was written; `heads` are the last
    seals by journal, to be kept elsewhere; `open_ended` files are not sealed yet.
    """

    faults: list[str] = field(default_factory=list)
    heads: dict[str, str] = field(default_factory=dict)
    open_ended: list[str] = field(default_factory=list)


def is_sealed(files: Sequence[Path]) -> bool:
    """Whether a journal beside these files has seals."""
    return any(last_seal(journal.read_bytes()) for journal in journals_of(files))


def check_key(files: Sequence[Path], key: bytes | None) -> None:
    """Raise `LogError` if the log is sealed and there is no key to seal a change with."""
    if key is None and is_sealed(files):
        raise LogError("expected --key-file, for the log is sealed: name the server's HOTROW_LOG_KEY_FILE")


def check_seals(files: Sequence[Path], key: bytes, anchors: Sequence[str] = ()) -> Seals:
    """Hold files and journals against the seals; each of `anchors`, seals kept elsewhere, must be there."""
    found, known = Seals(), set[str]()
    for journal in journals_of(files):
        known |= _check_journal(journal, key, found)
    stems = {journal.name.removesuffix(JOURNAL_SUFFIX) for journal in journals_of(files)}
    for file in files:
        if file.name.split(".", 1)[0] not in stems:
            found.faults.append(f"{file} has no journal beside it")
    found.faults += [
        f"the seal {anchor} is in no journal: its end was cut off, or it is another log's"
        for anchor in anchors
        if anchor not in known
    ]
    return found


def _check_journal(journal: Path, key: bytes, found: Seals) -> set[str]:
    """Follow one journal's chain, then look at the files that it tells of; its seals."""
    before, seals = "", set[str]()
    expected: dict[str, tuple[int, str]] = {}
    for number, record in enumerate(records(journal.read_bytes()), 1):
        seal = str(record.get(SEAL, ""))
        if not seal and not before:
            continue  # written before the log was sealed
        if seal != sealed(key, before, record):
            found.faults.append(
                f"record {number} of {journal.name} is not what was sealed, or one before it is gone "
                "(or this is not the key)"
            )
            return seals
        before = seal
        seals.add(seal)
        if record.get("event") == "sealed":
            expected.pop(_open_name(journal), None)  # it was closed, and is a part of this file
        if DIGEST in record:
            expected[str(record["file"])] = (int(record[SIZE]), str(record[DIGEST]))
        for name in record.get("files", ()) if record.get("event") == "removed" else ():
            expected.pop(name, None)
    if not before:
        found.faults.append(f"{journal.name} has no seals")
        return seals
    found.heads[journal.name] = before
    _check_files(journal, expected, found)
    return seals


def _check_files(journal: Path, expected: dict[str, tuple[int, str]], found: Seals) -> None:
    """Hold the files beside a journal against what it sealed: the closed ones whole, the open one so far."""
    begun = [name for name in expected if name != _open_name(journal)]
    for name in begun:
        if (file := _there(journal.parent / name)) is None:
            found.faults.append(f"{name} is gone, and no journal says so")
        elif digest_of(file) != expected[name]:
            found.faults.append(f"{file.name} is not what was sealed")
    last = max(begun, default="")
    unsealed = [file for file in _closed(journal) if plain_path(file).name not in expected]
    found.faults += [f"{file.name} was never sealed" for file in unsealed if file.name < last]
    later = [file for file in unsealed if file.name > last]
    _check_open(journal, expected.get(_open_name(journal)), later, found)


def _check_open(journal: Path, sealed: tuple[int, str] | None, later: Sequence[Path], found: Seals) -> None:
    """The file that was open when the last seal was made, and what came `later`, which no seal holds yet."""
    own = _there(journal.parent / _open_name(journal))
    if sealed is not None:
        # What was open then may have been closed since, and is the beginning of that file.
        file = later[0] if later else own
        if file is None or digest_of(file, limit=sealed[0]) != sealed:
            name = file.name if file else _open_name(journal)
            found.faults.append(f"{name} does not begin with what was sealed")
    found.open_ended += [file.name for file in later]
    sealed_bytes = sealed[0] if sealed is not None and not later else 0
    if own is not None and own.stat().st_size > sealed_bytes:
        found.open_ended.append(own.name)


def _closed(journal: Path) -> Iterator[Path]:
    stem = journal.name.removesuffix(JOURNAL_SUFFIX)
    yield from closed_files(journal.with_name(stem + PLAIN))
    for suffix in (GZIP, ZSTD):
        yield from sorted(
            file for file in journal.parent.glob(f"{stem}.*{suffix}") if is_closed(plain_path(file))
        )


def _open_name(journal: Path) -> str:
    return journal.name.removesuffix(JOURNAL_SUFFIX) + PLAIN


def _there(file: Path) -> Path | None:
    """A file, or what it was compressed into; None if there is neither."""
    names = (file.with_name(file.name.removesuffix(PLAIN) + suffix) for suffix in (PLAIN, GZIP, ZSTD))
    return next((name for name in names if name.is_file()), None)


def plain_path(file: Path) -> Path:
    """A file by the name that it had before it was compressed."""
    return file.with_name(file.name.removesuffix(".gz").removesuffix(".zst"))


def digest_of(file: Path, name: Path | None = None, limit: int | None = None) -> tuple[int, str]:
    """The size and the SHA-256 of a file's lines, or of its first `limit` bytes; raises `LogError`.

    `name` tells how it is compressed, if its own does not.
    """
    hashing, size = hashlib.sha256(), 0
    with open_lines(file, name) as lines:
        while piece := lines.read(_PIECE_BYTES if limit is None else min(_PIECE_BYTES, limit - size)):
            hashing.update(piece)
            size += len(piece)
    return size, hashing.hexdigest()
