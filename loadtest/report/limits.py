"""Limits that a run is held to, for scripts and CI."""

import argparse
from collections.abc import Mapping
from typing import Any


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The options that state limits."""
    parser.add_argument("--max-p99-ms", type=float, metavar="MS", help="exit 1 above this latency")
    parser.add_argument(
        "--max-error-rate", type=float, metavar="P", help="exit 1 above this part of failures"
    )
    parser.add_argument("--min-rps", type=float, metavar="N", help="exit 1 below this throughput")


def broken_limits(totals: Mapping[str, Any], limits: argparse.Namespace) -> list[str]:
    """A sentence for each of the options' limits that a run's totals break."""
    broken = []
    p99_ms = totals["p99_us"] / 1000
    if limits.max_p99_ms is not None and not p99_ms <= limits.max_p99_ms:
        broken.append(f"expected a p99 of at most {limits.max_p99_ms:g} ms, got {p99_ms:.3g} ms")
    rate = totals["error_rate"]
    if limits.max_error_rate is not None and not rate <= limits.max_error_rate:
        broken.append(f"expected an error rate of at most {limits.max_error_rate:g}, got {rate:.3g}")
    rps = totals["requests_per_second"]
    if limits.min_rps is not None and not rps >= limits.min_rps:
        broken.append(f"expected at least {limits.min_rps:g} requests a second, got {rps:.0f}")
    return broken
