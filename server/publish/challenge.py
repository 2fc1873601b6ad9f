"""A challenger put beside a served model, made the champion, or taken away."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from server.durable import sync_path, write_synced
from server.errors import BundleError, listed
from server.model.arms import BY_REQUEST_ID, SPLIT_FILE, TrafficSplit, challenger_folder, has_challenger
from server.model.bundle import Bundle
from server.model.exchange import sibling
from server.publish.publication import Publication, nothing, publish, undone_if_failed


def challenge(new: Path | None, served: Path, split: TrafficSplit | None) -> Publication:
    """Put a copy of the bundle `new` beside `served`, answering a share of the requests, or none.

    Without `new` only the share of the challenger that is there changes. Raises `BundleError`.
    For who is `alone` in it.
    """
    champion, folder = Bundle.load(served), challenger_folder(served)
    bundle = Bundle.load(new) if new is not None else _challenger(served)
    _check(bundle, champion, split)
    before = _split_bytes(folder)
    had_one = has_challenger(served)
    publication = Publication(folder, nothing, nothing) if new is None else publish(new, folder)

    def undo() -> None:
        publication.undo()
        if had_one:
            _write_split(folder, before)
        else:
            shutil.rmtree(folder, ignore_errors=True)

    with undone_if_failed(undo):
        _write_split(folder, None if split is None else msgspec.json.encode(split))
    return Publication(folder, publication.keep, undo)


def promote(served: Path) -> Publication:
    """Put the challenger in the place of `served`, whose model can be rolled back to; raises `BundleError`.

    For who is `alone` in it.
    """
    _check_answers(_challenger(served), Bundle.load(served))
    folder = challenger_folder(served)
    publication = publish(folder, served)
    with undone_if_failed(publication.undo):
        gone = withdraw(served)

    def undo() -> None:
        gone.undo()
        publication.undo()

    def keep() -> None:
        publication.keep()
        gone.keep()

    return Publication(publication.served, keep, undo)


def withdraw(served: Path) -> Publication:
    """Take the challenger of `served` away; raises `BundleError`. For who is `alone` in it."""
    folder = challenger_folder(served)
    if not folder.is_dir():  # what a promotion that was cut short left is taken away, too
        raise _none(served)
    aside = sibling(folder, "withdrawn")
    shutil.rmtree(aside, ignore_errors=True)

    def undo() -> None:
        aside.rename(folder)

    folder.rename(aside)
    with undone_if_failed(undo):
        sync_path(folder.parent)

    def keep() -> None:
        for left in (aside, *(sibling(folder, word) for word in ("previous", "incoming", "publishing"))):
            shutil.rmtree(left, ignore_errors=True)

    return Publication(served.resolve(), keep, undo)


def _challenger(served: Path) -> Bundle:
    if not has_challenger(served):
        raise _none(served)
    return Bundle.load(challenger_folder(served))


def _none(served: Path) -> BundleError:
    return BundleError(
        f"expected a challenger of {served} in {challenger_folder(served)}, got none: "
        "put one there with `python -m server.models challenge NEW FOLDER`"
    )


def _check(bundle: Bundle, champion: Bundle, split: TrafficSplit | None) -> None:
    if bundle.name != champion.name or bundle.label == champion.label:
        raise BundleError(f"expected another version of {champion.label} as challenger, got {bundle.label}")
    if bundle.task != champion.task:
        raise BundleError(f"expected a {champion.task} model as challenger, got a {bundle.task} one")
    if not set(bundle.schema.names) & set(champion.schema.names):
        got = listed(bundle.schema.names)
        raise BundleError(f"expected features of {champion.label} in {bundle.label}, got {got}")
    if split is None:
        return
    _check_answers(bundle, champion)
    fields = {*champion.schema.names, *champion.schema.context}
    if split.by != BY_REQUEST_ID and split.by not in fields:
        raise BundleError(
            f"expected {BY_REQUEST_ID}, or a field of {champion.label} or of its context, to split by, "
            f"got {split.by}"
        )


def _check_answers(bundle: Bundle, champion: Bundle) -> None:
    """Whether the rows that clients send to the champion can be the challenger's to answer.

    What the champion lets them leave out is taken to be sent.
    """
    sent = {*champion.schema.names, *champion.schema.ignored}
    refused = sent - {*bundle.schema.names, *bundle.schema.ignored}
    needed = {feature.name for feature in bundle.schema.features if not feature.nullable} - sent
    for names, what in ((refused, "takes no"), (needed, "needs")):
        if names:
            raise BundleError(
                f"expected a challenger that answers the rows of {champion.label}, got {bundle.label}, which "
                f"{what} {listed(sorted(names))}: let it score beside without --share, describe what it "
                "does not take as `context`, or publish it once clients send other rows"
            )


def lacking(served: Path) -> Iterable[str]:
    """The features of a challenger that rows of its champion do not have: it scores them as missing."""
    return sorted(set(_challenger(served).schema.names) - set(Bundle.load(served).schema.names))


def _split_bytes(folder: Path) -> bytes | None:
    try:
        return (folder / SPLIT_FILE).read_bytes()
    except FileNotFoundError:
        return None


def _write_split(folder: Path, content: bytes | None) -> None:
    file = folder / SPLIT_FILE
    if content is None:
        file.unlink(missing_ok=True)
    else:
        part = folder / f"{SPLIT_FILE}.part"
        write_synced(part, content)
        part.replace(file)
    sync_path(folder)
