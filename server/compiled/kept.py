"""Compiled code, on the disk with all that is needed to run it: of nobody but this user, and whole."""

import hashlib
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from server.compiled.walk import NodeTable, node_kinds
from server.durable import lock

_DIGEST_BYTES, _LENGTH_BYTES = 32, 8
#: Below a file: nothing is read from there, and nothing written.
_NOWHERE = Path(os.devnull, "hotrow")
_CACHE = "XDG_CACHE_HOME"
#: What is kept at most, beside what was made last: a model of a week each, and tables of large forests.
MAX_FILES, MAX_BYTES = 64, 512 * 2**20
_LOCK = ".lock"
#: For a process that makes the same.
PATIENCE_SECONDS, PAUSE_SECONDS = 30.0, 0.05


class KeptCode(NamedTuple):
    """An object with the functions `names`, and of its forest what it takes to call them.

    `dtype` is that of the sums, `row_dtype` that of the rows (see `GraphForest`); `tables` are those of a
    forest that is walked.
    """

    names: tuple[str, ...]
    targets: int
    width: int
    dtype: np.dtype[Any]
    row_dtype: np.dtype[Any]
    before: bytes | None
    tables: list[NodeTable] | None
    object: bytes


def cache_folder() -> Path:
    """The user's cache (XDG Base Directory specification); of a user without a home one that is not there."""
    try:
        return Path(os.environ.get(_CACHE) or Path.home() / ".cache") / "hotrow"
    except RuntimeError:  # an id alone, as containers and services have them
        return _NOWHERE


@contextmanager
def shared_cache() -> Iterator[None]:
    """Have a cache for what this process starts: one for as long, where the user's takes no file."""
    with suppress(OSError):
        cache_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.access(cache_folder(), os.W_OK):
        yield
        return
    with ExitStack() as stack:
        with suppress(OSError):  # where no folder takes a file each makes its own
            os.environ[_CACHE] = tempfile.mkdtemp(prefix="hotrow-")
            stack.callback(_remove_by, os.getpid(), os.environ[_CACHE])
        yield


def _remove_by(pid: int, folder: str) -> None:
    if os.getpid() == pid:  # not by a worker that was forked and ends
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Make what is kept there while no other process makes such: what it made is found afterwards."""
    with ExitStack() as stack:
        with suppress(OSError):  # where nothing can be kept, or another takes too long, each makes its own
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            guard = stack.enter_context(open(path.with_name(path.suffix[1:] + _LOCK), "wb"))
            lock(guard.fileno(), PATIENCE_SECONDS, PAUSE_SECONDS)
        yield


def sources_digest(*folders: Path) -> "hashlib._Hash":
    """Of what makes the code, here and in some other folders: another version makes it anew."""
    digest = hashlib.sha256()
    for folder in (Path(__file__).parent, *folders):
        for source in sorted(folder.rglob("*.py")):
            digest.update(source.read_bytes())
    return digest


def read_kept(path: Path) -> KeptCode | None:
    """What was kept of a bundle; None if nothing was."""
    made = read_sealed(path)
    return None if made is None else _unpacked(made)


def write_kept(path: Path, code: KeptCode) -> None:
    """Keep it; what cannot be written is made again the next time."""
    write_sealed(path, _packed(code))


def sealed(made: bytes) -> bytes:
    """The same behind its digest."""
    return hashlib.sha256(made).digest() + made


def unsealed(content: bytes) -> bytes | None:
    """What stands behind a digest; None if it is another's."""
    digest, made = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return made if hashlib.sha256(made).digest() == digest else None


def read_sealed(path: Path) -> bytes | None:
    """What `write_sealed` wrote: whole, and written by nobody but this user; None otherwise."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.getuid() or status.st_mode & 0o022:
                return None
            content = file.read()
        with suppress(OSError):
            os.utime(path)  # what is in use stays
    except OSError:
        return None
    return unsealed(content)


def write_sealed(path: Path, made: bytes) -> None:
    """Write a file in one step, if that can be; of too much goes what was not used for longest."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as draft:
            draft.write(sealed(made))
        Path(draft.name).replace(path)
        _make_room(path)
    except OSError:
        return


def _make_room(made: Path) -> None:
    """Remove what is beyond the limits, oldest by use, drafts of a process that was killed among it."""
    found = []
    for path in made.parent.iterdir():
        with suppress(OSError):  # another process makes room, too
            if path.suffix != _LOCK and path != made:
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
    found.sort(reverse=True)
    taken = accumulate((size for _, size, _ in found), initial=made.stat().st_size)
    next(taken)
    for position, ((_, _, path), size) in enumerate(zip(found, taken, strict=True), 1):
        if position >= MAX_FILES or size > MAX_BYTES:
            path.unlink(missing_ok=True)


def executable(machine_code: bytes) -> mmap.mmap:
    """Memory to run this code from, which nobody can write to; raises `OSError` where that is forbidden."""
    descriptor = os.memfd_create("hotrow-code", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, machine_code)
        return mmap.mmap(descriptor, len(machine_code), mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    finally:
        os.close(descriptor)


def packed(head: Mapping[str, Any], pieces: Sequence[bytes]) -> bytes:
    """The length of a head in JSON, the head, and the pieces whose lengths it tells."""
    content = orjson.dumps({**head, "pieces": list(map(len, pieces))})
    return b"".join([len(content).to_bytes(_LENGTH_BYTES, "little"), content, *pieces])


def unpacked(made: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The head and the pieces that `packed` was given."""
    at = _LENGTH_BYTES + int.from_bytes(made[:_LENGTH_BYTES], "little")
    head = orjson.loads(made[_LENGTH_BYTES:at])
    pieces = []
    for length in head.pop("pieces"):
        pieces.append(made[at : at + length])
        at += length
    return head, pieces


def _packed(code: KeptCode) -> bytes:
    pieces = [code.object, code.before or b""]
    for table in code.tables or ():
        pieces += [table.nodes.tobytes(), table.weights.tobytes()]
    head = {
        "names": code.names,
        "targets": code.targets,
        "width": code.width,
        "types": [code.dtype.str, code.row_dtype.str],
        "tables": None if code.tables is None else [table.target for table in code.tables],
    }
    return packed(head, pieces)


def _unpacked(made: bytes) -> KeptCode:
    head, pieces = unpacked(made)
    dtype, row_dtype = map(np.dtype, head["types"])
    tables = None
    if head["tables"] is not None:
        tables = [
            NodeTable(np.frombuffer(nodes, node_kinds(row_dtype)), np.frombuffer(weights, dtype), target)
            for target, nodes, weights in zip(head["tables"], pieces[2::2], pieces[3::2], strict=True)
        ]
    names = tuple(head["names"])
    return KeptCode(
        names, head["targets"], head["width"], dtype, row_dtype, pieces[1] or None, tables, pieces[0]
    )
