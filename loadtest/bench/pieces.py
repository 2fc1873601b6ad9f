"""`python -m loadtest pieces`: what the parts of one response cost, in process and on one core.

The figures are minima over short stretches, so a neighbour can only spare some
stretches, not make the code look faster than it is.
"""

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple

import orjson
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from loadtest.bench.bare_run import CALLS, STRETCHES, bare_run, minimum_us, stretch_us
from loadtest.bench.peers import asgi_hello, hello_request
from loadtest.harness.in_process import Nowhere, Worker, connect, worker
from loadtest.harness.target import add_model, keep_to, server_core
from loadtest.report.terminal import print_table
from server.access.keys import new_key
from server.model import decoder
from server.model.arms import SPLIT_FILE, challenger_folder
from server.model.bundle import Bundle, write_bundle
from server.model.judge import Judge
from server.model.outcome import judged_row, predict_row
from server.model.policy import Check, Policy
from server.model.predictor import Predictor
from server.model.schema import Feature, Row, Schema
from server.tracing.spans import span_head
from server.wire.eligible_head import HEAD_END
from server.wire.fast_path import HotrowProtocol
from server.wire.guarded_protocol import GuardedProtocol
from server.wire.memory_holders import MAX_RECEIVING, MemoryHolders

#: Then the observer gets a turn.
PAUSE_SECONDS = 0.01
#: What a request of a wide model brings, and the numbers of features to look at.
SENT = 11
POLICY_CHECKS = 4
BARE = "ONNX Runtime, one row after the other"
#: In percent.
LEAST_SHARE = 0.001
#: No request takes so long: the guards' clock alone runs.
GUARDED_SECONDS = 10.0
WIDTHS = (11, 14, 32, 64, 128, 256, 600)


#: A sampled parent, of a trace that no request has twice.
TRACE = b"traceparent: 00-%032x-b7ad6b7169203331-01"
#: What a span costs the worker: the process that sends them is on the same core, and only reads.
SPANS_ON = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "OTEL_BSP_SCHEDULE_DELAY": "3600000",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1000000",
}


#: About what a response of a binary classifier has.
RESPONSE_BYTES = 120


#: A part of a response: what is called, and with what in turn.
Side = tuple[Callable[[Any], Any], Sequence[Any]]


class ResponseWatch(Nowhere):
    """Says when a response is out."""

    responses = 0

    def write(self, data: Any) -> None:
        """Count the ends of responses."""
        self.responses += bytes(data).endswith(b"Hello world")


class Unguarded(HotrowProtocol):
    """The fast path without its look at the connection."""

    def _is_busy(self) -> bool:
        return False


class DecoderCost(NamedTuple):
    """us to decode a body of 11 of `width` features in both ways."""

    width: int
    typed_us: float
    loop_us: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)


def main(options: argparse.Namespace) -> int:
    """Measure and print both tables."""
    with keep_to(server_core(1)), tempfile.TemporaryDirectory() as folder:
        pieces = uvloop.run(measure(options.model, Path(folder)))
        costs = [decoder_cost(width) for width in WIDTHS]
    _print_pieces(pieces)
    _print_decoders(costs)
    return 0


async def measure(model: Path, folder: Path) -> dict[str, float]:
    """The parts from the inside out: each contains the one before, where that makes sense; us by name."""
    async with worker(model, folder / "silent", log_mode="off") as silent:
        scorer, predictor, bodies = silent.scorer, silent.scorer.predictor, silent.bodies
        rows = [scorer.decode(body) for body in bodies]
        now = time.perf_counter_ns()
        found = await _in_turn(
            {
                "decode and validate a body": (scorer.decode, bodies),
                "ONNX Runtime, the same row again and again": (bare_run(predictor), rows[:1]),
                BARE: (bare_run(predictor), rows),
                "the margin, by compiled trees where there are some": (predictor.margin, rows),
                **_decisions(predictor, rows),
                "whole response with metrics, no log": (
                    lambda body: scorer.respond(body, _forget, now),
                    bodies,
                ),
            }
        )
    async with worker(model, folder / "logged") as logged:
        respond, clock = logged.scorer.respond, time.perf_counter_ns
        received, requests = logged.protocol.data_received, logged.requests
        found |= await _in_turn(
            {
                "whole response with metrics and log": (
                    lambda body: respond(body, _forget, clock()),
                    logged.bodies,
                ),
                "the same through the protocol, HTTP bytes in and out": (received, requests),
                # The two differ in what is read, logged and sent back of the id, and in nothing else.
                "the same with a header that no request has twice": (
                    received,
                    _changing(b"x-correlation-id: %032x", requests),
                ),
                "the same with such an X-Request-ID, logged and sent back": (
                    received,
                    _changing(b"x-request-id: %032x", requests),
                ),
            }
        )
    for more in (_spans, _guards, _keys, _challenger):
        found |= await more(model, folder)
    return found


