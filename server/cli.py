"""What the commands share: options from settings, and exits instead of tracebacks."""

import argparse
import errno
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from server.errors import HotrowError, NotInstalled, SettingsError, brief
from server.settings import FOLDERS, PREFIX, Settings, parse_setting, whole

Value = TypeVar("Value")

#: Set by `hotrow COMMAND`: there the user typed no `python -m`, which from a wheel finds nothing of ours.
TYPED_HOTROW = "_HOTROW"
_AS_MODULE = re.compile(r"python\s+-m\s+(?:server\.|monitoring\s*)?(\w*)")
#: What `hotrow` calls otherwise than the module is called.
_NAMES = {"server": "serve"}
REFUSED = 1
COULD_NOT_START = 3


class CommandParser(argparse.ArgumentParser):
    """Usage, help and errors with the command as it was typed."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(as_typed(prog), **options)

    def format_help(self) -> str:
        return as_typed(super().format_help())

    def error(self, message: str) -> NoReturn:
        """End with usage and message; an argument may be of any length."""
        super().error(brief(message))


def as_typed(text: str) -> str:
    """Of a text for the user each `python -m MODULE`, if `hotrow COMMAND` was typed, as that."""
    if TYPED_HOTROW not in os.environ:
        return text
    return _AS_MODULE.sub(lambda found: f"hotrow {_NAMES.get(found[1], found[1])}".rstrip(), text)


def add_options(parser: argparse.ArgumentParser, *names: str, **defaults: object) -> None:
    """Add `--name` for each of these settings, with the meaning of its variable."""
    meanings = {f.name: f.metadata["meaning"] for f in fields(Settings)}
    for name in names:
        meaning = f"{meanings[name]} [{PREFIX}{name.upper()}, {defaults.get(name, _default(name))}]"
        if name in FOLDERS:
            parser.add_argument(f"--{name}", action="append", metavar="DIR", type=Path, help=meaning)
        else:
            parse = said_as_option(parse_setting(name))
            parser.add_argument("--" + name.replace("_", "-"), type=parse, help=meaning)


def _default(name: str) -> object:
    value = getattr(Settings(), name)
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def whole_number(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """The type of an option that is a whole number."""
    return said_as_option(whole(least, most))


def positive_number(below: float = math.inf) -> Callable[[str], float]:
    """The type of an option that is a number above 0."""

    def parse(text: str) -> float:
        with suppress(ValueError):
            if 0.0 < (value := float(text)) < below:
                return value
        raise ValueError("a number above 0" + (f" and below {below:g}" if below < math.inf else ""))

    return said_as_option(parse)


def said_as_option(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """The type of an option that is read by a function whose `ValueError` says what was expected."""

    def option(text: str) -> Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"expected {error}, got {text!r}") from None

    return option


def output_file(text: str) -> Path:
    """The file of an option that is written when the work is done: what keeps it from that is told before.

    Its folder is made.
    """
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"expected a file to write, got {text}: {error.strerror}") from None
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        got = "a folder" if path.is_dir() else "one that may not be written"
        raise argparse.ArgumentTypeError(f"expected a file to write, got {got}: {text}")
    return path


def input_file(text: str) -> Path:
    """The file of an option that is read late in the work: whether it can be is told before."""
    path = Path(text)
    if path.is_dir() or not os.access(path, os.R_OK):
        got = "a folder" if path.is_dir() else "one that may not be read" if path.exists() else "none"
        raise argparse.ArgumentTypeError(f"expected a file to read, got {got}: {text}")
    return path


def given(options: argparse.Namespace) -> dict[str, object]:
    """The options as `Settings.read` takes them; those not given are None."""
    values = vars(options)
    return values | {name: _folders(values.get(name) or ()) or None for name in FOLDERS}


def _folders(words: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(Path(part) for word in words for part in str(word).split(",") if part)


def run(command: Callable[[Sequence[str]], int | None], code: int = REFUSED) -> None:
    """Run a command and exit; an error written for the user becomes one sentence and `code`."""
    try:
        with installed():
            sys.exit(command(sys.argv[1:]))
    except SettingsError as error:
        sys.exit(_say(error, COULD_NOT_START if code == COULD_NOT_START else 2))
    except HotrowError as error:
        sys.exit(_say(error, code))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        sys.exit(_say(HotrowError(f"expected a path, got one that is too long: {error.filename}"), code))
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def installed() -> Iterator[None]:
    """Raise `NotInstalled` where a library is imported that is not there.

    `make run` installs the runtime set alone, so that is no mistake of ours; a
    module of ours that is missing is one, and keeps its traceback.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = error.name or ""
        if not name or (Path(__file__).parents[1] / name.partition(".")[0]).is_dir():
            raise
        raise NotInstalled(name) from None


def _say(error: HotrowError, code: int) -> int:
    print(sentence(error), file=sys.stderr)
    return code


def sentence(error: Exception) -> str:
    """The error's words as a sentence, with one full stop."""
    return as_typed(f"{str(error).removesuffix('.')}.")
