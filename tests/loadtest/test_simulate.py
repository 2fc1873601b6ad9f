"""The simulation, held against the closed forms of queueing theory; seeds are fixed."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest

from loadtest.capacity.simulate import closed_form
from loadtest.capacity.simulation import POLICIES, Farm, Floats, Policy, draw_services, resample, simulate
from tests.support import queueing
from tests.support.servers import run

pytestmark = pytest.mark.whole

REQUESTS, SEEDS = 40_000, 8


def held_against(measure: Callable[[int], float], expected: float) -> None:
    """The mean over seeds is the expected value, within what their own spread allows.

    Four standard errors, none above 4 % of the value: a queue's mean converges slowly,
    and a tolerance chosen by hand would be either loose or luck.
    """
    found = np.array([measure(seed) for seed in range(SEEDS)])
    error = float(found.std(ddof=1)) / math.sqrt(SEEDS)
    assert error < 0.04 * expected
    assert abs(float(found.mean()) - expected) < 4 * error


def exponential(seed: int = 0, requests: int = REQUESTS) -> Floats:
    return draw_services("exponential", 1.0, 1.0, requests, seed)


def test_replica_that_fails_again_within_its_notice_is_noticed_in_its_own_time() -> None:
    farm = Farm(2, 1, "least", 128, mtbf=3.0, mttr=1.0, detect=2.0)
    outcome = simulate(farm, 200.0, np.full(REQUESTS, 1e-4))
    assert outcome.replica_failures > 20
    assert 0 < outcome.failed < outcome.requests


def test_notice_of_a_failure_before_the_last_is_none() -> None:
    """Replicas that are back long before their notice comes fail as many requests as if none came."""
    never, late = (
        simulate(Farm(2, 1, "random", mtbf=0.01, mttr=0.01, detect=detect), 200.0, np.full(REQUESTS, 1e-6))
        for detect in (1e9, 5.0)
    )
    assert late.failed == never.failed


def mean_wait(farm: Farm, rate: float, services: Floats, seed: int) -> float:
    return float(simulate(farm, rate, services, seed).latencies.mean()) - float(services.mean())


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_one_exponential_server_is_m_m_1(busy: float) -> None:
    outcomes = [simulate(Farm(), busy, exponential(seed), seed) for seed in range(SEEDS)]
    held_against(lambda i: float(outcomes[i].latencies.mean()), queueing.mean_wait(busy, 1.0, 1.0) + 1.0)
    held_against(lambda i: outcomes[i].utilisation, busy)
    for percent in (50, 99):
        expected = queueing.sojourn_quantile(busy, 1.0, percent / 100)
        held_against(lambda i, percent=percent: outcomes[i].percentile(percent), expected)  # type: ignore[misc]  # bound now


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
@pytest.mark.parametrize(("kind", "variation"), [("fixed", 0.0), ("lognormal", 0.5)])
def test_wait_at_one_server_is_that_of_pollaczek_and_khinchine(
    busy: float, kind: str, variation: float
) -> None:
    held_against(
        lambda seed: mean_wait(Farm(), busy, draw_services(kind, 1.0, variation, REQUESTS, seed), seed),
        queueing.mean_wait(busy, 1.0, variation**2),
    )


def test_command_states_the_closed_form_of_the_times_it_drew() -> None:
    services = draw_services("lognormal", 1.0, 0.5, REQUESTS)
    assert closed_form(Farm(4), 2.0, services) == pytest.approx(queueing.mean_wait(0.5, 1.0, 0.25), rel=0.05)
    assert closed_form(Farm(4, policy="least"), 2.0, services) is None
    assert closed_form(Farm(4), 4.5, services) is None


@pytest.mark.parametrize("servers", [2, 8])
def test_one_queue_before_several_servers_is_that_of_erlang(servers: int) -> None:
    farm, rate = Farm(replicas=servers, policy="shared"), 0.8 * servers
    held_against(
        lambda seed: mean_wait(farm, rate, exponential(seed), seed),
        queueing.mean_wait_of_many(rate, 1.0, servers),
    )


def test_erlangs_c_has_its_published_values() -> None:
    """One server: its utilisation; two at 1 Erlang: a third (Kleinrock 1975, section 3.5)."""
    assert queueing.waiting_share(0.7, 1.0, 1) == pytest.approx(0.7)
    assert queueing.waiting_share(1.0, 1.0, 2) == pytest.approx(1 / 3)
    assert queueing.mean_wait_of_many(0.5, 1.0, 1) == pytest.approx(queueing.mean_wait(0.5, 1.0, 1.0))


@pytest.mark.parametrize(("busy", "limit"), [(0.8, 4), (1.0, 10), (1.5, 5)])
def test_requests_beyond_the_limit_are_shed_as_in_m_m_1_k(busy: float, limit: int) -> None:
    def shed(seed: int) -> float:
        outcome = simulate(Farm(limit=limit), busy, exponential(seed), seed)
        return outcome.shed / outcome.requests

    held_against(shed, queueing.shed_share(busy, 1.0, limit))


def test_random_choice_makes_of_many_servers_as_many_queues() -> None:
    farm = Farm(replicas=5, workers=4)
    held_against(
        lambda seed: mean_wait(farm, 10.0, exponential(seed), seed), queueing.mean_wait(0.5, 1.0, 1.0)
    )


def test_the_more_a_policy_knows_the_less_is_waited() -> None:
    services = exponential()
    better: list[Policy] = ["random", "two", "least"]
    waits = [float(simulate(Farm(10, policy=p), 8.0, services).latencies.mean()) for p in better]
    assert all(more > 1.1 * less for more, less in pairwise(waits))


@pytest.mark.parametrize("policy", ["random", "round-robin"])
def test_what_a_balancer_never_notices_fails_as_often_as_replicas_are_away(policy: Policy) -> None:
    farm = Farm(20, mtbf=9.0, mttr=1.0, detect=1e9, policy=policy)

    def failed(seed: int) -> float:
        outcome = simulate(farm, 50.0, draw_services("fixed", 0.01, 0.0, REQUESTS, seed), seed)
        return outcome.failed / outcome.requests

    held_against(failed, 0.1)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_balancer_notices_at_once_costs_what_was_under_way(policy: Policy) -> None:
    farm = Farm(20, mtbf=90.0, mttr=10.0, detect=0.0, policy=policy)
    outcome = simulate(farm, 50.0, draw_services("fixed", 0.01, 0.0, REQUESTS))
    assert len(outcome.latencies) + outcome.shed + outcome.failed == outcome.requests
    assert outcome.replica_failures > 100
    assert 0 < outcome.failed < outcome.replica_failures


def test_replicas_that_share_the_load_of_a_lost_one_are_busier() -> None:
    services = exponential()
    whole = simulate(Farm(4), 2.4, services)
    failing = simulate(Farm(4, mtbf=1000.0, mttr=300.0, detect=1.0), 2.4, services)
    assert failing.latencies.mean() > 1.2 * whole.latencies.mean()


def test_same_seed_is_same_outcome_and_another_is_not() -> None:
    services = exponential(requests=10_000)
    first, again, other = (simulate(Farm(3), 2.0, services, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.latencies, again.latencies)
    assert not np.array_equal(first.latencies, other.latencies)


def test_measured_times_are_drawn_and_scaled() -> None:
    measured = np.array([10.0, 20.0, 60.0])
    assert set(resample(measured, None, 1000)) == {10.0, 20.0, 60.0}
    assert set(np.round(resample(measured, 3.0, 1000), 9)) == {1.0, 2.0, 6.0}


def test_command_takes_service_times_from_files(tmp_path: Path) -> None:
    bench, log = tmp_path / "bench.json", tmp_path / "log.jsonl"
    bench.write_bytes(orjson.dumps({"cpu_us_per_request": {"hotrow": 50.0}}))
    log.write_text('{"duration_us":20}\n{"duration_us":30}\n')
    few = ["--requests", "20000", "--rate", "5000", "--distribution", "fixed"]
    for options, words in (
        (["--service", str(bench)], "service 50.0 us"),
        (["--service", str(log)], "2 durations"),
        (["--mtbf", "1e9"], "No replica failed"),
    ):
        done = run("-m", "loadtest", "simulate", *few, *options)
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
        assert "p99.9" in done.stdout
        assert "an assumption" in done.stdout
    log.write_text("{}\n")
    refused = run("-m", "loadtest", "simulate", "--service", str(log))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
