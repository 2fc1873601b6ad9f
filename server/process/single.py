"""Runs the app under uvicorn until it is told to stop."""

import asyncio
import functools
import logging
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from server.api.app import create_app
from server.process.draining import DrainingServer
from server.process.listeners import BACKLOG, address_of, bind
from server.process.reload import Reloader, names
from server.scoring.service import Service, open_bundles, open_service, share_metrics
from server.settings import Settings
from server.wire.fast_path import FastPath, HotrowProtocol, Target, check_uvicorn
from server.wire.overload_responses import OverloadResponses
from server.wire.receivers import Receivers
from server.wire.shedding_protocol import SheddingProtocol

logger = logging.getLogger(__name__)


def log_to_stderr() -> None:
    """Operators' messages: start, stop, trouble; none for a request."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def serve(
    settings: Settings,
    extend: Callable[[Starlette], ASGIApp] | None = None,
    announce: Callable[[str, Service], None] | None = None,
) -> None:
    """Load the models and serve them until SIGINT or SIGTERM.

    `extend` may put more around the app, as the page does; `announce` is called
    with the server's URL once connections are accepted. Raises `SettingsError`
    or `BundleError` if the server cannot start.
    """
    log_to_stderr()
    (listener,) = bind(settings)
    bundles = open_bundles(settings)
    service = open_service(settings, bundles, share_metrics(bundles, settings.workers))
    service.reloads = extend is None  # the page is made of one model's schema
    app = create_app(service)
    protocol = protocol_of(service)

    def accepting() -> None:
        seconds = time.time() - psutil.Process().create_time()
        address = address_of(listener)
        logger.info("Serving %s at %s, ready %.1f s after the start.", names(bundles), address, seconds)
        if service.reloads:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, Reloader(service).request)
        if announce is not None:
            announce(address, service)

    config = _config(extend(app) if extend else app, settings, protocol)
    server = DrainingServer(config, service, accepting)
    # uvicorn raises the signal again when it is done: to stop as told is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    if not service.reloads:
        signal.signal(
            signal.SIGHUP, lambda *_: logger.warning("New models need a restart; SIGHUP is ignored.")
        )
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # their default is to kill
        signal.signal(number, lambda *_: logger.warning("SIGUSR1 and SIGUSR2 mean nothing here; ignored."))
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))
    logger.info("Stopped.")


def protocol_of(service: Service) -> Callable[..., asyncio.Protocol]:
    """The protocol of every connection, with the fast path unless the settings close it."""
    check_uvicorn()
    settings, metrics = service.settings, service.metrics

    def observe_refusal(code: str, seconds: float) -> None:
        metrics.duration("other", "other", code)(seconds)

    guarded = functools.partial(
        SheddingProtocol,
        service.in_flight,
        OverloadResponses(service.in_flight),
        Receivers(),
        settings.request_timeout_seconds,
        observe_refusal,
    )
    if not settings.fast_path:
        return guarded

    def targets() -> dict[str, Target]:
        return {
            path: Target(scorer.answer, metrics.duration(path, "POST", "200"))
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


def _config(app: ASGIApp, settings: Settings, protocol: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",  # an upgrade would leave the guarded protocol
        loop="uvloop",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=round(settings.keep_alive_seconds),
        timeout_graceful_shutdown=round(settings.drain_seconds),
    )
