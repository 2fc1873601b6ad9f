"""The server that a command loads: one that runs already, or one started for it."""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from loadtest.harness.subject import LoadTestError, Subject, free_port, python, running

DEFAULT_MODEL = Path("models/credit")


def add_model(parser: argparse.ArgumentParser) -> None:
    """The option that names the bundle."""
    parser.add_argument(
        "--model", type=Path, default=DEFAULT_MODEL, metavar="DIR", help="the bundle to serve [models/credit]"
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """The options that say what is loaded."""
    parser.add_argument("--url", help="a running server (default: start one)")
    add_model(parser)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes [1]")
    parser.add_argument(
        "--code", type=Path, metavar="DIR", help="start the server of this checkout [the present one]"
    )
    parser.add_argument("--log-mode", choices=("off", "async", "strict"), default="async")


class Target(NamedTuple):
    """The server that is loaded; `pid` is None if it runs elsewhere."""

    url: str
    pid: int | None


@contextmanager
def target(options: argparse.Namespace, log: Path | None = None) -> Iterator[Target]:
    """The server at `--url`, or one that is started for the run and ended after it."""
    if options.url:
        yield Target(options.url.rstrip("/"), listener(options.url))
        return
    with hotrow(
        options.model, workers=options.workers, log_mode=options.log_mode, output=log, code=options.code
    ) as subject:
        yield Target(subject.url, subject.pid)


@contextmanager
def hotrow(
    model: Path,
    *,
    workers: int = 1,
    log_mode: str = "async",
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
            {"log_mode": log_mode},
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
    """The process that listens at a local address, None if it is not to be seen."""
    port = urlsplit(url).port or 80
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    pids = sorted(c.pid for c in connections if c.status == "LISTEN" and c.laddr.port == port and c.pid)
    return pids[0] if pids else None


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
