"""`python -m deploy.ray_serve`: the same server behind Ray Serve, for who runs a Ray cluster already.

Each replica is a process with the app of `python -m server`: same routes, same
bits. The same command with another `--model` is a rolling update: the bundle is
verified here, then by each replica in turn, golden rows included, while the others
answer; a replica goes over from one request to the next.

It is dear: a request costs some 190 times the CPU of `python -m server` (5.9 ms against
31 us) and its median takes 120 times as long (10 ms against 82 us), for Ray's proxy and the
calls between its processes, one run of `python -m loadtest bench ray` on a busy
machine. Where plain replicas serve, they serve better: see docs/scaling.md.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from server.api.app import create_app
from server.batch.cluster.ray_cluster import LOCAL, Where, cluster, told_after
from server.cli import CommandParser, add_options, given, run, whole_number
from server.errors import BundleError, HotrowError
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.scoring.bundles import open_bundles
from server.scoring.service import Service, open_service
from server.settings import PREFIX, Settings

NAME = "hotrow"
#: Requests that Ray sends a replica before it has answered them. They are answered
#: one after another, so more would only wait there instead of in the proxy.
MAX_ONGOING_REQUESTS = 32
#: Requests under way per replica that autoscaling aims at.
TARGET_ONGOING_REQUESTS = 4


class DeploymentFailed(HotrowError):
    """Ray Serve could not bring the replicas up."""


class Replica:
    """One process of the deployment: the app of the bundles that `reconfigure` was told last."""

    def __init__(self) -> None:
        self._current: _Generation | None = None
        self._config: dict[str, Any] = {}
        self._generations = 0

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Open `config["models"]`, pairs of a folder and a digest, and answer with them from then on.

        Raises `BundleError` unless every digest, hash and golden row is right: Ray
        stops the update then, and the replicas that have not been told answer as before.
        """
        if config == self._config:  # Ray tells a replica again when its rank changes
            return
        self._generations += 1
        fresh = _Generation()
        await fresh.open(config["models"], self._generations)
        self._config = config
        before, self._current = self._current, fresh
        if before is not None:
            await before.retire()

    async def __call__(self, request: Request) -> Response:
        """Answer one request with the app."""
        assert self._current is not None  # Ray configures a replica before it gets requests
        return await self._current.answer(request)


class _Generation:
    """An app with its service, closed when it is retired and has answered everything."""

    def __init__(self) -> None:
        self._under_way = 0
        self._idle = asyncio.Event()
        self._stack = AsyncExitStack()

    async def open(self, models: Sequence[Sequence[str]], generation: int) -> None:
        service = await asyncio.to_thread(_open, models, _settings(models, generation))
        self._app = create_app(service)
        await self._stack.enter_async_context(self._app.router.lifespan_context(self._app))

    async def answer(self, request: Request) -> Response:
        self._under_way += 1
        try:
            answer = _Collected()
            await self._app(request.scope, request.receive, answer.take)
            return answer.response()
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def retire(self) -> None:
        while self._under_way:
            self._idle.clear()
            await self._idle.wait()
        await self._stack.aclose()


class _Collected:
    """What an app sends, as the one response that Ray wants."""

    def __init__(self) -> None:
        self._status, self._body = 500, b""
        self._headers: list[tuple[bytes, bytes]] = []

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")

    def response(self) -> Response:
        response = Response(self._body, self._status)
        response.raw_headers = self._headers
        return response


