"""Model folders exchanged: a new one in the place of another, which is kept, and back."""

import shutil
import tempfile
from pathlib import Path

from server.bundle import Bundle
from server.bundle_files import MANIFEST_FILE
from server.errors import BundleError


def publish(new: Path, served: Path) -> Path:
    """Put a copy of the bundle `new` in the place of the folder `served`; where the one before it is now.

    A reader of `served` finds the one or the other, but for the moment between two
    renames; a server reads it when it is told to. Raises `BundleError`.
    """
    before = previous(served)
    files = [MANIFEST_FILE, *Bundle.load(new).manifest["files"]]
    if served.exists():
        Bundle.load(served)  # what is replaced must be a model folder
    served.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{served.name}-", dir=served.parent) as scratch:
        copy = Path(scratch) / served.name
        copy.mkdir()
        for file in files:
            shutil.copy(new / file, copy)
        Bundle.load(copy)
        shutil.rmtree(before, ignore_errors=True)
        if served.exists():
            served.rename(before)
        copy.rename(served)
    return before


def roll_back(served: Path) -> None:
    """Exchange `served` and the bundle before it; done twice, nothing has changed. Raises `BundleError`."""
    before = previous(served)
    if not before.is_dir():
        raise BundleError(
            f"expected the model that was served before at {before}, got none: "
            "only what `python -m server.models publish` replaced can be taken back"
        )
    with tempfile.TemporaryDirectory(prefix=f".{served.name}-", dir=served.parent) as scratch:
        now = Path(scratch) / served.name
        served.rename(now)
        before.rename(served)
        now.rename(before)


def previous(served: Path) -> Path:
    """Where the bundle that a folder held before is kept."""
    served = served.resolve()
    return served.with_name(f".{served.name}.previous")
