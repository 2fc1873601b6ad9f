"""`python -m server.grpc`: the Open Inference Protocol over gRPC, beside a server that runs."""

import os
import signal
import sys
import threading
from collections.abc import Sequence

from server.cli import COULD_NOT_START, CommandParser, add_options, run
from server.errors import SettingsError
from server.settings import Settings

GRPC_PORT = 8001
#: What calls get to end when the process is told to stop.
GRACE_SECONDS = 10.0


def main(arguments: Sequence[str]) -> None:
    """Parse the options and answer until told to stop."""
    parser = CommandParser("python -m server.grpc", description=__doc__)
    parser.add_argument(
        "--grpc-port", type=int, default=GRPC_PORT, metavar="PORT", help=f"port to listen on [{GRPC_PORT}]"
    )
    add_options(parser, "host", "port")
    options = parser.parse_args(arguments)
    settings = Settings.read(os.environ, host=options.host, port=options.port)
    if settings.tls_cert is not None or settings.uds is not None:
        raise SettingsError("expected a server of plain HTTP on a port, got HOTROW_TLS_CERT or HOTROW_UDS")
    # Imported here: without its library the command says so.
    from server.grpc.service import HeldBytes, make_server
    from server.grpc.upstream import Upstream
    from server.process.memory import LOOK_SECONDS, UnusedMemory, keep_no_large_blocks

    keep_no_large_blocks()
    upstream = Upstream(settings.host, settings.port)
    held = HeldBytes(2 * settings.max_batch_bytes)
    server = make_server(upstream, held, settings.max_batch_bytes)
    address = f"{settings.host}:{options.grpc_port}"
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise SettingsError(
            f"expected to listen on {address}, got a refusal: choose another --grpc-port"
        ) from None
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    server.start()
    print(f"Answering gRPC at {settings.host}:{port}.", file=sys.stderr, flush=True)
    memory = UnusedMemory(lambda: held.large)
    while not told.wait(LOOK_SECONDS):
        memory.look(0)
    server.stop(GRACE_SECONDS).wait()
    upstream.close()


if __name__ == "__main__":
    run(main, COULD_NOT_START)
