"""The commands of `python -m server.models`: folders exchanged, and the server told to take them."""

import argparse
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from server.cli import CommandParser, add_options
from server.errors import BundleError, SettingsError, listed, shown
from server.model.arms import BY_REQUEST_ID, TrafficSplit
from server.model.bundle import Bundle
from server.model.exchange import alone
from server.process.verdict import run_check
from server.publish.challenge import challenge, lacking, promote, withdraw
from server.publish.publication import Publication, previous, publish, roll_back, take
from server.publish.running_server import RunningServer, ServerError, find_server
from server.settings import Settings

DESCRIPTION = "Check, publish and roll back model folders, try challengers, and have the server take them."
FOLDERS = {
    "new": "the bundle to publish, or the challenger; it is copied, and stays as it is",
    "folder": "the folder of a bundle; but for check one of the server's --model",
}
SHARE = (
    "percent of the requests that the challenger answers, more than 0 [none: it scores beside the answers]"
)
BY = "what requests are split by: request_id, or a field of the rows [request_id]"

DIGEST = (
    "refuse a bundle of another digest (SHA-256 of its manifest) than `check` printed where it was exported"
)


def main(arguments: Sequence[str]) -> None:
    """Parse the options and do what one of the commands says."""
    parser = CommandParser("python -m server.models", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        command: Callable[[argparse.Namespace], None], name: str, *folders: str
    ) -> argparse.ArgumentParser:
        words = command.__doc__
        added = commands.add_parser(name, help=words, description=words)
        added.set_defaults(command=command)
        for folder in folders:
            added.add_argument(folder, type=Path, metavar=folder.upper(), help=FOLDERS[folder])
        if command is not check:
            add_options(added, "host", "port")
            added.add_argument(
                "--key-file",
                type=Path,
                metavar="FILE",
                help="file with a key for admin, if the server asks for keys",
            )
        if command in (check, publish_model):
            added.add_argument("--digest", help=DIGEST)
        return added

    add(check, "check", "folder")
    add(publish_model, "publish", "new", "folder")
    add(roll_back_model, "rollback", "folder")
    challenger = add(challenge_model, "challenge", "folder")
    challenger.add_argument(
        "new", type=Path, nargs="?", metavar="NEW", help=f"{FOLDERS['new']} [that there is]"
    )
    challenger.add_argument("--share", type=float, metavar="PERCENT", help=SHARE)
    challenger.add_argument("--by", default=BY_REQUEST_ID, metavar="KEY", help=BY)
    add(promote_model, "promote", "folder")
    add(withdraw_model, "withdraw", "folder")
    add(reload_server, "reload")
    add(list_models, "list")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half done is undone
    options.command(options)


def check(options: argparse.Namespace) -> None:
    """Score every golden row of a model folder."""
    bundle = _checked(options.folder, options.digest)
    print(f"{bundle.label} in {options.folder} is complete, every golden row as it should be.")
    print(f"--digest {bundle.digest}")


def publish_model(options: argparse.Namespace) -> None:
    """Put a model into a folder that is served; the server takes it, or nothing changes."""
    _checked(options.new, options.digest)
    _take(options, lambda: publish(options.new, options.folder))


def roll_back_model(options: argparse.Namespace) -> None:
    """Serve again what a folder held before; once more brings back what it holds now."""
    if previous(options.folder).exists():
        _checked(previous(options.folder))
    _take(options, lambda: roll_back(options.folder))


def challenge_model(options: argparse.Namespace) -> None:
    """Have another version of a served model score beside it, and answer a share of the requests."""
    split = _split(options)
    if options.new is not None:
        _checked(options.new)
    _take(options, lambda: challenge(options.new, options.folder, split), "has the challenger")
    if lacks := list(lacking(options.folder)):
        print(f"Rows of the champion have no {listed(lacks)}: the challenger scores without.")


def promote_model(options: argparse.Namespace) -> None:
    """Serve the challenger in the place of the model it was beside; `rollback` takes that back."""
    _take(options, lambda: promote(options.folder))


