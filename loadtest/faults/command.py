"""`python -m loadtest faults`: inject the faults of the plan, and write what became of each.

Loopback only; every fault ends by itself, and only processes that were started
here are killed. As root it works in a mount namespace of its own, so no mount
outlives it.
"""

import argparse
from collections.abc import Sequence

from loadtest.faults.injection import Fault, add_results, run
from loadtest.faults.namespaces import own_mounts
from loadtest.faults.plan import PLAN
from loadtest.harness.subject import LoadTestError
from loadtest.harness.target import add_model
from server.model.bundle import Bundle


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="F1, F2, …: these alone [all]")
    parser.add_argument("--short", action="store_true", help="few repetitions of each")
    parser.add_argument(
        "--only",
        default="",
        metavar="WORDS",
        help="of F29, F30 and F31 the parts whose name has these words; no results are written",
    )
    parser.add_argument("--fuzz-seconds", type=int, default=0, metavar="S", help="of Atheris in F20 [0]")
    add_results(parser)


def main(options: argparse.Namespace) -> int:
    """Run the faults; 1 if one did not reach what it must."""
    own_mounts()
    return run(
        _chosen(options.faults),
        Bundle.load(options.model),
        options.results,
        short=options.short,
        fuzz_seconds=options.fuzz_seconds,
        only=options.only,
    )


def _chosen(keys: Sequence[str]) -> list[Fault]:
    known = {fault.key: fault for fault in PLAN}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise LoadTestError(f"expected faults of {', '.join(known)}, got {', '.join(unknown)}")
    return [known[key] for key in keys] if keys else list(PLAN)
