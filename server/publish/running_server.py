"""The server on a port of this machine: found, told to read its models again, asked what it serves."""

import argparse
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psutil

from server.cli import add_options, given
from server.errors import HotrowError
from server.process.verdict import CHECK_SECONDS, run_check
from server.settings import Settings

#: Another reload, then the check, the start of all workers and a drain.
RELOAD_SECONDS = 4 * CHECK_SECONDS
PAUSE_SECONDS = 0.1
_IN_PROGRESS = re.compile(rb"^hotrow_model_reload_in_progress 1", re.MULTILINE)
_RELOADS = re.compile(rb'^hotrow_model_reloads_total\{result="(ok|failed)"\} ([0-9.]+)$', re.MULTILINE)
_ANY_HOST = ("0.0.0.0", "::")
#: A proxy of the environment does not know this machine's loopback.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class ServerError(HotrowError):
    """A running server that cannot be told, or did not do, what was asked."""


class Reloads(NamedTuple):
    """How often a server has read its models again, by what came of it."""

    ok: float
    failed: float


class RunningServer(NamedTuple):
    """A Hotrow server of this machine: its first process, where it answers, and the key it is asked with."""

    pid: int
    url: str
    key: str = ""

    def reload(self) -> None:
        """Have it read its model folders again, and wait until it has; raises `ServerError`."""
        if not self._document()["reloads"]:
            raise ServerError(
                f"expected a server that takes new models, got one with the page at {self.url}: restart it"
            )
        end = time.monotonic() + RELOAD_SECONDS
        before = self._reloads_at_rest(end)
        self.request_reload()
        if self._reloads_at_rest(end, before).failed > before.failed:
            raise ServerError(
                f"expected the server to take the models, got a refusal ({self._why_not()}): "
                "it goes on with those it had"
            )

    def request_reload(self) -> None:
        """Have it read its model folders again, and do not wait; raises `ServerError`."""
        self._check_lives()
        try:
            os.kill(self.pid, signal.SIGHUP)
        except PermissionError:
            raise ServerError(
                f"expected to be allowed to signal the server, process {self.pid}, got a refusal: "
                "run this as the user it runs as"
            ) from None

    def _check_lives(self) -> None:
        """Raise `ServerError` if the server has ended: its successor was told nothing."""
        try:
            if psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            pass
        raise ServerError(
            f"expected the server, process {self.pid}, to reload, got its end: see where it logs"
        )

    def _why_not(self) -> str:
        """What a check of its models with its settings and environment says."""
        settings = self.settings()
        if settings is not None:
            try:
                run_check(settings, psutil.Process(self.pid).environ())
            except HotrowError as error:
                return str(error)
        return "it says why where it logs"

    def serves(self, digest: str) -> bool:
        """Whether the model of this digest is served, or is a challenger."""
        document = self._document()
        return digest in {model["digest"] for model in (*document["models"], *document.get("arms", ()))}

    def settings(self) -> Settings | None:
        """What it was started with, its model folders from the root on; None if this user may not know."""
        try:
            process = psutil.Process(self.pid)
            here, words, environment = Path(process.cwd()), process.cmdline(), process.environ()
        except psutil.Error:
            return None
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        add_options(parser, "model", "challenger", "log_dir", "log_mode")
        options, _ = parser.parse_known_args(words)
        settings = Settings.read(environment, **given(options))

        def resolved(folders: Iterable[Path]) -> tuple[Path, ...]:
            return tuple((here / folder).resolve() for folder in folders)

        return replace(settings, model=resolved(settings.model), challenger=resolved(settings.challenger))

    def labels(self) -> list[str]:
        """The `name@version` of every model it serves; raises `ServerError`."""
        return _labels(self._document()["models"])

    def _document(self) -> dict[str, Any]:
        try:
            document: dict[str, Any] = orjson.loads(self._get("/models"))
            if {"models", "ready", "reloads"} <= document.keys():
                return document
        except (orjson.JSONDecodeError, AttributeError):
            pass
        raise ServerError(f"expected a Hotrow server at {self.url}, got another: name its --port")

    def _reloads_at_rest(self, end: float, before: Reloads | None = None) -> Reloads:
        """How often models were read again, once it is more often than `before` and none is under way.

        Then the workers of before have ended, so whichever worker answers has what was read.
        Raises `ServerError`.
        """
        while time.monotonic() < end:
            self._check_lives()
            page = self._get("/metrics", end)
            found = {word: float(number) for word, number in _RELOADS.findall(page)}
            if len(found) == len(Reloads._fields) and not _IN_PROGRESS.search(page):
                reloads = Reloads(found[b"ok"], found[b"failed"])
                if before is None or sum(reloads) > sum(before):
                    return reloads
            time.sleep(PAUSE_SECONDS)
        raise ServerError("expected the server to have reloaded by now, got no result: see where it logs")

    def _get(self, path: str, end: float = 0.0) -> bytes:
        while True:
            try:
                headers = {"X-API-Key": self.key} if self.key else {}
                with _open(urllib.request.Request(self.url + path, headers=headers), timeout=10) as response:
                    content: bytes = response.read()
                    return content
            except OSError as error:
                if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
                    got = "another" if self.key else "none"
                    raise ServerError(f"expected a key for admin in --key-file, got {got}") from None
                if end:
                    self._check_lives()
                if time.monotonic() >= end:
                    raise ServerError(f"expected a Hotrow server at {self.url}, got: {error}") from None
                time.sleep(PAUSE_SECONDS)


def _labels(models: list[dict[str, str]]) -> list[str]:
    return [f"{model['name']}@{model['version']}" for model in models]


def find_server(host: str, port: int, key: str = "") -> RunningServer | None:
    """The server that listens at an address, None if none of this user does.

    Its workers hold the socket too: the first process is the one whose parent does
    not. Raises `ServerError` if it is not Hotrow.
    """
    hosts = {*_addresses(host), *_ANY_HOST}
    for connection in psutil.net_connections(kind="tcp"):
        if connection.pid and _is_listener(connection, hosts, port):
            process = psutil.Process(connection.pid)
            while (parent := process.parent()) is not None and _listens(parent, hosts, port):
                process = parent
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            server = RunningServer(process.pid, url, key)
            server.labels()
            return server
    return None


def _addresses(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return {host}


def _listens(process: psutil.Process, hosts: Container[str], port: int) -> bool:
    try:
        return any(
            _is_listener(connection, hosts, port) for connection in process.net_connections(kind="tcp")
        )
    except psutil.Error:  # another user's
        return False


def _is_listener(connection: Any, hosts: Container[str], port: int) -> bool:
    where = connection.laddr
    return bool(connection.status == psutil.CONN_LISTEN and where.port == port and where.ip in hosts)
