"""The server's own count of `/predict`, to hold the load generator's against."""

import urllib.request
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from loadtest.subject import LoadTestError

FAMILY = "hotrow_request_duration_seconds"


def answered(url: str) -> Counter[str]:
    """Answers to `/predict` so far by status, from `/metrics`; raises `LoadTestError`."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            page = answer.read().decode()
    except OSError as error:
        raise LoadTestError(f"expected metrics at {url}/metrics, got: {error}") from None
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples if family.name == FAMILY else ():
            if sample.name.endswith("_count") and sample.labels["route"] == "/predict":
                counts[sample.labels["code"]] += int(sample.value)
    return counts
