"""`python -m server.keys`: make keys for callers, and list who has one. The server keeps digests alone."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from server.access.keys import new_key, read_callers
from server.access.scopes import SCOPES
from server.cli import CommandParser, run
from server.errors import SettingsError
from server.settings import PREFIX

VARIABLE = PREFIX + "KEYS_FILE"


def main(arguments: Sequence[str]) -> None:
    """Parse the options and do what one of the commands says."""
    parser = CommandParser("python -m server.keys", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    new = commands.add_parser("new", help="print a key, once, and keep its digest in the file")
    new.add_argument("name", metavar="NAME", help="whose key it is; twice while one is replaced")
    new.add_argument("--scopes", default="score", help=f"{', '.join(SCOPES)}, separated by commas [score]")
    new.set_defaults(command=_new)
    known = commands.add_parser("list", help="the names and scopes in the file")
    known.set_defaults(command=_list)
    for command in (new, known):
        command.add_argument("--file", type=Path, metavar="FILE", help=f"the file of digests [{VARIABLE}]")
    options = parser.parse_args(arguments)
    options.command(options)


def _new(options: argparse.Namespace) -> None:
    path = _file(options)
    key, line = new_key(options.name, options.scopes)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    content = before + ("\n" if before and not before.endswith("\n") else "") + line
    # Beside it and renamed, so that a server reads the one or the other.
    made = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        list(read_callers(made))
        made.replace(path)
    except OSError as error:
        raise SettingsError(f"expected to write {path}, got: {error.strerror}") from None
    finally:
        made.unlink(missing_ok=True)
    print(key)


def _list(options: argparse.Namespace) -> None:
    for _, caller in read_callers(_file(options)):
        print(caller.name, ",".join(sorted(caller.scopes)))


def _file(options: argparse.Namespace) -> Path:
    named = options.file or os.environ.get(VARIABLE)
    if not named:
        raise SettingsError(f"expected --file FILE or {VARIABLE}, got neither")
    return Path(named)


if __name__ == "__main__":
    run(main)
