"""`python -m loadtest bench rows`: what many rows in one request, and reasons, cost a client.

Everything is measured in turns within one run, so the ratios hold although the
machine is shared: the bare call of ONNX Runtime on the same rows, the rows in the
server's order, the same rows over HTTP in binary and in JSON, as tensors and as objects of
`/predict/batch`, and over gRPC; `/explain`; and `/predict` alone, while another client asks for
explanations or sends batches, to it or to a second server, and while `server.batch` scores a file on
the same machine. Where nginx is installed its constant response is asked beside the same: what that
takes longer then, the processors are short of, whoever serves.
"""

import argparse
import http.client
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import orjson

from loadtest.bench.batch import write_rows
from loadtest.bench.nginx import constant_response, has_nginx
from loadtest.harness.bodies import golden_matrix
from loadtest.harness.subject import free_port, python
from loadtest.harness.target import add_model, serving
from server.grpc.messages import MESSAGES
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.row_order import RowOrder
from server.model.schema import Matrix

ROUNDS = 40
JSON_HEADERS = {"Content-Type": "application/json"}
#: Of single rows beside each load: rounds in turn, and how long each is.
TURNS, TURN_SECONDS = 3, 2.0
#: Until what goes on beside them is under way.
START_SECONDS = 1.0
#: Enough for `server.batch` to be at work until it is ended.
FILE_ROWS = 3_000_000


