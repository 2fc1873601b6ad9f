"""`python -m train.synthetic_tables DIR`: synthetic files in the format of Home Credit's."""

import argparse
from pathlib import Path

from train.tables.synthetic_tables import write_tables


def main() -> None:
    """Write the files from the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.synthetic_tables", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--clients", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_tables(options.folder, options.clients, options.seed)


if __name__ == "__main__":
    main()
