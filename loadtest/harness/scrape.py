"""Every sample of a `/metrics` page."""

import urllib.request
from collections.abc import Mapping
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families

from loadtest.harness.subject import LoadTestError

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(url: str) -> Samples:
    """The samples by name and labels; raises `LoadTestError` if there is no page in three attempts.

    A killed worker takes with it the connections the kernel had given it, also those it never saw.
    """
    families = text_string_to_metric_families(_page(url, attempts=3))
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def _page(url: str, attempts: int) -> str:
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
            return str(response.read().decode())
    except (OSError, HTTPException) as error:  # a killed worker may leave half a page
        if attempts > 1:
            return _page(url, attempts - 1)
        raise LoadTestError(f"expected metrics at {url}/metrics, got: {error}") from None


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of one metric's samples that have these labels."""
    wanted = set(labels.items())
    return sum(value for (found, has), value in samples.items() if found == name and wanted <= has)
