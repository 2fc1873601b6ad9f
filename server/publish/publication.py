"""Model folders exchanged: a new one in the place of another, which is kept, and back."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.durable import sync_path, sync_tree
from server.errors import BundleError
from server.model.bundle import Bundle
from server.model.exchange import exchange, recover, sibling
from server.model.files import MANIFEST_FILE
from server.publish.interrupts import interruptible, uninterrupted


@dataclass(frozen=True)
class Publication:
    """A bundle put in the place of the folder `served`, until it is kept or undone.

    A reader of `served` finds the one or the other; a server reads it when it is
    told to. What `served` held stays beside it.
    """

    served: Path
    keep: Callable[[], None]
    undo: Callable[[], None]


def publish(new: Path, served: Path) -> Publication:
    """Put a copy of the bundle `new` in the place of `served`; raises `BundleError`.

    For who is `alone` in it.
    """
    served = served.resolve()  # of a link, the folder it points to
    bundle = Bundle.load(new)
    if not served.parent.is_dir():
        raise BundleError(f"expected a folder for the model at {served}, got none at {served.parent}")
    _complete(served)
    old = _loaded(served)
    if old is not None and old.digest == bundle.digest:  # else it would be its own way back
        return Publication(served, nothing, nothing)
    if old is not None:
        _check_label(bundle, old, served)
    incoming, before, intent = (sibling(served, word) for word in ("incoming", "previous", "publishing"))
    _copy(new, [MANIFEST_FILE, *bundle.manifest["files"]], incoming)
    Bundle.load(incoming)
    intent.write_text(bundle.digest, encoding="ascii")

    def keep() -> None:
        _keep(incoming, before, is_good=old is not None)
        intent.unlink()

    back = _swapped(served, incoming)

    def undo() -> None:
        back()
        shutil.rmtree(incoming, ignore_errors=True)
        intent.unlink()

    with undone_if_failed(undo):
        sync_path(served.parent)
    return Publication(served, keep, undo)


def take(make: Callable[[], Publication], accept: Callable[[Publication], None]) -> None:
    """Make a publication and keep it; if it is not accepted, or an interrupt comes, it is undone."""
    with uninterrupted():
        publication = make()
        with undone_if_failed(publication.undo), interruptible():
            accept(publication)
        publication.keep()


@contextmanager
def undone_if_failed(undo: Callable[[], None]) -> Iterator[None]:
    """A step that is undone if it fails."""
    try:
        yield
    except BaseException:
        undo()
        raise


def _check_label(bundle: Bundle, old: Bundle, served: Path) -> None:
    """One name and version stands for one content, or answers and log lines tell two models apart no more."""
    if old.name != bundle.name:
        raise BundleError(f"expected another version of {old.name} for {served}, got {bundle.name}")
    before = _loaded(sibling(served, "previous"))
    for known in (old, before):
        if known is not None and known.label == bundle.label and known.digest != bundle.digest:
            raise BundleError(
                f"expected a version of {bundle.name} of its own, got other content under {bundle.label}, "
                f"which {served} has, or had before: export it with another --version"
            )


def roll_back(served: Path) -> Publication:
    """Exchange `served` and the bundle before it; done twice, nothing has changed. Raises `BundleError`.

    For who is `alone` in it.
    """
    served = served.resolve()
    _complete(served)
    before = previous(served)
    if not before.is_dir():
        raise BundleError(
            f"expected the model that was served before at {before}, got none: "
            "only what `python -m server.models publish` replaced can be taken back"
        )

    back = _swapped(served, before)

    def undo() -> None:
        back()
        sync_path(served.parent)

    with undone_if_failed(undo):
        sync_path(served.parent)
    return Publication(served, nothing, undo)


def _swapped(served: Path, other: Path) -> Callable[[], object]:
    """Put a folder in the place of what is served, if there is something; what takes that back."""
    if served.exists():
        exchange(served, other)
        return lambda: exchange(served, other)
    other.rename(served)
    return lambda: served.rename(other)


def previous(served: Path) -> Path:
    """Where the bundle that a folder held before is kept."""
    return sibling(served.resolve(), "previous")


def _complete(served: Path) -> None:
    """Of a publication that was cut short, make what is served and the way back what they should be."""
    recover(served)
    incoming, before, intent = (sibling(served, word) for word in ("incoming", "previous", "publishing"))
    old = _loaded(incoming)
    was_exchanged = intent.exists() and intent.read_text(encoding="ascii") == _digest(served)
    _keep(incoming, before, is_good=was_exchanged and old is not None)
    _keep(sibling(served, "replaced"), before, is_good=True)
    intent.unlink(missing_ok=True)


def _keep(folder: Path, before: Path, is_good: bool) -> None:
    """Make a folder the way back; a damaged or unpublished one is none."""
    if folder.exists() and is_good:
        shutil.rmtree(before, ignore_errors=True)
        folder.rename(before)
    shutil.rmtree(folder, ignore_errors=True)


def _digest(served: Path) -> str:
    found = _loaded(served)
    return "" if found is None else found.digest


def _loaded(served: Path) -> Bundle | None:
    """What is served now, None if there is nothing or it is damaged: then anything is better."""
    try:
        return Bundle.load(served)
    except BundleError:
        return None


def nothing() -> None:
    """There is nothing to keep or undo."""


def _copy(new: Path, files: list[str], folder: Path) -> None:
    """The files in a new folder, on the disk: after a power cut they are there or the folder is not."""
    folder.mkdir(parents=True)
    for file in files:
        shutil.copyfile(new / file, folder / file)
    sync_tree(folder)