def build(options: dict[str, Any]) -> Any:
    """The Serve application, also for `serve run deploy.ray_serve:build model=DIR`.

    `options`: `model`, folders separated by commas; `replicas`, or `min_replicas`
    and `max_replicas`, between which Ray scales by the requests under way.
    """
    from ray import serve

    folders = [Path(folder).resolve() for folder in str(options["model"]).split(",")]
    least, most = (
        int(options.get(key, options.get("replicas", 1))) for key in ("min_replicas", "max_replicas")
    )
    scaling: dict[str, Any] = {"num_replicas": least}
    if least != most:
        target = {"target_ongoing_requests": TARGET_ONGOING_REQUESTS}
        scaling = {"autoscaling_config": {"min_replicas": least, "max_replicas": most, **target}}
    deployment = serve.deployment(
        Replica,
        name=NAME,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        # The digest tells a folder that was published anew from the one it was.
        user_config={"models": [[str(folder), Bundle.load(folder).digest] for folder in folders]},
        health_check_period_s=5,
        health_check_timeout_s=10,
        **from_environment(os.environ),
        **scaling,
    )
    return deployment.bind()


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the `HOTROW_*` variables say to Ray, and through it to the replicas.

    Ray shows whoever asks it what environment a replica has: no secret is sent along.
    """
    settings = Settings.read(environ)
    secret = {PREFIX + field.name.upper() for field in fields(Settings) if field.metadata.get("secret")}
    sent = {n: value for n, value in environ.items() if n.startswith(PREFIX) and n not in secret}
    sent["HOTROW_LOG_DIR"] = str(settings.log_dir.resolve())
    return {
        "ray_actor_options": {"num_cpus": 1, "runtime_env": {"env_vars": sent}},
        "graceful_shutdown_timeout_s": settings.drain_seconds,
    }


def main(arguments: Sequence[str]) -> int:
    """Deploy, or update what is deployed; on a cluster of its own, serve until SIGINT or SIGTERM."""
    options = _parser().parse_args(arguments)
    if options.down:
        with cluster(Where(options.address, 1)):
            _end()
        return 0
    asked = given(options)
    settings = Settings.read(os.environ, **{name: asked[name] for name in ("model", "host", "port")})
    for bundle in open_bundles(settings):  # one that no replica would take is not offered to any
        Predictor(bundle).check_golden_rows()
    most = max(options.replicas, options.max_replicas or 0)
    with cluster(Where(options.address, most), modules=["deploy"]):
        _deploy(settings, options.replicas, most)
        if options.address == LOCAL:
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


def _deploy(settings: Settings, least: int, most: int) -> None:
    from ray import serve

    began = time.monotonic()
    _check_cores(least)
    _check_listener(settings)
    serve.start(
        proxy_location="HeadOnly",
        http_options={
            "host": settings.host,
            "port": settings.port,
            "keep_alive_timeout_s": round(settings.keep_alive_seconds),
            "request_timeout_s": settings.request_timeout_seconds,
        },
    )
    models = ",".join(map(str, settings.model))
    waiting = (
        f"Waiting for {least} replicas of one core each, of which the cluster has {_free_cores():g} free."
    )
    try:
        with told_after(waiting):
            serve.run(build({"model": models, "min_replicas": least, "max_replicas": most}), name=NAME)
    except RuntimeError as error:
        status = serve.status().applications[NAME]
        raise DeploymentFailed(f"expected Ray to bring {models} up, got: {status.message or error}") from None
    print(
        f"Serving {models} at http://{settings.host}:{settings.port}, "
        f"after {time.monotonic() - began:.1f} s.",
        file=sys.stderr,
    )


def _check_cores(replicas: int) -> None:
    """Refuse what Ray would wait for without end: each replica has a core of its own."""
    import ray

    cores = ray.cluster_resources().get("CPU", 0.0)
    if replicas > cores:
        raise DeploymentFailed(
            f"expected a core in the cluster for each of {replicas} replicas, got {cores:g} cores: "
            "lower --replicas or add nodes; with --max-replicas Ray scales up where nodes join"
        )


def _free_cores() -> float:
    import ray

    return float(ray.available_resources().get("CPU", 0.0))


def _check_listener(settings: Settings) -> None:
    """Refuse another address than that of a Serve that runs already: it has one listener, which stays."""
    from ray.serve.context import _get_global_client

    running = _get_global_client(raise_if_no_controller_running=False)
    if running is None:
        return
    here, there = (settings.host, settings.port), (running.http_config.host, running.http_config.port)
    if here != there:
        raise DeploymentFailed(
            f"expected --host {there[0]} --port {there[1]}, where Serve of this cluster listens already, "
            f"got {here[0]}:{here[1]}: give those, or end what is deployed with --down first"
        )


def _end() -> None:
    from ray import serve

    serve.shutdown()


def _open(models: Sequence[Sequence[str]], settings: Settings) -> Service:
    bundles = open_bundles(settings)
    for bundle, (folder, digest) in zip(bundles, models, strict=True):
        if bundle.digest != digest:
            raise BundleError(f"expected the bundle that was deployed in {folder} on every node, got another")
    return open_service(settings, bundles)


def _settings(models: Sequence[Sequence[str]], generation: int) -> Settings:
    """Those of the environment; each replica and each of its generations has a log folder of its own."""
    from ray import serve

    settings = Settings.read(os.environ, model=tuple(Path(folder) for folder, _ in models))
    name = f"{serve.get_replica_context().replica_id.unique_id}-{generation}"
    return replace(settings, log_dir=settings.log_dir / name)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="python -m deploy.ray_serve", description=__doc__)
    add_options(parser, "model", "host", "port")
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        default=os.environ.get("RAY_ADDRESS", LOCAL),
        help="the cluster; `local` starts one here, which ends with the command [RAY_ADDRESS, local]",
    )
    count = whole_number(1, 10_000)
    parser.add_argument("--replicas", type=count, default=1, metavar="N", help="processes at least [1]")
    parser.add_argument(
        "--max-replicas", type=count, metavar="N", help="processes at most; Ray scales between the two"
    )
    parser.add_argument("--down", action="store_true", help="end what is deployed on the cluster")
    return parser


if __name__ == "__main__":
    run(main)
