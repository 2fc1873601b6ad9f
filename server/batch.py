"""`python -m server.batch IN OUT`: score a file, CSV, JSON Lines or Parquet by its ending."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from server.bundle import Bundle
from server.cli import add_options, given, run
from server.errors import HotrowError
from server.settings import Settings

_DESCRIPTION = (
    "Score a file: the input's columns, plus probability and decision. Columns that are no feature are "
    "carried along, a feature without a column is missing. After an interruption the same command goes on."
)


class MissingLibrary(HotrowError):
    """A library of the development set, without which no file is read."""


def main(arguments: Sequence[str]) -> int:
    """Score one file; 0 when it is written."""
    options = _parser().parse_args(arguments)
    settings = Settings.read(os.environ, model=given(options)["model"])
    bundle = Bundle.load(settings.model[0])
    try:  # heavy, and nothing the server's process should know
        from server.batch_job import BatchJob
        from server.batch_progress import shown
    except ImportError as error:
        raise MissingLibrary(
            f"expected polars and rich to be installed, got no {error.name}: run `make tools`"
        ) from None
    job = BatchJob(options.source, options.target, bundle, options.on_bad_row, options.threads)
    shown(job, bundle)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m server.batch", description=_DESCRIPTION)
    parser.add_argument("source", metavar="IN", type=Path, help="file to score: .csv, .jsonl or .parquet")
    parser.add_argument("target", metavar="OUT", type=Path, help="file to write; the same endings")
    add_options(parser, "model")
    parser.add_argument(
        "--engine",
        choices=["local"],
        default="local",
        help="where rows are scored: this machine [%(default)s]",
    )
    parser.add_argument(
        "--on-bad-row",
        choices=["fail", "skip", "null"],
        default="fail",
        help="refuse the file, leave the row out, or leave its answer empty; "
        "the last two write OUT.bad.csv with the lines [%(default)s]",
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        default=len(os.sched_getaffinity(0)),
        help="blocks scored at once [the cores: %(default)s]",
    )
    return parser


def _threads(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 256):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to 256, got {text!r}")
    return int(text)


if __name__ == "__main__":
    # Read by polars when it is imported: its own pool needs no more threads than we have cores.
    os.environ.setdefault("POLARS_MAX_THREADS", str(len(os.sched_getaffinity(0))))
    run(main)
