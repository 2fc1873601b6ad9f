"""`python -m loadtest faults`: inject the faults of the plan, and write what became of each.

Loopback only; every fault ends by itself, and only processes that were started
here are killed. As root it works in a mount namespace of its own, so no mount
outlives it.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from loadtest.faults import report
from loadtest.faults.namespaces import own_mounts
from loadtest.faults.outcome import Outcome
from loadtest.faults.plan import PLAN, Fault
from loadtest.faults.scene import FaultSkipped, Scene
from loadtest.harness.reference_rows import reference_rows
from loadtest.harness.subject import LoadTestError
from loadtest.harness.target import add_model
from loadtest.report import machine
from loadtest.report.progress import console
from server.errors import HotrowError
from server.model.bundle import Bundle

RESULTS = Path("docs/generated/faults.json")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="F1, F2, …: these alone [all]")
    parser.add_argument("--short", action="store_true", help="few repetitions of each")
    parser.add_argument("--fuzz-seconds", type=int, default=0, metavar="S", help="of Atheris in F20 [0]")
    add_results(parser)


def add_results(parser: argparse.ArgumentParser) -> None:
    """The option that says where results are written."""
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="FILE",
        help=f"a JSON file, and a page beside it [{RESULTS}]",
    )


def main(options: argparse.Namespace) -> int:
    """Run the faults; 1 if one did not reach what it must."""
    own_mounts()
    return run(
        _chosen(options.faults),
        Bundle.load(options.model),
        options.results,
        short=options.short,
        fuzz_seconds=options.fuzz_seconds,
    )


def run(
    faults: Sequence[Fault], bundle: Bundle, file: Path, *, short: bool = False, fuzz_seconds: int = 0
) -> int:
    """Run faults one after another, and write each outcome as it comes."""
    rows = reference_rows([bundle], 2000)
    results, counts = report.read(file), dict.fromkeys((report.PASSED, report.FAILED, report.SKIPPED), 0)
    for fault in faults:
        console.print(f"[bold]{fault.key}[/bold] {fault.title}: {fault.how}", soft_wrap=True)
        with tempfile.TemporaryDirectory(prefix="hotrow-fault-") as folder:
            result = inject(fault, Scene(bundle, rows, Path(folder), short, fuzz_seconds))
        results[fault.key] = result
        report.write(results, file)
        counts[result["state"]] += 1
        _print(result)
    console.print(
        ", ".join(f"{count} {state}" for state, count in counts.items()) + f". {file.with_suffix('.md')}"
    )
    return 1 if counts[report.FAILED] else 0


def inject(fault: Fault, scene: Scene) -> report.Result:
    """Inject one fault, and say what became of it."""
    outcome, began, skipped = Outcome(), time.monotonic(), ""
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


def _chosen(keys: Sequence[str]) -> list[Fault]:
    known = {fault.key: fault for fault in PLAN}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise LoadTestError(f"expected faults of {', '.join(known)}, got {', '.join(unknown)}")
    return [known[key] for key in keys] if keys else list(PLAN)


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
    for check in result["checks"]:
        if not check["holds"]:
            console.print(
                f"    expected {check['fact']}, got {check['found'] or 'the contrary'}", soft_wrap=True
            )
