"""Model folders exchanged: a new one in the place of another, which is kept, and back."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from server.bundle import Bundle
from server.bundle_files import MANIFEST_FILE
from server.errors import BundleError


class Publication:
    """A bundle put in the place of the folder `served`, until it is kept or undone.

    A reader of `served` finds the one or the other, but for the moment between two
    renames; a server reads it when it is told to. What `served` held stays beside it.
    """

    def __init__(self, served: Path, keep: Callable[[], None], undo: Callable[[], None]) -> None:
        self.served = served
        self.keep = keep
        self.undo = undo


def publish(new: Path, served: Path) -> Publication:
    """Put a copy of the bundle `new` in the place of `served`; raises `BundleError`."""
    served = served.resolve()  # of a link, the folder it points to
    files = [MANIFEST_FILE, *Bundle.load(new).manifest["files"]]
    if served.exists():  # what is replaced must be a model folder, of the same model
        names = Bundle.load(new).name, Bundle.load(served).name
        if names[0] != names[1]:
            raise BundleError(f"expected another version of {names[1]} for {served}, got {names[0]}")
    incoming, replaced, before = (_beside(served, word) for word in ("incoming", "replaced", "previous"))
    for leftover in (incoming, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    _copy(new, files, incoming)
    Bundle.load(incoming)
    had_one = served.exists()
    if had_one:
        served.rename(replaced)
    incoming.rename(served)
    _sync(served.parent)

    def keep() -> None:
        if had_one:
            shutil.rmtree(before, ignore_errors=True)
            replaced.rename(before)

    def undo() -> None:
        served.rename(incoming)
        if had_one:
            replaced.rename(served)
        shutil.rmtree(incoming, ignore_errors=True)

    return Publication(served, keep, undo)


def roll_back(served: Path) -> Publication:
    """Exchange `served` and the bundle before it; done twice, nothing has changed. Raises `BundleError`."""
    served = served.resolve()
    before, replaced = previous(served), _beside(served, "replaced")
    if not before.is_dir():
        raise BundleError(
            f"expected the model that was served before at {before}, got none: "
            "only what `python -m server.models publish` replaced can be taken back"
        )

    def exchange() -> None:
        if served.exists():
            served.rename(replaced)
        before.rename(served)
        if replaced.exists():
            replaced.rename(before)
        _sync(served.parent)

    shutil.rmtree(replaced, ignore_errors=True)
    exchange()
    return Publication(served, lambda: None, exchange)


def previous(served: Path) -> Path:
    """Where the bundle that a folder held before is kept."""
    return _beside(served.resolve(), "previous")


def _beside(served: Path, word: str) -> Path:
    return served.with_name(f".{served.name}.{word}")


def _copy(new: Path, files: list[str], folder: Path) -> None:
    """The files in a new folder, on the disk: after a power cut they are there or the folder is not."""
    folder.mkdir(parents=True)
    for file in files:
        shutil.copyfile(new / file, folder / file)
        _sync(folder / file)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
