"""`python -m loadtest open`: one run at a fixed rate, corrected and uncorrected side by side."""

import argparse
from contextlib import AbstractContextManager, nullcontext

from loadtest.harness.bodies import bodies_of_server, http_requests
from loadtest.harness.percentiles import LABELS
from loadtest.harness.subject import LoadTestError
from loadtest.harness.target import Target, TargetRequest, add_target, keep_to, load_core, target
from loadtest.latency.open_loop import CONNECTIONS, LatencyResult, closed_loop, open_loop
from loadtest.latency.stall import stalled
from loadtest.report.terminal import console, print_table

#: Below this part of the rate that was asked, the server did not keep up.
KEPT_RATE = 0.99


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_target(parser)
    parser.add_argument("--rate", type=float, default=2000.0, metavar="N", help="requests a second [2000]")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, metavar="N")
    parser.add_argument("--poisson", action="store_true", help="random gaps, as of independent clients")
    parser.add_argument("--closed", type=int, metavar="N", help="then also N connections in a closed loop")
    parser.add_argument(
        "--stall-ms", type=float, metavar="MS", help="stop the server for so long once a second, as a trial"
    )


def main(options: argparse.Namespace) -> int:
    """Run and print."""
    asked = TargetRequest.of(options)
    with (
        target(asked) as server,
        keep_to(load_core(options.workers)),
        _stall(server, options.stall_ms),
    ):
        bodies = bodies_of_server(server.url + server.model_path, None if options.url else options.model)
        requests = http_requests(bodies, "127.0.0.1", server.path)
        result = open_loop(
            server.url,
            requests,
            options.rate,
            options.seconds,
            poisson=options.poisson,
            connections=options.connections,
        )
        closed = (
            closed_loop(server.url, requests, options.seconds, options.closed) if options.closed else None
        )
    print_result(result, closed)
    if options.stall_ms:
        console.print(
            f"The server stood still for {options.stall_ms:g} ms once a second: what was due then waited, "
            "and a closed loop did not ask."
        )
    return 0


def _stall(server: Target, milliseconds: float | None) -> AbstractContextManager[None]:
    if milliseconds is None:
        return nullcontext()
    if server.pid is None or not 0 < milliseconds < 1000:
        raise LoadTestError(
            f"expected --stall-ms between 0 and 1000 and a server of this user, got {milliseconds:g} "
            f"and {'one' if server.pid else 'none to be seen'}"
        )
    return stalled(server.pid, milliseconds / 1000)


def print_result(result: LatencyResult, closed: dict[str, float] | None = None) -> None:
    """The table of a run, and what to think of it."""
    columns = {"from the intended time": result.corrected, "from the sending": result.uncorrected}
    columns |= {"generator's lateness": result.late}
    columns |= {"closed loop": closed} if closed else {}
    print_table(
        f"{result.rate:,.0f} requests/s asked, {result.achieved:,.0f} achieved",
        ("latency, us", *columns),
        ((label, *(f"{column[key]:,.0f}" for column in columns.values())) for key, label in LABELS.items()),
    )
    console.print(
        f"{result.requests:,} measured, {result.failures:,} not 200, {result.unanswered:,} unanswered."
    )
    if result.limited:
        console.print(
            "The generator itself was the limit: it was "
            f"{result.late['p99_us']:,.0f} us behind its schedule at p99, with "
            f"{result.processor_share:.0%} of a core. These are no figures of the server: "
            "lower --rate, or give it a core of its own."
        )
    elif result.achieved < KEPT_RATE * result.scheduled:
        console.print("The server was the limit: it answered fewer than were asked, and the rest waited.")
