"""The server's own count of predictions, to hold the load generator's against."""

from collections import Counter

from loadtest.harness.scrape import scrape
from server.metrics.names import route_label

COUNT = "hotrow_request_duration_seconds_count"


def answered(url: str, path: str = "/predict") -> Counter[str]:
    """Responses to a path so far by status, from `/metrics`; raises `LoadTestError`.

    A model by its name is counted with all others that are asked for by theirs.
    """
    route = route_label(path)
    counts: Counter[str] = Counter()
    for (name, has), value in scrape(url).items():
        labels = dict(has)
        if name == COUNT and labels["route"] == route:
            counts[labels["code"]] += int(value)
    return counts
