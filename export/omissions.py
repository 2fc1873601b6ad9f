"""`python -m export.omissions BUNDLE [--data FILE]`: who would be decided better for leaving inputs out.

Of rows that are not given the first decision (the golden rows, or rows of a file) every set of the inputs
that may be missing is left out in turn, as null or an absent member would, and the bundle scores and
judges what is left. Of many inputs all sets of one and of two are tried, and all of them at once.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.errors import ExportRefused
from export.reading.observe import read_data
from export.reading.table import read_table
from server.cli import CommandParser, run
from server.errors import number_of
from server.model.bounds import Bounds
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.schema import Matrix

#: Inputs of which every set is tried: 4,095 of them.
EVERY_SET = 12
_SLICE = 20_000


class Gain(NamedTuple):
    """A row, by its place, that gets the first decision for leaving these inputs out."""

    row: int
    left_out: tuple[str, ...]


class Omissions(NamedTuple):
    """What was tried on so many rows, of which `adverse` are not given the first decision.

    `scored` ways to leave something out were; `gains` has the smallest that changed a row's decision.
    """

    rows: int
    adverse: int
    scored: int
    gains: tuple[Gain, ...]

    @property
    def share(self) -> float:
        """Of all rows, those that gain."""
        return len(self.gains) / self.rows if self.rows else 0.0


def omissions(bundle: Bundle, rows: Matrix) -> Omissions:
    """Leave inputs out of n encoded rows, float64 [n, F]; raises `ExportRefused` unless the model decides."""
    if bundle.task != "binary":
        raise ExportRefused(
            f"expected a model that decides, got one of {bundle.task}: name the bundle of a binary one"
        )
    predictor = Predictor(bundle)
    adverse = np.flatnonzero(_outcomes(predictor, rows)).tolist()
    gains, scored = [], 0
    for place in adverse:
        sets = list(_sets(bundle, rows[place]))
        tried = np.tile(rows[place], (len(sets), 1))
        for k, columns in enumerate(sets):
            tried[k, list(columns)] = np.nan
        better = np.flatnonzero(_outcomes(predictor, tried) == 0)
        scored += len(sets)
        if len(better):
            gains.append(Gain(place, tuple(bundle.schema.names[i] for i in sets[int(better[0])])))
    return Omissions(len(rows), len(adverse), scored, tuple(gains))


def _outcomes(predictor: Predictor, rows: Matrix) -> Matrix:
    found = []
    for start in range(0, len(rows), _SLICE):
        some = rows[start : start + _SLICE]
        outputs = predictor.output_array(predictor.margins(some))
        found.append(predictor.outcomes(outputs, some))
    return np.concatenate(found) if found else np.zeros(0)


def _sets(bundle: Bundle, row: Matrix) -> Iterator[tuple[int, ...]]:
    """The sets of known inputs that may be missing, the smallest first."""
    known = [i for i, f in enumerate(bundle.schema.features) if f.nullable and not np.isnan(row[i])]
    most = len(known) if len(known) <= EVERY_SET else 2
    yield from chain.from_iterable(combinations(known, count) for count in range(1, most + 1))
    if most < len(known):
        yield tuple(known)


def drawn(bundle: Bundle, data: Path | None, count: int, seed: int) -> Matrix:
    """So many rows, float64 [n, F]: of a file, or golden ones; all where there are fewer."""
    if data is None:
        matrix = np.array([np.frombuffer(bundle.schema.encode(fields)) for fields in bundle.golden_fields()])
    else:
        matrix = read_data(bundle.schema.features, read_table(data)).matrix
        matrix[Bounds(bundle.schema).bad(matrix)] = np.nan
    required = [i for i, feature in enumerate(bundle.schema.features) if not feature.nullable]
    matrix = matrix[~np.isnan(matrix[:, required]).any(axis=1)]
    if not len(matrix):
        raise ExportRefused("expected rows that the model takes, got none: give others with --data")
    places = np.sort(np.random.default_rng(seed).permutation(len(matrix))[:count])
    return np.asarray(matrix[places])


def main(arguments: Sequence[str]) -> int:
    """Print the share; 1 where it is above `--at-most`."""
    parser = CommandParser(prog="python -m export.omissions", description=__doc__)
    parser.add_argument("bundle", type=Path, help="a bundle folder")
    parser.add_argument("--data", type=Path, metavar="FILE", help="rows to try [the golden rows]")
    parser.add_argument("--rows", type=int, default=250, metavar="N", help="drawn from them [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of the draw [%(default)s]")
    parser.add_argument("--at-most", type=float, metavar="SHARE", help="exit 1 where more gain, as 0.01")
    options = parser.parse_args(arguments)
    bundle = Bundle.load(options.bundle)
    found = omissions(bundle, drawn(bundle, options.data, options.rows, options.seed))
    first = bundle.outcomes[0]
    print(
        f"{number_of(found.rows, 'row')}; not decided {first}: {found.adverse:,}\n"
        f"decided so for leaving something out: {len(found.gains):,} ({found.share:.1%} of all), "
        f"of {number_of(found.scored, 'way')}"
    )
    for gain in found.gains[:5]:
        print(f"row {gain.row + 1}: without {', '.join(gain.left_out)}")
    too_many = options.at_most is not None and found.share > options.at_most
    if too_many:
        print(
            f"Expected at most {options.at_most:.1%}, got {found.share:.1%}: say `missing: highest` of the "
            "inputs and train so, or name what is `needed` in the policy.",
            file=sys.stderr,
        )
    return int(too_many)


if __name__ == "__main__":
    run(main)
