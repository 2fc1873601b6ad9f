"""What every worker is started with: the protocol of its connections, and where its messages go."""

import asyncio
import functools
import logging
from collections.abc import Callable

from server.scoring.service import Service
from server.wire.fast_path import Endpoint, FastPath, HotrowProtocol, check_uvicorn
from server.wire.overload_responses import OverloadResponses
from server.wire.receivers import Receivers
from server.wire.shedding_protocol import SheddingProtocol


def log_to_stderr() -> None:
    """Operators' messages: start, stop, trouble; none for a request."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


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
        Receivers(),
        settings.request_timeout_seconds,
        observe_rejection,
    )
    if not settings.fast_path:
        return guarded

    def targets() -> dict[str, Endpoint]:
        return {
            path: Endpoint(scorer.respond, metrics.duration(path, "POST", "200"))
            for path, scorer in service.by_path().items()
        }

    fast_path = FastPath(
        targets(),
        settings.max_body_bytes,
        settings.allowed_hosts or None,
        takes_origins=bool(settings.cors_origins),
    )
    service.watchers.append(lambda: fast_path.use(targets()))
    return functools.partial(HotrowProtocol, fast_path, *guarded.args)
