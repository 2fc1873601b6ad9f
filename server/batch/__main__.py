"""`python -m server.batch IN OUT`: score a file, CSV, JSON Lines or Parquet by its ending."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli import add_options, given, run
from server.errors import HotrowError
from server.settings import Settings

if TYPE_CHECKING:
    from server.model.bundle import Bundle

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
    # Imported here: without its libraries the command says so.
    from server.model.bundle import Bundle

    bundle = Bundle.load(settings.model[0])
    try:  # heavy, and nothing the server's process should know
        from server.batch.progress import shown
    except ImportError as error:
        raise MissingLibrary(
            f"expected polars and rich to be installed, got no {error.name}: run `make tools`"
        ) from None
    if options.engine == "ray":
        _score_with_ray(options, bundle)
        return 0
    from server.batch.job import BatchJob

    shown(BatchJob(options.source, options.target, bundle, options.on_bad_row, options.threads), bundle)
    return 0


def _score_with_ray(options: argparse.Namespace, bundle: "Bundle") -> None:
    from server.batch.progress import shown
    from server.batch.ray_cluster import Where
    from server.batch.ray_job import RayJob

    where = Where(options.address, options.threads)
    shown(
        RayJob(options.source, options.target, bundle, options.on_bad_row, where, options.shard_size), bundle
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m server.batch", description=_DESCRIPTION)
    parser.add_argument("source", metavar="IN", type=Path, help="file to score: .csv, .jsonl or .parquet")
    parser.add_argument("target", metavar="OUT", type=Path, help="file to write; the same endings")
    add_options(parser, "model")
    parser.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="where rows are scored: this process, or a Ray cluster; with ray IN may be a folder of files, "
        "and OUT is a folder of shards [%(default)s]",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=os.environ.get("RAY_ADDRESS", "local"),
        help="the cluster of --engine ray; `local` starts one on this machine [RAY_ADDRESS, local]",
    )
    parser.add_argument(
        "--shard-size",
        type=_whole(1, 2**31),
        metavar="N",
        help="of --engine ray: bytes of text, or rows of Parquet, that a shard is made of [32 MiB, 250,000]",
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
        type=_whole(1, 256),
        default=len(os.sched_getaffinity(0)),
        help="blocks scored at once on this machine [the cores: %(default)s]",
    )
    return parser


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text!r}")
        return int(text)

    return parse


if __name__ == "__main__":
    # Read by polars when it is imported: its own pool needs no more threads than we have cores.
    os.environ.setdefault("POLARS_MAX_THREADS", str(len(os.sched_getaffinity(0))))
    run(main)
