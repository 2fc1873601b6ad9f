"""The requests by status, read off a server's metrics: the log has only those answered 200."""

from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from monitoring.errors import LogError
from server.metrics.names import SCORING_ROUTES

_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Errors:
    """Requests to the scoring routes since the server's start, by status code."""

    by_code: dict[str, int]

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.by_code.values())

    @property
    def rate(self) -> float:
        """The share that was not answered 2xx."""
        good = sum(count for code, count in self.by_code.items() if code.startswith("2"))
        return 1 - good / self.requests if self.requests else 0.0


def read_errors(source: str) -> Errors:
    """The status codes on the metrics page at a URL or in a file; raises `LogError`."""
    by_code: dict[str, int] = {}
    try:
        for family in text_string_to_metric_families(_text(source)):
            for sample in family.samples:
                if (
                    sample.name == "hotrow_request_duration_seconds_count"
                    and sample.labels["route"] in SCORING_ROUTES
                    and sample.value
                ):
                    code = sample.labels["code"]
                    by_code[code] = by_code.get(code, 0) + int(sample.value)
    except (OSError, URLError, ValueError, KeyError) as error:
        raise LogError(f"expected the metrics of a server at {source}, got: {error}") from None
    return Errors(dict(sorted(by_code.items())))


def _text(source: str) -> str:
    if source.startswith(("http://", "https://")):
        with urlopen(source, timeout=_TIMEOUT_SECONDS) as response:
            text: str = response.read().decode()
            return text
    return Path(source).read_text(encoding="utf-8")
