"""What every worker is started with: the protocol of its connections, and where its messages go."""

import asyncio
import functools
import logging
from collections.abc import Callable
from urllib.parse import unquote

import uvicorn

from server.metrics.names import route_label
from server.scoring.service import Service
from server.tracing.spans import span_head
from server.wire.fast_path import (
    CertifiedProtocol,
    Endpoint,
    FastPath,
    HotrowProtocol,
    KeyedFastPath,
    TracedCertifiedProtocol,
    TracedProtocol,
    check_uvicorn,
)
from server.wire.memory_holders import MAX_RECEIVING, MemoryHolders
from server.wire.overload_responses import OverloadResponses
from server.wire.shedding_protocol import SheddingProtocol

#: By whether requests have spans, and whether a certificate says who asks.
PROTOCOLS: dict[tuple[bool, bool], type[HotrowProtocol]] = {
    (False, False): HotrowProtocol,
    (False, True): CertifiedProtocol,
    (True, False): TracedProtocol,
    (True, True): TracedCertifiedProtocol,
}


def log_to_stderr() -> None:
    """Operators' messages: start, stop, trouble; none for a request."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def use_tls(config: uvicorn.Config, service: Service) -> None:
    """Have uvicorn speak TLS, if the service has a certificate."""
    if service.tls is not None:
        context = service.tls.context
        config.ssl_context_factory = lambda *_: context


def protocol_of(service: Service) -> Callable[..., asyncio.Protocol]:
    """The protocol of every connection, with the fast path unless the settings close it."""
    check_uvicorn()
    settings, metrics = service.settings, service.metrics

    def observe_rejection(code: str, seconds: float) -> None:
        metrics.duration("other", "other", code)(seconds)

    guarded = functools.partial(
        SheddingProtocol,
        service.in_flight,
        OverloadResponses(service.in_flight, metrics.duration),
        service.keys is not None,
        MemoryHolders(service.in_flight.max_held_bytes),
        MemoryHolders(MAX_RECEIVING),
        settings.request_timeout_seconds,
        observe_rejection,
    )
    if not settings.fast_path:
        return guarded

    def targets() -> dict[str, Endpoint]:
        return {
            root + path + query: Endpoint(
                respond,
                metrics.duration(path, "POST", "200"),
                span_head("POST", unquote(path), "200", route_label(path)),  # as the app sees it
            )
            for path, query, respond in service.responders()
            for root in ("", settings.root_path)
        }

    made = FastPath if service.keys is None else functools.partial(KeyedFastPath, service.keys)
    fast_path = made(
        targets(),
        settings.max_body_bytes,
        settings.allowed_hosts or None,
        takes_origins=bool(settings.cors_origins),
        spans=service.spans,
    )
    service.watchers.append(lambda: fast_path.use(targets()))
    # Where keys are asked for, the key says who asks.
    certified = settings.tls_client_ca is not None and service.keys is None
    kind = PROTOCOLS[service.spans is not None, certified]
    return functools.partial(kind, fast_path, *guarded.args)
