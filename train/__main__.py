"""`python -m train`: train the credit model, or one of a table of your own, and write its bundle."""

import argparse
import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.reading.label import label
from server.cli import CommandParser, output_file, positive_number, run, whole_number

if TYPE_CHECKING:
    from train.own_table import Asked

#: LightGBM's seed is a signed integer of 32 bits.


def main(arguments: Sequence[str]) -> int:
    """Train and write; 0 when the bundle is written."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.table is None) != (options.target is None):
        parser.error("expected --table and --target together")
    if options.table is not None and options.data is not None:
        parser.error("expected --table or --data, got both")
    # Imported here: the options are told without the libraries of training.
    from rich.console import Console

    from export.evaluation.cost import Costs
    from train.study.narrator import Narrator
    from train.study.study import Recipe
    from train.study.tracking import check_tracking

    check_tracking()
    document = _document(options.schema)
    said = document.get("costs") or {"false_negative": 10.0, "false_positive": 1.0}
    table = "credit" if options.table is None else _label_of(options.table)
    name = options.name or document.get("name") or table
    out = options.out or Path("out") / name
    recipe = Recipe(
        out=out,
        replace=options.replace,
        name=name,
        version=options.version or document.get("version") or "1",
        trials=options.trials,
        seed=options.seed,
        costs=Costs(
            missed_default=float(options.fn_cost or said["false_negative"]),
            refused_good=float(options.fp_cost or said["false_positive"]),
        ),
        runs=options.runs,
        report=options.report or out.with_name(f"{out.name}.html"),
        like=options.like,
    )
    narrator = Narrator(Console())
    if options.table is None:
        from train.pipeline import Request, train

        train(Request(recipe, options.data, options.clients), narrator)
    else:
        from train.own_pipeline import train_table

        train_table(_asked(options, document), recipe, narrator)
    return 0


def _document(path: Path | None) -> dict[str, Any]:
    """What is described beside the features; raises `ExportRefused` for what training has no place for."""
    if path is None:
        return {}
    from export.errors import ExportRefused
    from export.reading.describe import document_of
    from export.reading.description import check_document

    document = document_of(path)
    check_document(document)
    if document.get("threshold") is not None:
        raise ExportRefused(
            f"expected costs in {path}, by which training chooses the threshold, got a threshold: say what "
            "mistakes cost, or train first and give it to python -m export"
        )
    return document


def _asked(options: argparse.Namespace, document: dict[str, Any]) -> "Asked":
    """What is asked of a table of one's own."""
    from train.own_table import Asked

    return Asked(
        path=options.table,
        target=options.target,
        positive=options.positive,
        key=options.id,
        drop=options.drop,
        groups=options.groups or tuple(document.get("groups") or ()),
        schema=options.schema,
        decisions=options.decisions or tuple(document.get("decisions") or ("negative", "positive")),
        document=document,
    )


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser("python -m train", description="Train the credit model.")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder or archive with the Kaggle files [synthetic clients are generated]",
    )
    add = parser.add_argument_group("a table of your own").add_argument
    add(
        "--table", type=Path, metavar="FILE", help="train on it instead: CSV, TSV, JSON Lines, Parquet, Arrow"
    )
    add("--target", metavar="COLUMN", help="what is learned: a column of two values")
    add("--positive", metavar="VALUE", help="the value of --target whose probability is given")
    add("--id", metavar="COLUMN", help="names a row; held to be unique, never learned from")
    add(
        "--drop",
        type=_columns,
        default=(),
        metavar="A,B",
        help="columns that are not learned from ('\"a,b\",c' for names with commas)",
    )
    add("--groups", type=_columns, default=(), metavar="A,B", help="columns whose groups are looked at apart")
    add(
        "--describe",
        "--schema",
        dest="schema",
        type=Path,
        metavar="FILE",
        help="features, names, costs, wording and more in words, as of python -m export",
    )
    add(
        "--decisions",
        type=_two,
        metavar="A,B",
        help="names of the decisions below and from the threshold [negative,positive]",
    )
    parser.add_argument(
        "--report", type=output_file, metavar="FILE", help="a page of HTML with plots [OUT.html]"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the bundle [out/NAME]")
    parser.add_argument("--replace", action="store_true", help="write over a bundle that stands there")
    parser.add_argument("--name", type=label, help="the model's name [credit, or the table's]")
    parser.add_argument("--version", type=label, help="the model's version [1]")
    parser.add_argument(
        "--trials", type=whole_number(1), default=40, help="parameter sets tried [%(default)s]"
    )
    parser.add_argument(
        "--like", type=Path, metavar="BUNDLE", help="take the parameters of this bundle, search for none"
    )
    parser.add_argument("--seed", type=whole_number(0), default=0, help="of everything random [%(default)s]")
    parser.add_argument("--fn-cost", type=positive_number(1e6), help="of a missed default [10]")
    parser.add_argument("--fp-cost", type=positive_number(1e6), help="of a refused good client [1]")
    parser.add_argument(
        "--clients",
        type=whole_number(1),
        default=20_000,
        help="synthetic clients, without --data [%(default)s]",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="keeps the resumable study [%(default)s]"
    )
    return parser


def _columns(text: str) -> tuple[str, ...]:
    """The names of a list as CSV has it: one with a comma stands in quotes."""
    try:
        words = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as error:
        raise argparse.ArgumentTypeError(f"expected names parted by commas, got: {error}") from None
    return tuple(filter(None, (word.strip() for word in words)))


def _two(text: str) -> tuple[str, str]:
    words = _columns(text)
    if len(words) != 2 or words[0] == words[1]:
        raise argparse.ArgumentTypeError(f"expected two different names, got {text!r}")
    return words[0], words[1]


def _label_of(table: Path) -> str:
    """A file's name as a model's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", table.name.partition(".")[0]).strip("-._")[:64] or "table"


if __name__ == "__main__":
    run(main)
