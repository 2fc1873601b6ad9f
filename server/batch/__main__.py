"""`python -m server.batch IN OUT`: score a file, CSV, JSON Lines, Parquet, Arrow or Excel."""

import argparse
import atexit
import codecs
import gc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli import CommandParser, add_options, given, run, whole_number
from server.errors import SettingsError
from server.settings import Settings

if TYPE_CHECKING:
    from server.batch.layout import Reading

_DESCRIPTION = (
    "Score a file: the input's columns, plus probability and decision. Columns that are no feature are "
    "carried along, a feature without a column is missing. After an interruption the same command goes on."
)


def main(arguments: Sequence[str]) -> int:
    """Score one file; 0 when it is written."""
    options = _parser().parse_args(arguments)
    if options.engine == "local":  # before there are threads: each has a nice value of its own
        os.nice(options.nice)
    settings = Settings.read(os.environ, model=given(options)["model"])
    # Imported here: without its libraries the command says so.
    from server.model.bundle import Bundle

    bundle = Bundle.load(settings.model[0])
    from server.batch.progress import Job, shown  # heavy, and nothing the server's process should know

    asked = (options.source, options.target, bundle, options.on_bad_row)
    reading = _reading(options)
    job: Job
    if options.engine == "ray":
        from server.batch.cluster.ray_cluster import Where
        from server.batch.cluster.ray_job import RayJob

        where = Where(options.address, options.threads)
        job = RayJob(*asked, where, options.shard_size, reading, options.backend)
    else:
        from server.batch.job import BatchJob

        job = BatchJob(*asked, options.threads, reading, options.backend)
    shown(job, bundle)
    return 0


def _reading(options: argparse.Namespace) -> "Reading":
    """What the options say about the file."""
    from server.batch.layout import Reading
    from server.tables.csv_dialect import Options

    pairs = [part.partition("=") for part in options.columns or ()]
    if len({equals for _, equals, _ in pairs}) > 1:
        raise SettingsError("expected --columns as names in order, or as theirs=ours pairs, got both")
    renames = tuple((theirs, ours) for theirs, equals, ours in pairs if equals)
    names = tuple(name for name, equals, _ in pairs if not equals)
    own = Options(
        separator=options.separator,
        encoding=options.encoding,
        decimal=options.decimal,
        missing=None if options.missing is None else tuple(options.missing),
        columns=names,
        quotes=options.quotes != "none",
        escaped=options.quotes == "escaped",
    )
    return Reading(own, renames, options.allow_missing, options.prefix, options.reasons)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser("python -m server.batch", description=_DESCRIPTION)
    endings = ".csv, .tsv, .jsonl, .parquet, .arrow or .xlsx, each also with .gz or .zst"
    parser.add_argument(
        "source", metavar="IN", type=Path, help=f"file to score: {endings}; - is standard input"
    )
    parser.add_argument(
        "target", metavar="OUT", type=Path, help="file to write; the same endings; - to print it"
    )
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
        type=whole_number(1),
        metavar="N",
        help="of --engine ray: bytes of text, or rows of Parquet, that a shard is made of [32 MiB, 250,000]",
    )
    parser.add_argument(
        "--on-bad-row",
        choices=["fail", "skip", "null"],
        default="fail",
        help="refuse the file, leave the row out, or leave its response empty; "
        "the last two write OUT.bad.csv with the lines [%(default)s]",
    )
    parser.add_argument(
        "--threads",
        type=whole_number(1, 256),
        default=len(os.sched_getaffinity(0)),
        help="blocks scored at once on this machine [the cores: %(default)s]",
    )
    parser.add_argument(
        "--nice",
        type=whole_number(0, 19),
        default=10,
        metavar="N",
        help="how far behind others of this machine the command stands; 0: as it was started [%(default)s]",
    )
    parser.add_argument(
        "--backend",
        choices=["auto", "compiled", "onnx"],
        default="auto",
        help="what scores: trees compiled for this processor, with equal bits, or ONNX Runtime; "
        "auto compiles where that pays, and uses what was compiled before [%(default)s]",
    )
    parser.add_argument(
        "--reasons",
        type=whole_number(1, 1000),
        default=0,
        metavar="N",
        help="a column of at most so many codes of reasons, as POST /predict?reasons=N gives them",
    )
    _add_reading(parser)
    return parser


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """How a file is read: recognised by its content, unless it is said here."""
    group = parser.add_argument_group(
        "how the file is read", "recognised by its content where nothing is said"
    )
    group.add_argument("--separator", metavar="C", type=_separator, help="between cells of CSV: , ; | or tab")
    group.add_argument(
        "--encoding", metavar="NAME", type=_encoding, help="of a text file: utf-8, cp1252, utf-16 …"
    )
    group.add_argument("--decimal", choices=[".", ","], help="the decimal sign of numbers in texts")
    group.add_argument("--missing", metavar="WORDS", type=_list, help="words for a missing value, by commas")
    group.add_argument(
        "--quotes",
        choices=["double", "escaped", "none"],
        default="double",
        help="how one within a cell is written: doubled, or behind a backslash; none: they mean nothing "
        "[%(default)s]",
    )
    group.add_argument(
        "--columns",
        metavar="NAMES",
        type=_list,
        help="theirs=ours,… to say which column is which feature, or the names of all columns of a file "
        "without a header",
    )
    group.add_argument(
        "--allow-missing",
        action="store_true",
        help="score a file without the columns of features that may be missing",
    )
    group.add_argument(
        "--prefix", help="before the names of the columns that are added [hotrow_ if it is needed]"
    )


def _list(text: str) -> list[str]:
    return text.split(",")


def _separator(text: str) -> str:
    separator = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(separator) != 1 or not separator.isascii() or separator in '"\r\n':
        raise argparse.ArgumentTypeError(f"expected one character or `tab`, got {text!r}")
    return separator


def _encoding(text: str) -> str:
    try:
        "a".encode(text)  # raises for what encodes no text, such as rot13
        name = codecs.lookup(text).name
    except (LookupError, ValueError):
        raise argparse.ArgumentTypeError(f"expected the name of a text encoding, got {text!r}") from None
    return "utf-8" if name == "utf-8-sig" else name


if __name__ == "__main__":
    # Read by polars when it is imported: its own pool needs no more threads than we have cores, and
    # each row group that it reads ahead of the scoring is memory that nobody waits for.
    os.environ.setdefault("POLARS_MAX_THREADS", str(len(os.sched_getaffinity(0))))
    os.environ.setdefault("POLARS_ROW_GROUP_PREFETCH_SIZE", "1")
    # Of NumPy's linear algebra, which nothing here uses: its threads wait awake for a while at the start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What imports make stays. The collector looked through it again and again, and once more at the end.
    gc.set_threshold(100_000, 20, 100)
    atexit.register(gc.freeze)
    run(main)
