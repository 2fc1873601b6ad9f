"""One worker inside this process: bytes in, bytes out, without a socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from uvicorn.server import ServerState

from loadtest.harness.bodies import golden_bodies, http_requests
from server.api.app import create_app
from server.process.protocol import protocol_of
from server.scoring.one_row import Scorer
from server.scoring.service import open_service
from server.settings import Settings


class Nowhere(asyncio.Transport):
    """Takes what is written and forgets it, as a fast client would: nothing waits, and nobody is there."""

    def _nothing(self, *_: Any, **__: Any) -> Any:
        return None

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Those of a transport that never waits."""
        return 0, 0

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0

    def get_extra_info(self, _: str, default: Any = None) -> Any:
        """Nobody is at the other end."""
        return default

    write = close = abort = write_eof = can_write_eof = is_closing = is_reading = _nothing
    pause_reading = resume_reading = set_protocol = set_write_buffer_limits = _nothing


class Worker(NamedTuple):
    """A worker that is up: its app and scorer, a connection's protocol, and requests for both."""

    app: Any
    protocol_class: Any
    scorer: Scorer
    protocol: Any
    bodies: list[bytes]
    requests: list[bytes]


@asynccontextmanager
async def worker(model: Path, folder: Path, log_mode: str = "async", **more: Any) -> AsyncIterator[Worker]:
    """Start a worker of one bundle, its log in `folder`, with more settings, and close it afterwards."""
    settings = Settings.read({}, model=(model,), log_dir=folder, log_mode=log_mode, **more)
    service = open_service(settings)
    app = create_app(service)
    async with app.router.lifespan_context(app):
        for backend in service.row_backends:
            await backend.made()  # which would make rows cheaper under way
        bodies = golden_bodies(service.bundles[0])
        protocol_class = protocol_of(service)
        protocol = connect(protocol_class, app, Nowhere())
        yield Worker(
            app, protocol_class, service.default, protocol, bodies, http_requests(bodies, "127.0.0.1")
        )
        protocol.connection_lost(None)


def connect(protocol_class: Any, app: Any, transport: asyncio.Transport) -> Any:
    """A connection's protocol, as uvicorn makes it for this app, that writes to the transport."""
    config = uvicorn.Config(app, http="httptools", log_config=None)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Mon, 23 Nov 2026 12:00:00 GMT")]
    protocol = protocol_class(
        config=config, server_state=state, app_state={}, _loop=asyncio.get_running_loop()
    )
    protocol.connection_made(transport)
    return protocol
