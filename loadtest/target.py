"""The server that a command loads: one that runs already, or one started for it."""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from loadtest.subject import LoadTestError, Subject, free_port, python, running

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
    port = free_port()
    logs = Path(tempfile.mkdtemp(prefix="hotrow-load-"))
    options = ["--model", str(model.resolve()), "--port", str(port), "--workers", str(workers)]
    try:
        with running(
            "hotrow",
            [*(command or python("-m", "server")), *options],
            f"http://127.0.0.1:{port}",
            "/readyz",
            core=server_core(workers),
            environment={"HOTROW_LOG_DIR": str(logs), "HOTROW_LOG_MODE": log_mode},
            log=output,
            folder=code,
        ) as subject:
            yield subject
    finally:
        shutil.rmtree(logs, ignore_errors=True)


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
