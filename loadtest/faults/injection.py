"""Injects faults one after another, and writes and prints what became of each."""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.faults import report
from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import FaultSkipped, Scene
from loadtest.harness.reference_rows import reference_rows
from loadtest.report import machine
from loadtest.report.terminal import console
from server.cli import output_file
from server.errors import HotrowError
from server.model.bundle import Bundle

RESULTS = Path("docs/generated/faults.md")


Run = Callable[[Scene, FaultOutcome], None]


class Fault(NamedTuple):
    """One fault; `key` is its number in docs/reliability.md, which says what it must reach."""

    key: str
    title: str
    how: str
    run: Run


def planned(key: str, title: str, run: Run) -> Fault:
    """A fault that is done as its own docstring says."""
    return Fault(key, title, run.__doc__ or "", run)


def add_results(parser: argparse.ArgumentParser) -> None:
    """The option that says where results are written."""
    parser.add_argument(
        "--results",
        type=output_file,
        default=str(RESULTS),
        metavar="FILE",
        help=f"the page that they are written to [{RESULTS}]",
    )


def run(
    faults: Sequence[Fault],
    bundle: Bundle,
    file: Path,
    *,
    short: bool = False,
    fuzz_seconds: int = 0,
    only: str = "",
) -> int:
    """Run faults one after another, and write each outcome as it comes, unless it is of a part `only`."""
    rows = reference_rows([bundle], 2000)
    page, counts = report.read(file), dict.fromkeys((report.PASSED, report.FAILED, report.SKIPPED), 0)
    for fault in faults:
        console.print(f"[bold]{fault.key}[/bold] {fault.title}. {fault.how}")
        with tempfile.TemporaryDirectory(prefix="hotrow-fault-") as folder:
            result = inject(fault, Scene(bundle, rows, Path(folder), short, fuzz_seconds, only))
        if not only:
            page[fault.key] = report.text_of(fault.key, result)
            report.write(page, file)
        counts[result.state] += 1
        _print(result)
    written = "" if only else f" {file}"
    console.print(", ".join(f"{count} {state}" for state, count in counts.items()) + f".{written}")
    return 1 if counts[report.FAILED] else 0


def inject(fault: Fault, scene: Scene) -> report.Result:
    """Inject one fault, and say what became of it."""
    outcome, began, skipped = FaultOutcome(), time.monotonic(), ""
    words = machine.sentence(machine.environment())
    try:
        fault.run(scene, outcome)
    except FaultSkipped as reason:
        skipped = str(reason)
    except HotrowError as error:
        outcome.expect("the fault to run to its end", False, error)
    return report.Result(outcome, fault.title, time.monotonic() - began, words, scene.short, skipped)


def _print(result: report.Result) -> None:
    if result.skipped:
        console.print(f"    skipped: {result.skipped}")
        return
    found = result.outcome
    console.print(
        f"    {result.state} in {result.seconds:.0f} s: {found.sent:,} sent, {found.ok:,} ok, "
        f"{found.shed:,} shed, {found.failed_in_words()} failed, {found.lost} lost, {found.duplicate} twice, "
        f"{found.wrong} wrong"
        + ("" if found.recover_seconds is None else f", recovered in {found.recovered_in_words()}")
    )
    for name, figure in found.figures.items():
        console.print(f"    {name}: {figure}")
    for sentence in found.broken:
        console.print(f"    {sentence}")
