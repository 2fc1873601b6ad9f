"""`python -m train`: train the credit model and write its bundle."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from export.label import label
from server.cli import run

#: LightGBM's seed is a signed integer of 32 bits.
MAX_INTEGER = 2**31 - 1


def main(arguments: Sequence[str]) -> int:
    """Train and write; 0 when the bundle is written."""
    options = _parser().parse_args(arguments)
    # Imported here: the options are told without the libraries of training.
    from rich.console import Console

    from train.cost import Costs
    from train.narrator import Narrator
    from train.pipeline import Request, train

    request = Request(
        data=options.data,
        out=options.out or Path("out") / options.name,
        replace=options.replace,
        name=options.name,
        version=options.version,
        trials=options.trials,
        seed=options.seed,
        costs=Costs(missed_default=options.fn_cost, refused_good=options.fp_cost),
        clients=options.clients,
        runs=options.runs,
    )
    train(request, Narrator(Console()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train", description="Train the credit model.")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder or archive with the Kaggle files [synthetic clients are generated]",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the bundle [out/NAME]")
    parser.add_argument("--replace", action="store_true", help="write over a bundle that stands there")
    parser.add_argument("--name", type=label, default="credit", help="the model's name [%(default)s]")
    parser.add_argument("--version", type=label, default="1", help="the model's version [%(default)s]")
    parser.add_argument("--trials", type=_at_least(1), default=40, help="parameter sets tried [%(default)s]")
    parser.add_argument("--seed", type=_at_least(0), default=0, help="of everything random [%(default)s]")
    parser.add_argument("--fn-cost", type=_cost, default=10.0, help="of a missed default [%(default)g]")
    parser.add_argument("--fp-cost", type=_cost, default=1.0, help="of a refused good client [%(default)g]")
    parser.add_argument(
        "--clients", type=_at_least(1), default=20_000, help="synthetic clients, without --data [%(default)s]"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="keeps the resumable study [%(default)s]"
    )
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() else -1
        if not least <= value <= MAX_INTEGER:
            raise argparse.ArgumentTypeError(
                f"expected an integer between {least} and {MAX_INTEGER}, got {text}"
            )
        return value

    return number


def _cost(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and below 1e6, got {text}")
    return value


if __name__ == "__main__":
    run(main)
