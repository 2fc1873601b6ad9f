"""Runs the app under uvicorn until it is told to stop."""

import asyncio
import functools
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import psutil
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from server.app import Service, create_app, open_bundles, open_service, share_metrics
from server.errors import SettingsError
from server.protocol import FastDoor, HotrowProtocol, check_uvicorn
from server.settings import Settings

logger = logging.getLogger(__name__)

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75


def bind(settings: Settings) -> socket.socket:
    """A listening-to-be socket at the settings' address; raises `SettingsError` if it is taken."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise SettingsError(
            f"expected to listen on {settings.host}:{settings.port}, got: {error.strerror}: "
            "choose another --host or --port"
        ) from None
    listener.set_inheritable(True)
    return listener


def address_of(listener: socket.socket) -> str:
    """The URL a listening socket is reached at."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def log_to_stderr() -> None:
    """Operators' messages: start, stop, trouble; none for a request."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def serve(settings: Settings, extend: Callable[[Starlette], ASGIApp] | None = None) -> None:
    """Load the models and serve them until SIGINT or SIGTERM.

    `extend` may put more around the app, as the page does. Raises `SettingsError`
    or `BundleError` if the server cannot start.
    """
    log_to_stderr()
    listener = bind(settings)
    bundles = open_bundles(settings)
    service = open_service(settings, bundles, share_metrics(bundles, settings.workers))
    app = create_app(service)
    protocol = protocol_of(service)
    server = uvicorn.Server(_config(extend(app) if extend else app, settings, protocol))
    seconds = time.time() - psutil.Process().create_time()
    models = ", ".join(bundle.label for bundle in bundles)
    logger.info("Serving %s at %s, ready %.1f s after the start.", models, address_of(listener), seconds)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))
    logger.info("Stopped.")


def protocol_of(service: Service) -> Any:
    """The protocol of every connection: with the fast door, or uvicorn's own."""
    if not service.settings.fast_door:
        return "httptools"
    check_uvicorn()
    observe = service.metrics.duration("/predict", "POST", "200")
    door = FastDoor(service.default, observe, service.settings.max_body_bytes)
    return functools.partial(HotrowProtocol, door)


def _config(app: ASGIApp, settings: Settings, protocol: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        loop="uvloop",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(settings.drain_seconds),
    )
