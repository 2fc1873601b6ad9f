"""Closed forms of queueing theory, which the simulation is held against.

Arrivals are Poisson throughout. `rate` is in requests a second, `service` the mean
service time in seconds, and every result in seconds unless it says otherwise.
Formulas: L. Kleinrock, Queueing Systems, volume 1 (1975), chapters 3 and 5.
"""

import math


def utilisation(rate: float, service: float, servers: int = 1) -> float:
    """The part of the time that a server is busy; below 1 or the queue grows for ever."""
    return rate * service / servers


def mean_wait(rate: float, service: float, variation: float) -> float:
    """The mean time in the queue of one server (M/G/1), the Pollaczek-Khinchine formula.

    `variation` is the squared coefficient of variation of the service time: 0 if it
    is fixed (M/D/1), 1 if it is exponential (M/M/1).
    """
    busy = utilisation(rate, service)
    return busy * service * (1.0 + variation) / (2.0 * (1.0 - busy))


def sojourn_quantile(rate: float, service: float, quantile: float) -> float:
    """The time that a part `quantile` of requests stay at most at one exponential server (M/M/1)."""
    return -math.log(1.0 - quantile) * service / (1.0 - utilisation(rate, service))


def waiting_share(rate: float, service: float, servers: int) -> float:
    """The part of requests that wait in one queue before exponential servers (M/M/c), Erlang's C.

    From Erlang's B by its recursion, which does not overflow.
    """
    offered, blocked = rate * service, 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked / (1.0 - utilisation(rate, service, servers) * (1.0 - blocked))


def mean_wait_of_many(rate: float, service: float, servers: int) -> float:
    """The mean time in the one queue of M/M/c."""
    idle = 1.0 - utilisation(rate, service, servers)
    return waiting_share(rate, service, servers) * service / (servers * idle)


def shed_share(rate: float, service: float, limit: int) -> float:
    """The part of requests refused by one exponential server that holds `limit` at most (M/M/1/K)."""
    busy = utilisation(rate, service)
    if busy == 1.0:
        return 1.0 / (limit + 1)
    return (1.0 - busy) * busy**limit / (1.0 - busy ** (limit + 1))
