"""`python -m loadtest same-code`: whether `compare` tells noise from a change.

Pairs of runs of the same code must mostly be found the same. Then a server with a
busy loop in its predictor is run, and `compare` must name that function first.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.harness.subject import LoadTestError, python, run_command
from loadtest.harness.target import add_model
from loadtest.loop.compare import Comparison, compare, words
from loadtest.loop.run import MIN_SECONDS
from loadtest.report.terminal import console

#: Of ten pairs of the same code so many must be found the same.
AT_LEAST_SHARE = 0.9
CULPRIT = "Predictor._margin_of_graph (model/predictor.py)"
#: The first line of the function that the loop goes before, and the loop.
BEFORE = "        self._row[:] = row\n"
LOOP = (
    "        import time\n"
    "        until = time.perf_counter_ns() + {nanoseconds}\n"
    "        while time.perf_counter_ns() < until:\n"
    "            pass\n"
)


class PairTally(NamedTuple):
    """How each pair was judged, and what was found with the loop in place."""

    pairs: list[Comparison]
    planted: Comparison

    @property
    def same(self) -> int:
        """The pairs without a difference."""
        return sum(not pair.differs for pair in self.pairs)

    @property
    def is_named_first(self) -> bool:
        """Whether the function with the loop is the one that grew most, beyond the noise."""
        first = self.planted.functions[:1]
        return bool(first) and first[0].name == CULPRIT and not first[0].is_noise and first[0].change_us > 0

    @property
    def passed(self) -> bool:
        """Whether `compare` can be relied on."""
        return self.same >= AT_LEAST_SHARE * len(self.pairs) and self.is_named_first


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--pairs", type=int, default=10, metavar="N", help="of runs of the same code [10]")
    parser.add_argument("--seconds", type=int, default=10, metavar="S", help="of each run [10]")
    parser.add_argument(
        "--planted-us", type=float, default=20.0, metavar="US", help="length of the busy loop [20]"
    )


def main(options: argparse.Namespace) -> int:
    """Run, compare, print the tally; 1 if `compare` is not to be relied on."""
    if options.seconds < MIN_SECONDS or options.pairs < 1:
        raise LoadTestError(
            f"expected --seconds of at least {MIN_SECONDS} and at least one pair, "
            f"got {options.seconds} and {options.pairs}"
        )
    with tempfile.TemporaryDirectory(prefix="hotrow-same-code-") as name:
        tally = _tally(options, Path(name))
    print_tally(tally)
    return 0 if tally.passed else 1


def plant(folder: Path, microseconds: float) -> Path:
    """A copy of the server in `folder` whose predictor loops for so long before each row."""
    shutil.copytree(Path(__file__).parents[2] / "server", folder / "server")
    file = folder / "server" / "model" / "predictor.py"
    source = file.read_text()
    if source.count(BEFORE) != 1:
        raise LoadTestError(f"expected one line {BEFORE.strip()!r} in {file}, got {source.count(BEFORE)}")
    file.write_text(source.replace(BEFORE, LOOP.format(nanoseconds=round(microseconds * 1000)) + BEFORE))
    return folder


def print_tally(tally: PairTally) -> None:
    """Each pair, the planted loop, and the verdict."""
    for i, pair in enumerate(tally.pairs, start=1):
        console.print(f"pair {i}: {pair.conclusion}")
    busy = sum(any(d.verdict == "unknown" for d in pair.differences) for pair in tally.pairs)
    console.print(
        f"{tally.same} of {len(tally.pairs)} pairs of the same code: no difference"
        + (f"; in {busy} the machine was too busy to tell all figures." if busy else ".")
    )
    cpu = next(d for d in tally.planted.differences if d.figure.key == "cpu_us_per_request")
    console.print(f"With the loop: server CPU per request {words(cpu)}, {cpu.verdict}; functions by change:")
    for f in tally.planted.functions[:3]:
        console.print(f"  {f.name}: {f.change_us:+.2f} us{' (noise)' if f.is_noise else ''}")
    console.print("`compare` can be relied on." if tally.passed else "`compare` is NOT to be relied on here.")


def _tally(options: argparse.Namespace, folder: Path) -> PairTally:
    pairs = []
    for i in range(options.pairs):
        names = [f"{i}-{side}" for side in "ab"]
        before, after = (_run(options, folder, name, "--no-profile") for name in names)
        pairs.append(compare(before, after))
        console.print(f"pair {i + 1} of {options.pairs}: {pairs[-1].conclusion}")
    planted = plant(folder / "code", options.planted_us)
    runs = (_run(options, folder, "without"), _run(options, folder, "with", "--code", str(planted)))
    return PairTally(pairs, compare(*runs))


def _run(options: argparse.Namespace, folder: Path, name: str, *more: str) -> Path:
    """One run in a process of its own, as a user starts it."""
    where: Sequence[str] = ("--name", name, "--results", str(folder), "--model", str(options.model))
    # With code that was compiled no row would come by the function with the loop.
    plain = ("env", "HOTROW_ROW_BACKEND=onnx")
    run_command([*plain, *python("-m", "loadtest", "run", *where, "--seconds", str(options.seconds), *more)])
    return folder / name
