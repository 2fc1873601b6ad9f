"""The server's own count of `/predict`, to hold the load generator's against."""

from collections import Counter

from loadtest.harness.scrape import scrape

COUNT = "hotrow_request_duration_seconds_count"


def answered(url: str) -> Counter[str]:
    """Answers to `/predict` so far by status, from `/metrics`; raises `LoadTestError`."""
    counts: Counter[str] = Counter()
    for (name, has), value in scrape(url).items():
        labels = dict(has)
        if name == COUNT and labels["route"] == "/predict":
            counts[labels["code"]] += int(value)
    return counts