async def _spans(model: Path, folder: Path) -> dict[str, float]:
    """The same requests where none has a span and where those of sampled parents have."""
    async with worker(model, folder / "untraced") as without:
        with _environment(SPANS_ON):
            async with worker(model, folder / "traced") as traced:
                plain, parents = without.requests, _changing(TRACE, without.requests)
                bare, spanned = (side.protocol.data_received for side in (without, traced))
                return await _in_turn(
                    {
                        "through the protocol again, no traceparent": (bare, plain),
                        "the same with spans on": (spanned, plain),
                        "a traceparent that no request has twice": (bare, parents),
                        "the same with spans on, so with a span": (spanned, parents),
                        "of it the span alone": (_noting(traced), parents[:1]),
                    }
                )


def _noting(traced: Worker) -> Callable[[Any], Any]:
    """What a protocol does of a request that has a span, beside answering it."""
    spans, content = traced.protocol._fast_path.spans, b"x" * RESPONSE_BYTES
    head, parent = span_head("POST", "/predict", "200", "/predict"), (TRACE % 1).partition(b" ")[2]

    def note(_: Any) -> None:
        if spans.takes(parent):
            spans.note(parent, head, content, 0, time.perf_counter_ns())

    return note


async def _guards(model: Path, folder: Path) -> dict[str, float]:
    """Guards on the wire: all run on the ASGI path, beside uvicorn's own protocol and the smallest app.

    The fast path reads a head it knows by its bytes, and only looks whether the connection is free.
    """
    async with worker(model, folder / "guarded") as one:
        kinds = {"the fast path without a look at the connection": Unguarded, "and with it": HotrowProtocol}
        arguments = one.protocol_class.args
        sides = {name: connect(partial(kind, *arguments), one.app, Nowhere()) for name, kind in kinds.items()}
        pieces = await _in_turn({name: (side.data_received, one.requests) for name, side in sides.items()})
    best = {"the ASGI path, uvicorn's own protocol": float("inf"), "and with the guards": float("inf")}
    makers = (
        HttpToolsProtocol,
        partial(GuardedProtocol, MemoryHolders(MAX_RECEIVING), GUARDED_SECONDS, lambda *_: None),
    )
    transports = [ResponseWatch() for _ in makers]
    protocols = [connect(maker, asgi_hello(model), at) for maker, at in zip(makers, transports, strict=True)]
    for _ in range(STRETCHES):
        for name, protocol, transport in zip(best, protocols, transports, strict=True):
            best[name] = min(best[name], await _asgi_stretch_us(protocol, transport))
    return pieces | best


async def _asgi_stretch_us(protocol: Any, transport: ResponseWatch) -> float:
    """One stretch of requests to an app, whose responses take turns of the event loop."""
    began = time.perf_counter_ns()
    for _ in range(CALLS):
        expected = transport.responses + 1
        protocol.data_received(hello_request())
        while transport.responses < expected:
            await asyncio.sleep(0)
    return (time.perf_counter_ns() - began) / CALLS / 1000


async def _keys(model: Path, folder: Path) -> dict[str, float]:
    """The same requests with the same key, where none is asked for and where it is."""
    key, line = new_key("pieces", "score")
    keys_file = folder / "keys"
    keys_file.write_text(line)
    keys_file.chmod(0o600)
    async with (
        worker(model, folder / "open") as free,
        worker(model, folder / "keyed", keys_file=keys_file) as keyed,
    ):
        requests = [with_line(b"x-api-key: " + key.encode(), request) for request in free.requests]
        heads = [request[: request.find(HEAD_END) + len(HEAD_END)] for request in requests]
        return await _in_turn(
            {
                "an X-API-Key that is not asked for": (free.protocol.data_received, requests),
                "the same where keys are asked for": (keyed.protocol.data_received, requests),
                "of it to know the head": (free.protocol._fast_path.eligible, heads),
                "and with its key": (keyed.protocol._fast_path.eligible, heads),
            }
        )


