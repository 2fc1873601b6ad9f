"""Runs the app under uvicorn until it is told to stop."""

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

import psutil
import uvicorn
from starlette.types import ASGIApp

from server.process.age import age_seconds
from server.process.busy_poll import check_busy_poll
from server.process.descriptors import check_descriptors
from server.process.draining import DrainingServer
from server.process.listeners import BACKLOG, address_of, bind
from server.process.memory import UnusedMemory, keep_no_large_blocks
from server.process.protocol import log_to_stderr, protocol_of, use_tls
from server.process.reload import Reloader
from server.scoring.bundles import names
from server.scoring.service import Service, open_service
from server.settings import Settings

logger = logging.getLogger(__name__)


def serve(
    settings: Settings,
    make_app: Callable[[Service], ASGIApp],
    announce: Callable[[str, Service], None] | None = None,
    *,
    reloads: bool = True,
) -> None:
    """Load the models and serve them by the app made of them until SIGINT or SIGTERM.

    `announce` is called with the server's URL once connections are accepted.
    `reloads` says whether SIGHUP brings new models. Raises `SettingsError` or
    `BundleError` if the server cannot start.
    """
    log_to_stderr()
    check_busy_poll(settings)
    check_descriptors(settings)
    keep_no_large_blocks()
    (listener,) = bind(settings)
    service = open_service(settings)
    service.reloads = reloads
    app = make_app(service)
    protocol = protocol_of(service)

    def accepting() -> None:
        seconds = age_seconds(psutil.Process())
        address = address_of(listener, "http" if service.tls is None else "https")
        what = names(service.bundles)
        logger.info("Serving %s at %s, ready %.1f s after the start.", what, address, seconds)
        if service.reloads:
            reloader = Reloader(service)

            def read_again() -> None:
                service.read_files()
                reloader.request()

            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, read_again)
        if announce is not None:
            announce(address, service)

    config = _config(app, service, protocol)
    memory = UnusedMemory(lambda: service.in_flight.large_bodies)
    server = DrainingServer(config, accepting, service.withdraw, memory, busy_poll=settings.busy_poll)
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


def _config(app: ASGIApp, service: Service, protocol: Any) -> uvicorn.Config:
    settings = service.settings
    config = uvicorn.Config(
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
        forwarded_allow_ips=settings.trusted_proxies,
    )
    use_tls(config, service)
    return config
