"""A Ray cluster for one command: one that runs already, or one of this machine alone. The home of `ray`."""

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from server.errors import HotrowError, first_line

# Read when ray is imported: no process of ours reports its use.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

logger = logging.getLogger(__name__)
Context = TypeVar("Context")

ROOT = Path(__file__).parents[3]
LOCAL = "local"
LOOPBACK = "127.0.0.1"
#: Of the object store of a cluster made for the command: only names and counts pass through it.
STORE_BYTES = 100 * 2**20
CONNECT_SECONDS = 5.0
#: Where a running cluster of this machine is looked for by Ray itself.
AUTO = "auto"
#: Ray waits in silence; after so long it is said for what.
PATIENCE_SECONDS = 10.0
#: An HTTP/2 connection begins with this from the client, and with SETTINGS from the server (RFC 9113, 3.4).
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_SETTINGS, _FRAME_HEAD_BYTES = 4, 9


class ClusterError(HotrowError):
    """Ray is not installed, no cluster answers, or it fails as a whole."""


class Where(NamedTuple):
    """A cluster's HOST:PORT, or `local` and how many cores of this machine to use."""

    address: str
    cores: int


@contextmanager
def cluster(where: Where, modules: Sequence[str] = ()) -> Iterator[None]:
    """Join a cluster, or start one here, and leave it afterwards.

    The nodes get `server`, and these folders of ours beside it. A cluster that is started
    listens on 127.0.0.1 and has no dashboard. Raises `ClusterError` if nothing answers
    at the address.
    """
    if find_spec("ray") is None:
        raise ClusterError(
            "expected Ray to be installed, got none: run `make ray`, then this with .venv-ray/bin/python"
        )
    address = where.address
    if address == LOCAL or address.startswith(LOOPBACK):
        # Ray replaces a loopback address by the machine's own, at which a cluster that
        # listens on loopback does not answer; the switch that keeps it has this name.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray
    import ray.exceptions

    workers: dict[str, Any] = {"env_vars": {"POLARS_MAX_THREADS": "1"}}
    if address == LOCAL:
        options: dict[str, Any] = {"num_cpus": where.cores, "object_store_memory": STORE_BYTES}
        options |= {"include_dashboard": False, "_node_ip_address": LOOPBACK}
    else:
        _check_address(address)
        # The nodes need Ray and the libraries; the code comes from here.
        options, workers = {}, {**workers, "py_modules": [str(ROOT / name) for name in ("server", *modules)]}
    # What Ray says of a lost node it prints, and standard output is not for that.
    with redirect_stdout(sys.stderr):
        try:
            with told_after(
                f"Ray has not let us join the cluster at {address} yet: is that its head's port?"
            ):
                ray.init(
                    address, runtime_env=workers, log_to_driver=False, logging_level=logging.ERROR, **options
                )
            yield
        except (ray.exceptions.RayError, ConnectionError) as error:
            first = first_line(error)
            raise ClusterError(
                f"expected the Ray cluster at {address} to go on, got: {first}: see that it runs, "
                "set RAY_AUTH_MODE=token if it wants a token, and give the same command again"
            ) from None
        finally:
            ray.shutdown()


def mapped(
    function: Callable[[bytes, Context], bytes], items: Sequence[bytes], context: Context
) -> Iterator[bytes]:
    """The function of each item, on any node and in any order; tasks of a lost node are run again."""
    import ray.data

    if not items:
        return
    settings = ray.data.DataContext.get_current()
    settings.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.available_resources().get("CPU", 0.0) < 1.0:
        logger.warning("The cluster has no free core now: the batch waits for one.")
    # A block is what a task takes: one item, or a lost node would take others with it.
    shards = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
    results = shards.map(_Row(function, context), num_cpus=1)
    for row in results.iter_rows():
        yield row["item"]


class _Row:
    """A function as Ray Data calls one."""

    def __init__(self, function: Callable[[bytes, Any], bytes], context: Any) -> None:
        self._function, self._context = function, context

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        return {"item": self._function(row["item"], self._context)}


@contextmanager
def told_after(sentence: str) -> Iterator[None]:
    """Say a sentence on standard error if the block takes longer than is usual."""
    timer = threading.Timer(PATIENCE_SECONDS, lambda: print(sentence, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _check_address(address: str) -> None:
    """Refuse soon what Ray would try for minutes: what does not answer, and what is no head."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"expected the HOST:PORT of the cluster's head, got {address}, which is Ray Client's: "
            "give the head's own port, 6379 unless it was chosen"
        )
    if address == AUTO:
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS) as connection:
            speaks = os.environ.get("RAY_USE_TLS") == "1" or _speaks_grpc(connection)
    except (OSError, ValueError, OverflowError):
        raise ClusterError(
            f"expected a Ray cluster at {address}, got nothing: give --address the HOST:PORT of its head, "
            "or leave it out"
        ) from None
    if not speaks:
        raise ClusterError(
            f"expected the head of a Ray cluster at {address}, got another server: give the head's own port, "
            "6379 unless it was chosen (8265 is the dashboard's)"
        )


def _speaks_grpc(connection: socket.socket) -> bool:
    """Whether it answers as a gRPC server does, and so as Ray's head: with a frame of settings."""
    connection.settimeout(CONNECT_SECONDS)
    head = b""
    try:
        connection.sendall(_HELLO)
        while len(head) < _FRAME_HEAD_BYTES and (more := connection.recv(_FRAME_HEAD_BYTES - len(head))):
            head += more
    except OSError:
        return False
    return len(head) == _FRAME_HEAD_BYTES and head[3] == _SETTINGS
