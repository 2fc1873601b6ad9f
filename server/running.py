"""The server on a port of this machine: found, told to read its models again, asked what it serves."""

import os
import re
import signal
import time
import urllib.request
from typing import Any, NamedTuple

import orjson
import psutil

from server.errors import HotrowError

#: A check and a restart of all workers, with models of any size.
RELOAD_SECONDS = 120.0
_RELOADS = re.compile(rb'^hotrow_model_reloads_total\{result="(\w+)"\} ([0-9.]+)$', re.MULTILINE)


class ServerError(HotrowError):
    """A running server that cannot be told, or did not do, what was asked."""


class RunningServer(NamedTuple):
    """A server of this machine: its first process, and where it answers."""

    pid: int
    url: str

    def reload(self) -> None:
        """Have it read its model folders again, and wait until it serves them; raises `ServerError`."""
        before = self._reloads()
        try:
            os.kill(self.pid, signal.SIGHUP)
        except PermissionError:
            raise ServerError(
                f"expected to be allowed to signal the server, process {self.pid}, got a refusal: "
                "run this as the user it runs as"
            ) from None
        end = time.monotonic() + RELOAD_SECONDS
        while time.monotonic() < end:
            time.sleep(0.1)
            now = self._reloads()
            if now["failed"] > before["failed"]:
                raise ServerError(
                    "expected the server to take the models, got a refusal: it says why where it logs, "
                    "and goes on with those it had"
                )
            if now["ok"] > before["ok"]:
                return
        raise ServerError(f"expected the server to reload within {RELOAD_SECONDS:g} s, got no result")

    def labels(self) -> list[str]:
        """The `name@version` of every model it serves; raises `ServerError`."""
        models = orjson.loads(self._get("/models"))["models"]
        return [f"{model['name']}@{model['version']}" for model in models]

    def _reloads(self) -> dict[str, float]:
        return {name.decode(): float(value) for name, value in _RELOADS.findall(self._get("/metrics"))}

    def _get(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                content: bytes = answer.read()
                return content
        except OSError as error:
            raise ServerError(f"expected a Hotrow server at {self.url}, got: {error}") from None


def find_server(host: str, port: int) -> RunningServer | None:
    """The server that listens on a port, None if none does, or another user's.

    Its workers hold the socket too: the first process is the one whose parent does not.
    """
    for connection in psutil.net_connections(kind="tcp"):
        if connection.pid and _is_listener(connection, port):
            process = psutil.Process(connection.pid)
            while (parent := process.parent()) is not None and _listens(parent, port):
                process = parent
            return RunningServer(process.pid, f"http://{f'[{host}]' if ':' in host else host}:{port}")
    return None


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        return any(_is_listener(connection, port) for connection in process.net_connections(kind="tcp"))
    except psutil.Error:  # another user's
        return False


def _is_listener(connection: Any, port: int) -> bool:
    return bool(connection.status == psutil.CONN_LISTEN and connection.laddr.port == port)
