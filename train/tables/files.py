"""One file of the training data as people have it: plain or compressed, alone or in Kaggle's one archive."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from server.batch.formats import COMPRESSIONS, DAMAGED, compression_of, opened
from server.errors import listed
from train.errors import DataError

MENDING = "download it again from the competition's page"
#: What stands at a file's beginning says what it is; its ending may say something else.
_ZIP = b"PK\x03\x04"
_ENDINGS = ("", ".zip", *COMPRESSIONS)
_DAMAGED = (
    *DAMAGED,
    zipfile.BadZipFile,
    RuntimeError,  # an encrypted archive
    NotImplementedError,  # a method of compression that Python does not know
)
#: A compressed table inside an archive is unpacked too, a riddle of archives is not.
_MAX_LAYERS = 3


@dataclass(frozen=True)
class File:
    """A file's name, where it lies in words, the SHA-256 of its bytes, and what was packed in it."""

    name: str
    where: str
    sha256: str
    content: bytes


def read_file(source: Path, name: str) -> File:
    """The table `name` (`x.csv`) of a folder, or of one archive of all tables, unpacked.

    In a folder it may be compressed (zip, gzip, zstd, bzip2, xz), Parquet (`x.parquet`),
    or a member of an archive of any name. Raises `DataError` in one sentence if it is not
    there, cannot be read or is damaged.
    """
    try:
        if source.is_file():
            return _member(source, name) or _absent(source, name)
        path = _find(source, name)
        if path is not None:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            return File(
                path.name,
                str(path),
                digest,
                _unpacked(str(path), content, name, zipped=path.suffix.casefold() == ".zip"),
            )
        archives = (
            _member(path, name) for path in sorted(source.iterdir()) if path.suffix.casefold() == ".zip"
        )
        return next(filter(None, archives), None) or _absent(source, name)
    except OSError as error:
        raise DataError(f"expected to read {name} in {source}, got: {error.strerror or error}") from None


def _find(folder: Path, name: str) -> Path | None:
    if not folder.is_dir():
        raise DataError(
            f"expected a folder with the Kaggle files at {folder}, got none: "
            "name it with --data, or leave --data out to train on synthetic rows"
        )
    found = {path.name.casefold(): path for path in sorted(folder.iterdir(), reverse=True)}
    for ending in (*(f"{name}{ending}" for ending in _ENDINGS), f"{Path(name).stem}.parquet"):
        path = found.get(ending.casefold())
        if path is not None and path.is_dir():  # some unpackers make a folder of a zipped file's name
            path = path / name
        if path is not None and path.is_file():
            return path
    return None


def _member(path: Path, name: str) -> File | None:
    """The table inside an archive of several; None if this is no archive of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(_named(archive, name), None)
            if member is None:
                return None
            content = archive.read(member)
    except zipfile.BadZipFile:
        return None
    except _DAMAGED as error:
        raise _damaged(str(path), error) from None
    where = f"{name} in {path.name}"
    return File(
        where, str(path), hashlib.sha256(content).hexdigest(), _unpacked(where, content, name, zipped=False)
    )


def _named(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    """Members of this name, packed once more or not; `__MACOSX` holds no tables."""
    wanted = {f"{name}{ending}".casefold() for ending in _ENDINGS}
    for member in archive.namelist():
        if Path(member).name.casefold() in wanted and not member.startswith("__MACOSX"):
            yield member


def _unpacked(where: str, content: bytes, name: str, *, zipped: bool) -> bytes:
    for layer in range(_MAX_LAYERS):
        try:
            inside = _layer(where, content, name, zipped=zipped and not layer)
        except _DAMAGED as error:
            raise _damaged(where, error) from None
        if inside is None:
            break
        content = inside
    if not content:
        raise DataError(f"expected a table in {where}, got an empty file: {MENDING}")
    return content


def _layer(where: str, content: bytes, name: str, *, zipped: bool) -> bytes | None:
    """What one layer of compression holds, None if there is none."""
    if content.startswith(_ZIP) or zipped:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = next(_named(archive, name), None)
            if member is None:
                raise DataError(f"expected {name} inside {where}, got an archive without it: {MENDING}")
            return archive.read(member)
    compression = compression_of(content)
    return opened(io.BytesIO(content), compression).read() if compression else None


def _damaged(where: str, error: Exception) -> DataError:
    kind = f"a whole {Path(where).suffix[1:]} archive" if where.endswith(_ENDINGS[1:]) else "whole"
    return DataError(f"expected {where} to be {kind}, got: {error}: {MENDING}")


def _absent(source: Path, name: str) -> File:
    if source.is_file():
        raise DataError(f"expected an archive with {name} at {source}, got another file: {MENDING}")
    there = sorted(f"{path.name}{'/' if path.is_dir() else ''}" for path in source.iterdir())
    raise DataError(
        f"expected {name} in {source}, alone, as {name}.zip (or {', '.join(_ENDINGS[2:])}) or in one archive "
        f"of all tables, got {listed(there) or 'an empty folder'}: {MENDING}"
    )