async def _challenger(model: Path, folder: Path) -> dict[str, float]:
    """The same requests with an id each, alone, with a challenger beside, and one that has a share."""
    alone, beside, split = (Path(copytree(model, folder / name)) for name in ("alone", "beside", "split"))
    bundle = Bundle.load(model)
    manifest = {name: value for name, value in bundle.manifest.items() if name not in ("format", "files")}
    files = {name: bundle.read(name) for name in bundle.manifest["files"]}
    for served in (beside, split):
        challenger = challenger_folder(served)
        write_bundle(challenger, manifest | {"version": f"{bundle.version}.other"}, files)
    # A share so small that hardly a key is the challenger's: what is told is the draw alone.
    (challenger_folder(split) / SPLIT_FILE).write_bytes(orjson.dumps({"share": LEAST_SHARE}))
    async with (
        worker(alone, folder / "log-alone") as first,
        worker(beside, folder / "log-beside") as second,
        worker(split, folder / "log-split") as third,
    ):
        requests = _changing(b"x-request-id: %032x", first.requests)
        return await _in_turn(
            {
                "an X-Request-ID and no challenger": (first.protocol.data_received, requests),
                "and a challenger beside": (second.protocol.data_received, requests),
                "and a challenger that has a share of the ids": (third.protocol.data_received, requests),
            }
        )


async def _in_turn(sides: Mapping[str, Side]) -> dict[str, float]:
    """The shortest stretch of each side, which take turns: they differ by less than the machine does."""
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(STRETCHES):
        for name, (call, arguments) in sides.items():
            best[name] = min(best[name], stretch_us(call, arguments))
            await asyncio.sleep(PAUSE_SECONDS)
    return best


def _decisions(predictor: Predictor, rows: Sequence[Row]) -> dict[str, Side]:
    """By the score alone, and by a policy of four checks; of a model that decides nothing, its answer."""
    if predictor.bundle.task != "binary":
        return {"row to its answer": (predictor.predict, rows)}
    decision, names = predictor.bundle.decision, predictor.bundle.schema.names
    checks = [Check(names[i % len(names)], at_most=1e18, name=f"{i}") for i in range(POLICY_CHECKS)]
    judge = Judge(Policy(checks=tuple(checks)), names, decision.threshold, decision.below, decision.otherwise)
    alone = predict_row("binary", decision.threshold, predictor.margin, predictor.link)
    judged = judged_row(judge.verdict, predictor.margin, predictor.link)
    return {
        "row to probability and decision": (alone, rows),
        f"the same by a policy of {POLICY_CHECKS} checks": (judged, rows),
    }


def _changing(line: bytes, requests: Sequence[bytes]) -> list[bytes]:
    """Each request with a header line that has a number of its own."""
    return [with_line(line % number, request) for number, request in enumerate(requests, 1)]


def with_line(line: bytes, request: bytes) -> bytes:
    """The request with one more line in its head."""
    return request.replace(b"\r\n", b"\r\n%b\r\n" % line, 1)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def decoder_cost(width: int) -> DecoderCost:
    """Decode 11 of `width` numbers with the typed decoder and with the dict loop."""
    schema = Schema(Feature(f"feature_{i}", minimum=0.0, maximum=1.0) for i in range(width))
    numbers = random.Random(width)
    bodies = [
        orjson.dumps({f"feature_{i}": numbers.random() for i in numbers.sample(range(width), SENT)})
        for _ in range(200)
    ]
    typed, loop = (_decoder(schema, limit) for limit in (width, 0))
    return DecoderCost(width, minimum_us(typed, bodies), minimum_us(loop, bodies))


def _decoder(schema: Schema, limit: int) -> Callable[[bytes], Any]:
    """The decoder that is chosen if the typed one is good up to `limit` features."""
    usual = decoder.TYPED_DECODER_MAX_FEATURES
    decoder.TYPED_DECODER_MAX_FEATURES = limit
    try:
        return decoder.row_decoder(schema)
    finally:
        decoder.TYPED_DECODER_MAX_FEATURES = usual


def _forget(_: bytes) -> None:
    pass


def _print_pieces(pieces: Mapping[str, float]) -> None:
    rows = ((name, f"{us:.2f}", f"{us / pieces[BARE]:.2f}") for name, us in pieces.items())
    print_table("One response in process", ("part", "us", "times the bare run"), rows)


def _print_decoders(costs: Sequence[DecoderCost]) -> None:
    most = decoder.TYPED_DECODER_MAX_FEATURES
    rows = (
        (f"{c.width}", f"{c.typed_us:.2f}", f"{c.loop_us:.2f}", "typed" if c.width <= most else "loop")
        for c in costs
    )
    headings = ("features", "typed, us", "loop, us", "used")
    print_table(f"Decoding {SENT} numbers, by the features of the model", headings, rows)
