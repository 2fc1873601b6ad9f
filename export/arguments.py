"""What the options of `python -m export` ask for."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from export.reading.label import label
from export.request import ExportRequest
from server.cli import CommandParser, input_file, positive_number

_DESCRIPTION = "`python -m export SOURCE --out DIR`: a bundle from a trained model, tested equal to it."


def parse(arguments: Sequence[str]) -> ExportRequest:
    """What the options of the command ask for."""
    parser = CommandParser("python -m export", description=_DESCRIPTION)
    add = parser.add_argument
    add(
        "source",
        type=Path,
        help="a model of LightGBM, XGBoost or scikit-learn, an ONNX file, or a bundle folder",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="DIR", help="the bundle to write")
    what.add_argument("--schema-template", action="store_true", help="print a schema to edit, write nothing")
    what.add_argument(
        "--description",
        action="store_true",
        help="print a complete description to edit, in YAML",
    )
    add(
        "--describe",
        "--schema",
        dest="schema",
        type=Path,
        metavar="FILE",
        help="features in words: JSON as the template, or a list of names",
    )
    add(
        "--data",
        type=Path,
        metavar="FILE",
        help="training rows (.csv, .jsonl, .parquet): kinds, ranges, medians",
    )
    add("--evaluate", type=input_file, metavar="FILE", help="rows with outcomes: an evaluation and a card")
    add("--target", metavar="COLUMN", help="the column of outcomes in --evaluate")
    add("--positive", metavar="VALUE", help="the value of --target whose probability is given")
    add("--name", type=label, help="the model's name [the file's]")
    add("--version", type=label, help="the model's version [1]")
    add("--threshold", type=float, help="a probability from here on is the second decision [0.5]")
    add("--decisions", type=_words, metavar="A,B", help="names of the decisions below and from the threshold")
    add("--classes", type=_words, metavar="A,B,C", default=(), help="names of the classes, in their order")
    add("--task", choices=("binary", "regression", "multiclass", "ranking"), help="what an ONNX score is")
    add("--output", metavar="NAME", help="the output of an ONNX file that is served")
    add(
        "--absent",
        choices=("nan", "0"),
        default="nan",
        help="what an ONNX file gets for an absent feature [nan]",
    )
    add(
        "--rounds",
        choices=("best", "all"),
        help="of a booster that stopped early, the rounds up to the best one or all of them [best]",
    )
    add(
        "--fn-cost",
        type=positive_number(),
        metavar="COST",
        help="cost of a missed positive, instead of --threshold",
    )
    add("--fp-cost", type=positive_number(), metavar="COST", help="cost of a false alarm")
    add("--replace", action="store_true", help="write over other content of the same name and version")
    add(
        "--python",
        type=Path,
        metavar="PATH",
        help="the Python that reads the pickle, of the environment that the model was trained in",
    )
    add(
        "--allow-protected",
        metavar="WHY",
        help="take a model that a protected characteristic is an input of, and write why into the bundle",
    )
    add("--trust-pickle", action="store_true", help="load a pickle, which can run any code")
    options = parser.parse_args(arguments)
    if options.threshold is not None and not 0.0 <= options.threshold <= 1.0:
        parser.error("argument --threshold: expected a probability between 0 and 1")
    if (options.fn_cost is None) != (options.fp_cost is None):
        given, lacks = ("--fn-cost", "--fp-cost") if options.fp_cost is None else ("--fp-cost", "--fn-cost")
        parser.error(f"argument {given}: expected {lacks} with it")
    if (options.evaluate is None) != (options.target is None):
        given, lacks = ("--evaluate", "--target") if options.target is None else ("--target", "--evaluate")
        parser.error(f"argument {given}: expected {lacks} with it")
    if options.decisions is not None and len(options.decisions) != 2:
        parser.error("argument --decisions: expected two names")
    return ExportRequest(**vars(options))


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    if len(words) < 2 or len(set(words)) != len(words) or not all(words):
        raise argparse.ArgumentTypeError(f"expected different names separated by commas, got {text!r}")
    return words
