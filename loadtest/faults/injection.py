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
from loadtest.report.progress import console
from server.cli import output_file
from server.errors import HotrowError
from server.model.bundle import Bundle

RESULTS = Path("docs/generated/faults.md")


class Fault(NamedTuple):
    """One fault; `key` is its number in the plan."""

    key: str
    title: str
    how: str
    to_reach: str
    run: Callable[[Scene, FaultOutcome], None]


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
        console.print(f"[bold]{fault.key}[/bold] {fault.title}: {fault.how}", soft_wrap=True)
        with tempfile.TemporaryDirectory(prefix="hotrow-fault-") as folder:
            result = inject(fault, Scene(bundle, rows, Path(folder), short, fuzz_seconds, only))
        if not only:
            page[fault.key] = report.text_of(fault.key, result)
            report.write(page, file)
        counts[result["state"]] += 1
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
    return report.entry(
        outcome, fault.title, time.monotonic() - began, words, short=scene.short, skipped=skipped
    )


def _print(result: report.Result) -> None:
    if result["state"] == report.SKIPPED:
        console.print(f"    skipped: {result['reason']}", soft_wrap=True)
        return
    failed = ", ".join(f"{count} {kind}" for kind, count in result["failed"].items()) or "0"
    console.print(
        f"    {result['state']} in {result['seconds']} s: {result['sent']:,} sent, {result['ok']:,} ok, "
        f"{result['shed']:,} shed, {failed} failed, {result['lost']} lost, {result['duplicate']} twice, "
        f"{result['wrong']} wrong"
        + ("" if result["recover_seconds"] is None else f", recovered in {result['recover_seconds']:g} s"),
        soft_wrap=True,
    )
    for name, figure in result["figures"].items():
        console.print(f"    {name}: {figure}", soft_wrap=True)
    for check in result["checks"]:
        if not check["holds"]:
            console.print(
                f"    expected {check['fact']}, got {check['found'] or 'the contrary'}", soft_wrap=True
            )
