"""Where a bundle is written: looked at before hours of work, and worded when it fails at the end."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.errors import BundleError
from server.model.files import MANIFEST_FILE, read_manifest
from train.errors import TrainingRefused


def check_target(out: Path, *, replace: bool) -> None:
    """Raise `TrainingRefused` unless a bundle can be written to `out`.

    A bundle that stands there is replaced only if that was asked for.
    """
    with writable(out):
        if out.is_dir() and any(out.iterdir()):
            _check_replaced(out, replace)
        elif out.exists() and not out.is_dir():
            raise TrainingRefused(
                f"expected a folder for the bundle, got a file at {out}: name another --out"
            )
        parent = next(folder for folder in out.absolute().parents if folder.exists())
        with tempfile.TemporaryDirectory(prefix=".hotrow-", dir=parent):
            pass  # that it could be made is what was asked


@contextmanager
def writable(out: Path) -> Iterator[None]:
    """Word what keeps the bundle from being written as one sentence, a `TrainingRefused`."""
    try:
        yield
    except OSError as error:
        raise TrainingRefused(
            f"expected to write a bundle to {out}, got: {error.strerror or error}: make room, or name "
            "another --out; the search is kept, and the same command goes on from it"
        ) from None


def _check_replaced(out: Path, replace: bool) -> None:
    if not (out / MANIFEST_FILE).exists():
        raise TrainingRefused(f"expected {out} to be new, empty or a bundle, got a folder with other files")
    if not replace:
        raise TrainingRefused(
            f"expected a new folder for the bundle, got {out} with {_label(out)} in it: "
            "name another --out, or give --replace"
        )


def _label(out: Path) -> str:
    try:
        manifest, _ = read_manifest(out)
    except BundleError:
        return "a damaged bundle"
    return f"{manifest.get('name')}@{manifest.get('version')}"
