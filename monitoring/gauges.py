"""Gauges for Prometheus from commands that end: a file for node_exporter, or a push to a Pushgateway."""

from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from prometheus_client import CollectorRegistry, push_to_gateway, write_to_textfile

from monitoring.errors import LogError
from server.errors import first_line

#: A gateway that says nothing for so long is not there.
_SECONDS = 10.0


def put_gauges(registry: CollectorRegistry, job: str, model: str, file: Path | None, url: str | None) -> None:
    """Write the gauges into `file`, which is whole or as it was, and push them to `url`; raises `LogError`.

    A push replaces what was pushed for the same job and model, and nothing else.
    """
    if file is not None:
        write_to_textfile(str(file), registry)
    if url is not None:
        _push(registry, job, model, url)


def _push(registry: CollectorRegistry, job: str, model: str, url: str) -> None:
    try:
        push_to_gateway(url, job, registry, grouping_key={"model": model}, timeout=_SECONDS)
    except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError
        reason = error.reason if isinstance(error, URLError) else error
        said = first_line(reason) if isinstance(reason, BaseException) else str(reason)
        raise LogError(f"expected a Pushgateway at {url}, got: {said}") from None
