"""What the environment variables of OpenTelemetry ask for, by the names that every program knows them by.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables. Where to send
spans, with which headers, certificates and resource, is read by the exporter
(`server/tracing/exporter.py`), which is OpenTelemetry's own. Like every SDK, none of this ends
the server: spans are not what it is for, and the variables are often set for a whole machine.
"""

import importlib.util
import logging
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from server.errors import HotrowError

logger = logging.getLogger(__name__)

#: Another default than OpenTelemetry's, which samples every request without a parent.
DEFAULT_SAMPLER = "parentbased_always_off"
_EXPORTER = "opentelemetry.exporter.otlp.proto.http"


class TraceSettings(NamedTuple):
    """Which requests have a span: those of a sampled parent, and this share of those without a parent."""

    share: float


class _NoSpansError(HotrowError):
    """Why spans that were asked for cannot be sent."""


def trace_settings(environment: Mapping[str, str]) -> TraceSettings | None:
    """What is asked for; None without an endpoint, and where it cannot be had, which is said."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    name, endpoint = _first(environment, "ENDPOINT")
    if not endpoint or environment.get("OTEL_TRACES_EXPORTER", "").strip() == "none":
        return None
    try:
        _check_exporter(environment, name, endpoint)
        return TraceSettings(_share(environment))
    except _NoSpansError as reason:
        logger.error("No spans are sent: %s", reason)
        return None


def _first(environment: Mapping[str, str], end: str) -> tuple[str, str]:
    """The variable of traces alone, or the one of all signals; its name and value."""
    names = (f"OTEL_EXPORTER_OTLP_TRACES_{end}", f"OTEL_EXPORTER_OTLP_{end}")
    return next(((n, value) for n in names if (value := environment.get(n, "").strip())), ("", ""))


def _check_exporter(environment: Mapping[str, str], name: str, endpoint: str) -> None:
    if (exporter := environment.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp") != "otlp":
        raise _NoSpansError(f"expected OTEL_TRACES_EXPORTER to be otlp or none, got {exporter!r}")
    protocol_name, protocol = _first(environment, "PROTOCOL")
    if protocol not in ("", "http/protobuf"):
        raise _NoSpansError(
            f"expected {protocol_name} to be http/protobuf (port 4318 of a collector), got {protocol!r}"
        )
    if not _is_url(endpoint):
        raise _NoSpansError(f"expected {name} to be a URL such as http://127.0.0.1:4318, got {endpoint!r}")
    if not _is_installed():
        raise _NoSpansError("OpenTelemetry's exporter is not installed: pip install 'hotrow[otel]'")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec(_EXPORTER) is not None
    except ModuleNotFoundError:
        return False


def _share(environment: Mapping[str, str]) -> float:
    sampler = environment.get("OTEL_TRACES_SAMPLER", "").strip() or DEFAULT_SAMPLER
    shares = {DEFAULT_SAMPLER: 0.0, "parentbased_always_on": 1.0}
    if sampler in shares:
        return shares[sampler]
    if sampler != "parentbased_traceidratio":
        known = ", ".join([*shares, "parentbased_traceidratio"])
        raise _NoSpansError(f"expected OTEL_TRACES_SAMPLER to be one of {known}, got {sampler!r}")
    text = environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise _NoSpansError(f"expected OTEL_TRACES_SAMPLER_ARG to be a share between 0 and 1, got {text!r}")
    return share
