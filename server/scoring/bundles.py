"""The bundles that the settings name."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from server.errors import BundleError, SettingsError
from server.model.arms import MAX_CHALLENGERS, challenger_folder, described, split_of
from server.model.bundle import Bundle
from server.model.exchange import recover
from server.settings import Settings


def open_bundles(settings: Settings) -> list[Bundle]:
    """Load the bundles that answer, one with a share last, hashes checked; raises a `HotrowError`."""
    for directory in settings.model:
        recover(directory)
    bundles = [Bundle.load(directory) for directory in settings.model]
    split = [directory for directory in settings.model if split_of(directory) is not None]
    bundles += [Bundle.load(challenger_folder(directory)) for directory in split]
    labels = [bundle.label for bundle in bundles]
    for bundle in bundles:
        if labels.count(bundle.label) > 1:
            raise BundleError(f"expected models of different names or versions, got {bundle.label} twice")
    _check_challengers(settings, bundles)
    return bundles


def _check_challengers(settings: Settings, served: Sequence[Bundle]) -> None:
    """Whether each challenger that can be read is one of a served model: another would wait for ever."""
    if len(settings.challenger) > MAX_CHALLENGERS:
        raise BundleError(f"expected at most {MAX_CHALLENGERS} challengers, got {len(settings.challenger)}")
    models = {(bundle.name, bundle.task) for bundle in served}
    for folder in settings.challenger:
        with suppress(BundleError):  # the log says why, when it is opened
            bundle = described(folder)
            if (bundle.name, bundle.task) not in models:
                raise SettingsError(
                    f"expected another version of {names(served)}, of its task, as challenger in {folder}, "
                    f"got {bundle.label}, a {bundle.task} model"
                )


def names(bundles: Iterable[Bundle]) -> str:
    """The models in an operator's message."""
    return ", ".join(bundle.label for bundle in bundles)