class RowsClient:
    """One keep-alive connection that sends the same request again and again."""

    def __init__(self, url: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"))
        self._request = ("POST", path, body, headers)

    def ask(self) -> bytes:
        """The response to one request; raises `RuntimeError` unless it is answered with 200."""
        self._connection.request(*self._request)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(content[:200])
        return content


def binary_request(matrix: Matrix) -> tuple[bytes, dict[str, str]]:
    """An infer request with binary tensors in both directions."""
    tensor: dict[str, Any] = {"name": "features", "shape": matrix.shape, "datatype": "FP64"}
    tensor["parameters"] = {"binary_data_size": matrix.nbytes}
    head = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return head + matrix.tobytes(), headers


def json_request(matrix: Matrix) -> tuple[bytes, dict[str, str]]:
    """The same in JSON."""
    tensor = {"name": "features", "shape": matrix.shape, "datatype": "FP64", "data": matrix}
    body = orjson.dumps({"inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)
    return body, JSON_HEADERS


def objects_request(bundle: Bundle, rows: int) -> bytes:
    """A body of `/predict/batch`: as many objects, golden rows in turn."""
    golden = [row.fields for row in bundle.golden_rows()]
    return orjson.dumps({"rows": [golden[i % len(golden)] for i in range(rows)]})


@contextmanager
def grpc_beside(url: str) -> Iterator[str]:
    """The address of `python -m server.grpc` beside a server."""
    parts, port = urlsplit(url), free_port()
    server = ("--host", str(parts.hostname), "--port", str(parts.port), "--grpc-port", str(port))
    with subprocess.Popen(python("-m", "server.grpc", *server), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()  # it says when it answers
        yield f"{parts.hostname}:{port}"
        process.terminate()


def grpc_call(address: str, model: str, matrix: Matrix) -> Callable[[], object]:
    """An infer request with raw contents in both directions, over gRPC."""
    tensor = {"name": "features", "shape": matrix.shape, "datatype": "FP64"}
    request = MESSAGES["ModelInferRequest"](
        model_name=model, inputs=[tensor], raw_input_contents=[matrix.tobytes()]
    )
    call = grpc.insecure_channel(address).unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        MESSAGES["ModelInferRequest"].SerializeToString,
        MESSAGES["ModelInferResponse"].FromString,
    )
    return partial(call, request, timeout=60)


def seconds(call: Callable[[], object]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def times_in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The seconds of each call, all called once a round."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(seconds(call))
    return found


def in_turns(calls: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """The median microseconds of each call."""
    times = times_in_turn(calls, rounds)
    return {name: statistics.median(found) * 1e6 for name, found in times.items()}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--rows", type=int, default=1000)


def main(options: argparse.Namespace) -> int:
    """Print the tables."""
    bundle = Bundle.load(options.model)
    with tempfile.TemporaryDirectory() as folder, serving(options.model, Path(folder)) as subject:
        print_infer(bundle, subject.url, options.rows)
        print_explain(bundle, subject.url)
        print_beside(bundle, subject.url, options.rows, Path(folder))
    print_thread(bundle)
    return 0


def print_infer(bundle: Bundle, url: str, rows: int) -> None:
    """Rows over `/v2` beside the bare call."""
    matrix = golden_matrix(bundle, rows)
    predictor = Predictor(bundle)
    path = f"/v2/models/{bundle.name}/infer"
    calls: dict[str, Callable[[], object]] = {
        "ONNX Runtime, the bare call": partial(predictor.margins, matrix),
        "in the server's order": partial(RowOrder(predictor).margins, matrix),
        "infer, binary": RowsClient(url, path, *binary_request(matrix)).ask,
        "infer, JSON": RowsClient(url, path, *json_request(matrix)).ask,
        "/predict/batch, JSON": RowsClient(
            url, "/predict/batch", objects_request(bundle, rows), JSON_HEADERS
        ).ask,
    }
    with grpc_beside(url) as address:
        calls["infer, gRPC"] = grpc_call(address, bundle.name, matrix)
        medians = in_turns(calls)
    bare = next(iter(medians.values()))
    print(f"{rows} rows, median of {ROUNDS}")
    for name, microseconds in medians.items():
        print(f"  {name:30} {microseconds:9,.0f} us {microseconds / bare:6.2f} times the bare call")


def print_explain(bundle: Bundle, url: str) -> None:
    """`/explain` alone."""
    explain = RowsClient(url, "/explain", _one_row(bundle), JSON_HEADERS)
    print_percentiles("/explain", [seconds(explain.ask) for _ in range(ROUNDS * 25)])


def print_beside(bundle: Bundle, url: str, rows: int, folder: Path) -> None:
    """`/predict` from one connection, and nginx beside it, alone and beside what takes longer."""
    second = folder / "second"
    second.mkdir()
    with ExitStack() as stack:
        other = stack.enter_context(serving(bundle.directory, second)).url
        clients = {"/predict": RowsClient(url, "/predict", _one_row(bundle), JSON_HEADERS)}
        if has_nginx():
            nginx = stack.enter_context(constant_response(folder, None))
            clients["nginx"] = RowsClient(nginx.url, "/predict", _one_row(bundle), JSON_HEADERS)
        loads = _loads(bundle, url, other, rows, folder)
        found: dict[str, list[float]] = {f"{client} {name}": [] for client in clients for name in loads}
        for name, load in [*loads.items()] * TURNS:
            with load():
                time.sleep(START_SECONDS)
                for client, asked in clients.items():
                    found[f"{client} {name}"] += _times(asked.ask)
    for name, times in found.items():
        print_percentiles(name, times)


def _loads(
    bundle: Bundle, url: str, other: str, rows: int, folder: Path
) -> dict[str, Callable[[], AbstractContextManager[object]]]:
    """What goes on beside single rows, by its name: for this server, for another, on the same machine."""
    source = folder / "rows.csv"
    write_rows(bundle, source, FILE_ROWS)
    scoring = ["-m", "server.batch", "--model", str(bundle.directory), str(source), str(folder / "out.csv")]
    explain = ("/explain", _one_row(bundle))
    batch = ("/predict/batch", objects_request(bundle, rows))
    return {
        "alone": nullcontext,
        "beside 20 /explain a second": partial(_asking, url, *explain, 0.05),
        "beside /explain without a pause": partial(_asking, url, *explain, 0.0),
        f"beside 2 batches of {rows} a second": partial(_asking, url, *batch, 0.5),
        f"beside batches of {rows} without a pause": partial(_asking, url, *batch, 0.0),
        "beside 2 a second to another server": partial(_asking, other, *batch, 0.5),
        "beside these without a pause to it": partial(_asking, other, *batch, 0.0),
        "beside server.batch": partial(_running, python(*scoring)),
        "beside server.batch --threads 1": partial(_running, python(*scoring, "--threads", "1")),
    }


def _times(call: Callable[[], object]) -> list[float]:
    """How long each call takes, one after the other for a turn."""
    ends, times = time.perf_counter() + TURN_SECONDS, []
    while time.perf_counter() < ends:
        times.append(seconds(call))
    return times


def _one_row(bundle: Bundle) -> bytes:
    return orjson.dumps(next(bundle.golden_rows()).fields)


def print_percentiles(name: str, times: list[float]) -> None:
    """The median and the 99th percentile."""
    p50, p99 = (sorted(times)[int(len(times) * share)] * 1e6 for share in (0.5, 0.99))
    print(f"{name:48} p50 {p50:7,.0f} us, p99 {p99:7,.0f} us")


@contextmanager
def _asking(url: str, path: str, body: bytes, pause_seconds: float) -> Iterator[None]:
    """Another client asks meanwhile, in a process of its own: of a thread the measured client would wait."""
    asking = get_context("spawn").Process(target=_ask, args=(url, path, body, pause_seconds), daemon=True)
    asking.start()
    time.sleep(START_SECONDS)  # until the interpreter is up
    yield
    asking.terminate()
    asking.join()


def _ask(url: str, path: str, body: bytes, pause_seconds: float) -> None:
    client = RowsClient(url, path, body, JSON_HEADERS)
    while True:
        time.sleep(pause_seconds)
        client.ask()


@contextmanager
def _running(command: Sequence[str]) -> Iterator[None]:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        yield
        process.kill()


def print_thread(bundle: Bundle) -> None:
    """From how many rows on a thread costs less than the event loop's wait."""
    predictor = Predictor(bundle)
    with ThreadPoolExecutor(1) as pool:
        for rows in (8, 16, 32, 64, 128):
            matrix = golden_matrix(bundle, rows)
            medians = in_turns(
                {
                    "here": partial(predictor.margins, matrix),
                    "thread": partial(_in_thread, pool, predictor, matrix),
                },
                200,
            )
            print(f"{rows:4} rows: here {medians['here']:6.0f} us, in a thread {medians['thread']:6.0f} us")


def _in_thread(pool: ThreadPoolExecutor, predictor: Predictor, matrix: Matrix) -> None:
    pool.submit(predictor.margins, matrix).result()
