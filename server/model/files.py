"""The files of a model folder, read once and compared with their hashes while they are read."""

import hashlib
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import orjson

from server.errors import BundleError

FORMAT = 1
MANIFEST_FILE = "bundle.json"
#: What the graph calls the encoded rows it takes and the scores it gives.
INPUT, OUTPUT = "features", "margin"
#: No model of trees is larger; a sparse file that claims to be would fill the memory.
MAX_FILE_BYTES = 2**30


def read_manifest(directory: Path) -> tuple[dict[str, Any], str]:
    """The manifest of a model folder, and the SHA-256 of its bytes; raises `BundleError`."""
    path = directory / MANIFEST_FILE
    try:
        content = _read(path)
        manifest = orjson.loads(content)
    except FileNotFoundError:
        raise BundleError(
            f"expected a model folder with a {MANIFEST_FILE}, got none at {directory}: "
            "name one with --model, or write one with `python -m train` or `python -m export`"
        ) from None
    except (OSError, orjson.JSONDecodeError) as error:
        raise BundleError(f"expected {path} to be readable JSON, got: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"expected {path} of bundle format {FORMAT}, got another format")
    return manifest, hashlib.sha256(content).hexdigest()


def verified(
    directory: Path, manifest: Mapping[str, Any], *, required: Collection[str], kept: Collection[str]
) -> dict[str, bytes]:
    """The content of the `kept` files, after every listed file was compared with its hash.

    A file is opened once, so what was compared is what is returned: a file that is
    replaced, or changed through a hard link, in the meantime changes nothing.
    Raises `BundleError`.
    """
    hashes = manifest.get("files")
    if not isinstance(hashes, dict):
        raise BundleError(f"expected {directory / MANIFEST_FILE} to list the files' hashes, got none")
    contents = {}
    for name in (*required, *(set(hashes) - set(required))):
        if name not in hashes:
            raise BundleError(f"expected {MANIFEST_FILE} to list {name}, got no hash of it in {directory}")
        if Path(name).name != name or name in ("", ".", "..") or not name.isprintable():
            raise BundleError(f"expected plain file names in {directory / MANIFEST_FILE}, got a path")
        content = _compared(directory / name, hashes[name])
        if name in kept:
            contents[name] = content
    return contents


def _compared(path: Path, sha256: str) -> bytes:
    try:
        content = _read(path)
    except OSError as error:
        raise BundleError(
            f"expected {path} to be a file that can be read, got: {error.strerror or error}"
        ) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(
            f"expected {path} as it was when the bundle was written, got another content: "
            "restore it or write the bundle again with `python -m export`"
        )
    return content


def _read(path: Path) -> bytes:
    """The bytes of a regular file; raises `OSError` for a link, a pipe or a folder."""
    # Without O_NONBLOCK a pipe would keep the server waiting for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise OSError("not a regular file")
        if state.st_size > MAX_FILE_BYTES:
            raise BundleError(f"expected {path} of at most {MAX_FILE_BYTES} bytes, got {state.st_size}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_FILE_BYTES)
    finally:
        os.close(descriptor)