def withdraw_model(options: argparse.Namespace) -> None:
    """Take the challenger of a served model away."""
    _take(options, lambda: withdraw(options.folder))


def _split(options: argparse.Namespace) -> TrafficSplit | None:
    """What `--share` and `--by` ask for; raises `SettingsError`."""
    if options.share is None:
        return None
    try:
        return msgspec.convert({"share": options.share, "by": options.by}, TrafficSplit)
    except msgspec.ValidationError:
        raise SettingsError(
            f"expected a --share of more than 0 and at most 100 percent, got {options.share:g}"
        ) from None


def reload_server(options: argparse.Namespace) -> None:
    """Have the server read its model folders again."""
    server = _find(options)
    if server is None:
        raise ServerError(
            f"expected a server of this user on port {_settings(options).port}, got none: name its --port, "
            "or run this as the user it runs as"
        )
    server.reload()
    print(f"{server.url} serves {', '.join(server.labels())}.")


def list_models(options: argparse.Namespace) -> None:
    """Print what the server serves."""
    server = _find(options)
    if server is None:
        print(f"No server of this user listens on port {_settings(options).port}.")
    else:
        print(f"{server.url} serves {', '.join(server.labels())}.")


def _checked(folder: Path, digest: str | None = None) -> Bundle:
    """A model that can be served, and that has this digest if one is said; raises `BundleError`."""
    bundle = Bundle.load(folder)
    if digest is not None and bundle.digest != digest.lower():
        raise BundleError(
            f"expected the bundle of digest {shown(digest[:16])}… in {folder}, got {bundle.digest[:16]}…: "
            "something in it was changed since; copy it again from where it was exported"
        )
    if run_check(Settings.read(os.environ, model=(folder,))) != [bundle.digest]:
        raise BundleError(f"expected {folder} as it was checked, got another: check it once more")
    return bundle


def _server_of(options: argparse.Namespace) -> RunningServer | None:
    """The server on the port, None if there is none; raises `ServerError` if it reads other folders."""
    server = _find(options)
    found = None if server is None else server.settings()
    if server is not None and found is not None and options.folder.resolve() not in found.model:
        raise ServerError(
            f"expected a server of {options.folder}, got one of {', '.join(map(str, found.model))} "
            f"at {server.url}: name its --port, or the folder that it reads"
        )
    return server


def _take(options: argparse.Namespace, make: Callable[[], Publication], done: str = "serves") -> None:
    """Have the server take what a folder holds now; if it does not, the folder is as it was before."""
    server = _server_of(options)
    was_taken, told = False, ""

    def accept(publication: Publication) -> None:
        nonlocal was_taken, told
        bundle = Bundle.load(publication.served)
        if server is None:
            where = options.folder if publication.served == options.folder.resolve() else publication.served
            port = _settings(options).port
            told = f"{where} holds {bundle.label}; no server of this user is on port {port}."
            return
        server.reload()
        was_taken = True
        if not server.serves(bundle.digest):
            raise ServerError(
                f"expected a server of {options.folder}, got one of other folders at {server.url}: "
                f"it serves {', '.join(server.labels())}"
            )
        told = f"{server.url} {done} {bundle.label}."

    with alone(options.folder):
        try:
            take(make, accept)
        except (ServerError, KeyboardInterrupt) as error:
            if server is not None and (was_taken or isinstance(error, KeyboardInterrupt)):  # it may hold it
                server.request_reload()
            raise
    print(told)


def _find(options: argparse.Namespace) -> RunningServer | None:
    settings = _settings(options)
    key = "" if options.key_file is None else _key_in(options.key_file)
    return find_server(settings.host, settings.port, key)


def _key_in(file: Path) -> str:
    try:
        words = file.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"expected a key in {file}, got: {error}") from None
    if len(words) != 1 or not words[0].isprintable():
        raise SettingsError(
            f"expected one key and nothing else in {file}, got {len(words)} words: it is what "
            "`python -m server.keys new` prints, and not the server's own file"
        )
    return words[0]


def _settings(options: argparse.Namespace) -> Settings:
    return Settings.read(os.environ, host=options.host, port=options.port)
