"""Model folders exchanged: a new one in the place of another, which is kept, and back."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.errors import BundleError
from server.log.file import sync_directory
from server.model.bundle import Bundle
from server.model.files import MANIFEST_FILE


@dataclass(frozen=True)
class Publication:
    """A bundle put in the place of the folder `served`, until it is kept or undone.

    A reader of `served` finds the one or the other, but for the moment between two
    renames; a server reads it when it is told to. What `served` held stays beside it.
    """

    served: Path
    keep: Callable[[], None]
    undo: Callable[[], None]


def publish(new: Path, served: Path) -> Publication:
    """Put a copy of the bundle `new` in the place of `served`; raises `BundleError`."""
    served = served.resolve()  # of a link, the folder it points to
    bundle = Bundle.load(new)
    if not served.parent.is_dir():
        raise BundleError(f"expected a folder for the model at {served}, got none at {served.parent}")
    _complete(served)
    had_one, old = served.exists(), _loaded(served)
    if old is not None and old.name != bundle.name:
        raise BundleError(f"expected another version of {old.name} for {served}, got {bundle.name}")
    if old is not None and old.digest == bundle.digest:  # else it would be its own way back
        return Publication(served, _nothing, _nothing)
    incoming, replaced, before = (_beside(served, word) for word in ("incoming", "replaced", "previous"))
    shutil.rmtree(incoming, ignore_errors=True)
    _copy(new, [MANIFEST_FILE, *bundle.manifest["files"]], incoming)
    Bundle.load(incoming)
    if had_one:
        served.rename(replaced)
    incoming.rename(served)
    sync_directory(served.parent)

    def keep() -> None:
        if old is not None:
            shutil.rmtree(before, ignore_errors=True)
            replaced.rename(before)
        else:  # a damaged one is no way back
            shutil.rmtree(replaced, ignore_errors=True)

    def undo() -> None:
        served.rename(incoming)
        if had_one:
            replaced.rename(served)
        shutil.rmtree(incoming, ignore_errors=True)

    return Publication(served, keep, undo)


def roll_back(served: Path) -> Publication:
    """Exchange `served` and the bundle before it; done twice, nothing has changed. Raises `BundleError`."""
    served = served.resolve()
    _complete(served)
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
        sync_directory(served.parent)

    exchange()
    return Publication(served, _nothing, exchange)


def previous(served: Path) -> Path:
    """Where the bundle that a folder held before is kept."""
    return _beside(served.resolve(), "previous")


def _complete(served: Path) -> None:
    """Of an exchange that was cut short, put what was served where it belongs."""
    replaced, before = _beside(served, "replaced"), _beside(served, "previous")
    if replaced.exists() and not served.exists():
        replaced.rename(served)
    elif replaced.exists():
        shutil.rmtree(before, ignore_errors=True)
        replaced.rename(before)


def _loaded(served: Path) -> Bundle | None:
    """What is served now, None if there is nothing or it is damaged: then anything is better."""
    try:
        return Bundle.load(served)
    except BundleError:
        return None


def _nothing() -> None:
    """There is nothing to keep or undo."""


def _beside(served: Path, word: str) -> Path:
    return served.with_name(f".{served.name}.{word}")


def _copy(new: Path, files: list[str], folder: Path) -> None:
    """The files in a new folder, on the disk: after a power cut they are there or the folder is not."""
    folder.mkdir(parents=True)
    for file in files:
        with open(new / file, "rb") as source, open(folder / file, "wb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
    sync_directory(folder)
