"""The bundles that the settings name."""

from collections.abc import Iterable

from server.errors import BundleError
from server.model.arms import challenger_folder, split_of
from server.model.bundle import Bundle
from server.model.exchange import recover
from server.settings import Settings


def open_bundles(settings: Settings) -> list[Bundle]:
    """Load the bundles that answer, challengers last, hashes checked; raises `BundleError`."""
    for directory in settings.model:
        recover(directory)
    bundles = [Bundle.load(directory) for directory in settings.model]
    split = [directory for directory in settings.model if split_of(directory) is not None]
    bundles += [Bundle.load(challenger_folder(directory)) for directory in split]
    labels = [bundle.label for bundle in bundles]
    for bundle in bundles:
        if labels.count(bundle.label) > 1:
            raise BundleError(f"expected models of different names or versions, got {bundle.label} twice")
    return bundles


def names(bundles: Iterable[Bundle]) -> str:
    """The models in an operator's message."""
    return ", ".join(bundle.label for bundle in bundles)
