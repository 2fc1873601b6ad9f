"""The server that a command loads: one that runs already, or one started for it."""

import argparse
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from loadtest.harness.subject import LoadTestError, Subject, free_port, python, running

_MODEL_PATH = re.compile(r"/models/[^/]+(/versions/[^/]+)?")
#: What runs as `python -m` one of these answers requests itself.
_OURS = ("server", "ui")
#: Listening at one of these is listening at every address.
_WILDCARDS = ("0.0.0.0", "::")
DEFAULT_MODEL = Path("models/credit")


def add_model(parser: argparse.ArgumentParser) -> None:
    """The option that names the bundle."""
    parser.add_argument(
        "--model", type=Path, default=DEFAULT_MODEL, metavar="DIR", help="the bundle to serve [models/credit]"
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """The options that say what is loaded."""
    parser.add_argument(
        "--url", help="a running server, or one of its models: http://HOST:PORT/models/NAME [start one]"
    )
    add_model(parser)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes [1]")
    parser.add_argument(
        "--code", type=Path, metavar="DIR", help="start the server of this checkout [the present one]"
    )
    parser.add_argument("--log-mode", choices=("off", "async", "strict"), default="async")


class TargetRequest(NamedTuple):
    """What `add_target` asks for: a running server, or how one is started."""

    url: str | None
    model: Path
    workers: int
    code: Path | None
    log_mode: str

    @classmethod
    def of(cls, options: argparse.Namespace) -> "TargetRequest":
        """That of a command's options."""
        return cls(**{name: getattr(options, name) for name in cls._fields})


class Target(NamedTuple):
    """The server that is loaded; `pid` is None if it runs elsewhere.

    `path` is where its model takes rows: of the first model, or of one by its name.
    """

    url: str
    pid: int | None
    path: str = "/predict"

    @property
    def model_path(self) -> str:
        """Where the model is described."""
        return self.path.removesuffix("/predict") or "/model"


@contextmanager
def target(asked: TargetRequest, log: Path | None = None) -> Iterator[Target]:
    """The server at a URL, or one that is started for the run and ended after it."""
    if asked.url:
        yield at(asked.url)
        return
    with hotrow(
        asked.model, workers=asked.workers, log_mode=asked.log_mode, output=log, code=asked.code
    ) as subject:
        yield Target(subject.url, subject.pid)


def at(url: str) -> Target:
    """The running server at a URL, and of its models the one that the path names.

    Raises `LoadTestError` for a URL that is none of a server or of a model of it.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise LoadTestError(f"expected a URL as http://127.0.0.1:8000 or …/models/NAME, got {url}")
    path = parts.path.rstrip("/").removesuffix("/predict").removesuffix("/model")
    if path and not _MODEL_PATH.fullmatch(path):
        raise LoadTestError(f"expected no path in the URL but /models/NAME, got {parts.path}")
    server = f"{parts.scheme}://{parts.netloc}"
    return Target(server, listener(server), f"{path}/predict")


@contextmanager
def hotrow(
    model: Path,
    *,
    workers: int = 1,
    log_mode: str = "async",
    log_queue_bytes: int | None = None,
    output: Path | None = None,
    command: Sequence[str] = (),
    code: Path | None = None,
) -> Iterator[Subject]:
    """Our server on a free port, its prediction log in a folder that is removed afterwards.

    `command` replaces `python -m server`, for a server under a profiler; `code` is
    the folder whose `server` package it is. Raises `LoadTestError` if there is none.
    """
    if code is not None and not (code / "server" / "__main__.py").exists():
        raise LoadTestError(f"expected a checkout with a folder server/ in --code, got {code}")
    folder = Path(tempfile.mkdtemp(prefix="hotrow-load-"))
    try:
        with started(
            model,
            folder,
            ["--workers", str(workers)],
            {"log_mode": log_mode}
            | ({} if log_queue_bytes is None else {"log_queue_bytes": str(log_queue_bytes)}),
            command=command,
            core=server_core(workers),
            output=output,
            code=code,
        ) as subject:
            yield subject
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def serving(model: Path, folder: Path, *options: str, **settings: str) -> AbstractContextManager[Subject]:
    """`python -m server` with this bundle on a free port, its log in `folder`, and `HOTROW_*` settings."""
    return started(model, folder, options, settings)


@contextmanager
def started(
    model: Path,
    folder: Path,
    options: Sequence[str] = (),
    settings: Mapping[str, str] = MappingProxyType({}),
    *,
    command: Sequence[str] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
    core: int | None = None,
    output: Path | None = None,
    code: Path | None = None,
) -> Iterator[Subject]:
    """`serving`, by another `command`, with more in its environment, on one core, of the checkout `code`.

    What it prints goes to `output`, by default `folder/server.log`.
    """
    port = settings.get("port") or str(free_port())
    own = {f"HOTROW_{name.upper()}": value for name, value in settings.items()}
    with running(
        "the server",
        [*(command or python("-m", "server")), "--model", str(model.resolve()), "--port", port, *options],
        f"http://127.0.0.1:{port}",
        "/readyz",
        core=core,
        environment={"HOTROW_LOG_DIR": str(folder / "logs"), **own, **environment},
        log=output or folder / "server.log",
        folder=code,
    ) as subject:
        yield subject


def listener(url: str) -> int | None:
    """The server of ours that answers at a local address; None if it is elsewhere or not to be seen.

    What listens there and is none passes the requests on: a tunnel, a proxy, Docker's,
    in whatever language. Of several listeners of the port the one at this very address
    answers, as the kernel chooses it.
    """
    parts = urlsplit(url)
    addresses = {address for address in _addresses(parts.hostname or "") if _is_own(address)}
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        sockets = [c for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port]
    except psutil.AccessDenied:
        return None
    exact = {c.pid for c in sockets if c.laddr.ip in addresses}
    any_address = {c.pid for c in sockets if c.laddr.ip in _WILDCARDS} if addresses else set()
    pids = sorted(pid for pid in exact or any_address if pid and _is_ours(pid))
    return pids[0] if pids else None


def _addresses(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    except OSError:
        return set()


def _is_own(address: str) -> bool:
    """Whether it is an address of this machine: all of 127.0.0.0/8 are, though no interface names them."""
    named = (found.address for every in psutil.net_if_addrs().values() for found in every)
    return ip_address(address).is_loopback or address in named


def _is_ours(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        return Path(process.exe()).name.startswith("python") and _module(words) in _OURS
    except psutil.Error:
        return False


def _module(words: Sequence[str]) -> str | None:
    """What `python -m` runs."""
    return words[words.index("-m") + 1] if "-m" in words[:-1] else None


def server_core(workers: int) -> int | None:
    """A processor for a single worker alone, if the machine has one to spare for the load."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0] if workers == 1 and len(cores) > 1 else None


def load_core(workers: int) -> int | None:
    """The processor of the load, on a machine with just one to spare."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[1] if workers == 1 and len(cores) == 2 else None


@contextmanager
def keep_to(core: int | None) -> Iterator[None]:
    """Keep this process to one processor for a while; None leaves it alone."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
