"""`python -m loadtest simulate`: what a number of replicas does at a rate that no machine here can send."""

import argparse
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from loadtest.capacity.simulation import POLICIES, Farm, Floats, Outcome, draw_services, resample, simulate
from loadtest.harness.subject import LoadTestError
from loadtest.report.terminal import console
from server.cli import positive_number, whole_number

#: CPU time a request, `make bench`, as docs/performance.md has it.
SERVICE_US = 34.4
SECONDS_AN_HOUR = 3600.0
_FARM = Farm()


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    distributions = ("fixed", "exponential", "lognormal")
    for name, kind, default, unit, meaning in (
        ("rate", positive_number(), 10_000.0, "N", "requests a second [%(default)g]"),
        ("replicas", whole_number(1), _FARM.replicas, "N", "[%(default)s]"),
        ("workers", whole_number(1), _FARM.workers, "N", "of each replica [%(default)s]"),
        ("policy", POLICIES, _FARM.policy, None, "how a replica is picked [%(default)s]"),
        ("limit", whole_number(1), 128, "N", "requests at a worker at most [%(default)s]"),
        ("service-us", positive_number(), None, "US", f"mean service time [of --service, or {SERVICE_US}]"),
        ("service", Path, None, "FILE", "of `bench --json` or a prediction log, whose times it draws"),
        ("distribution", distributions, "lognormal", None, "[%(default)s]"),
        ("variation", positive_number(), 0.5, "CV", "of lognormal: deviation over mean [%(default)s]"),
        ("mtbf", float, _FARM.mtbf, "S", "time between a replica's failures [0: none]"),
        ("mttr", positive_number(), _FARM.mttr, "S", "time it is away [%(default)g]"),
        ("detect", float, _FARM.detect, "S", "until the balancer notices [%(default)g]"),
        ("requests", whole_number(1), 500_000, "N", "simulated [%(default)s]"),
        ("seed", int, 0, "N", "[%(default)s]"),
        ("core-hour-cost", positive_number(), 0.05, "C", "assumed price of a core for an hour [%(default)s]"),
    ):
        what: dict[str, Any] = {"choices": kind} if isinstance(kind, tuple) else {"type": kind}
        parser.add_argument(f"--{name}", default=default, metavar=unit, help=meaning, **what)


class Services(NamedTuple):
    """Service times in seconds, float64 [n], and where they come from."""

    seconds: Floats
    source: str


def main(options: argparse.Namespace) -> int:
    """Simulate and print."""
    services = service_times(options)
    farm = Farm(
        options.replicas,
        options.workers,
        options.policy,
        options.limit,
        options.mtbf,
        options.mttr,
        options.detect,
    )
    outcome = simulate(farm, options.rate, services.seconds, options.seed)
    _print(farm, options.rate, services, outcome)
    _print_cost(farm, outcome, options.core_hour_cost)
    return 0


def service_times(options: argparse.Namespace) -> Services:
    """What the options ask for; raises `LoadTestError` if the file holds no times."""
    mean_us, count, seed = options.service_us, options.requests, options.seed
    if options.service is not None and options.service.suffix == ".jsonl":
        measured = _durations_us(options.service)
        drawn = resample(measured, mean_us, count, seed)
        return Services(drawn / 1e6, f"{len(measured):,} durations of {options.service}")
    if mean_us is None:
        mean_us = SERVICE_US if options.service is None else _bench_us(options.service)
    drawn = draw_services(options.distribution, mean_us, options.variation, count, seed)
    return Services(drawn / 1e6, f"{options.distribution}, {options.service or 'as given'}")


def _bench_us(file: Path) -> float:
    try:
        return float(orjson.loads(file.read_bytes())["cpu_us_per_request"]["hotrow"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise LoadTestError(
            f"expected {file} to be of `python -m loadtest bench --json` or a prediction log (.jsonl), "
            f"got none: {error}"
        ) from None


def _durations_us(file: Path) -> Floats:
    try:
        with open(file, "rb") as lines:
            values = np.array([orjson.loads(line)["duration_us"] for line in lines], dtype=np.float64)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise LoadTestError(f"expected {file} to be a prediction log, got none: {error}") from None
    if not len(values):
        raise LoadTestError(f"expected lines in the prediction log {file}, got none")
    return values


def _print(farm: Farm, rate: float, services: Services, outcome: Outcome) -> None:
    mean = float(services.seconds.mean())
    fails = f", failing every {farm.mtbf:,.0f} s for {farm.mttr:,.0f} s" if farm.mtbf else ""
    console.print(
        f"{rate:,.0f} requests/s (Poisson) to {farm.replicas} replicas of {farm.workers} workers, "
        f"policy {farm.policy}{fails}; service {mean * 1e6:,.1f} us ({services.source})"
    )
    rows = [
        ("simulated", f"{outcome.requests:,} requests, {outcome.seconds:,.2f} s"),
        ("offered load", f"{rate * mean / farm.servers:.1%} of {farm.servers} cores"),
        ("utilisation", f"{outcome.utilisation:.1%}"),
        *((f"p{percent}", f"{outcome.percentile(percent) * 1e6:,.0f} us") for percent in (50, 99, 99.9)),
        ("shed", f"{outcome.shed / outcome.requests:.4%}"),
        ("failed", f"{outcome.failed / outcome.requests:.4%}"),
    ]
    for label, words in rows:
        console.print(f"{label:14} {words}")
    if farm.mtbf:
        console.print(f"{'replicas lost':14} {outcome.replica_failures:,} times")
        if not outcome.replica_failures:
            console.print("No replica failed in the simulated time: more --requests, or a shorter --mtbf.")
    expected = closed_form(farm, rate, services.seconds)
    if expected is not None and not outcome.shed:
        wait = float(outcome.latencies.mean()) - mean
        console.print(f"{'mean wait':14} {wait * 1e6:,.1f} us, {expected * 1e6:,.1f} by Pollaczek-Khinchine")


def closed_form(farm: Farm, rate: float, services: Floats) -> float | None:
    """The mean wait in seconds where theory gives it: requests at random to workers that do not fail.

    Each is an M/G/1 queue: L. Kleinrock, Queueing Systems, volume 1 (1975), chapter 5.
    """
    mean = float(services.mean())
    busy = rate * mean / farm.servers
    if farm.policy != "random" or farm.mtbf or busy >= 1.0:
        return None
    variation = float(services.var()) / mean**2
    return busy * mean * (1.0 + variation) / (2.0 * (1.0 - busy))


def _print_cost(farm: Farm, outcome: Outcome, core_hour: float) -> None:
    answered = len(outcome.latencies) / outcome.seconds
    hour = farm.servers * core_hour
    million = hour / (answered * SECONDS_AN_HOUR / 1e6) if answered else math.inf
    console.print(
        f"{'cost':14} {hour:,.2f} an hour, {million:.5f} a million requests, "
        f"if a core costs {core_hour:g} an hour (an assumption)"
    )
