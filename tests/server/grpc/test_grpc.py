"""gRPC: what it answers is what HTTP answers, to the bit; refusals have the right status."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from loadtest.harness.subject import free_port, python
from server.errors import BodyTooLarge, MalformedBody
from server.grpc.entries import MAX_NAMES_BYTES, MAX_NUMBERS, MAX_PARTS, MAX_TEXT_BYTES, MAX_TEXTS, split
from server.grpc.inference import to_http
from server.grpc.messages import MESSAGES, SERVING
from server.grpc.queues import INFERENCES, MOST_CALLS
from server.grpc.service import HeldBytes, make_server
from server.grpc.upstream import Refused, Upstream
from server.model.bundle import Bundle
from tests.support.bundles import CREDIT
from tests.support.foreign_clients import foreign_python
from tests.support.monitored import logged
from tests.support.servers import address, eventually, serving

SERVICE = "/inference.GRPCInferenceService/"


class Client:
    """Calls by name, with our own messages; `logs` is where the server behind writes its lines."""

    logs: Path

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def call(self, name: str, /, *metadata: tuple[str, str], seconds: float = 60.0, **members: Any) -> Any:
        path = "/grpc.health.v1.Health/Check" if name == "HealthCheck" else SERVICE + name
        call = self._channel.unary_unary(
            path, MESSAGES[f"{name}Request"].SerializeToString, MESSAGES[f"{name}Response"].FromString
        )
        return call(MESSAGES[f"{name}Request"](**members), timeout=seconds, metadata=metadata)

    def code(self, name: str, /, *metadata: tuple[str, str], **members: Any) -> str:
        with pytest.raises(grpc.RpcError) as refused:
            self.call(name, *metadata, **members)
        assert refused.value.details()
        return str(refused.value.code().name)

    def close(self) -> None:
        self._channel.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Beside a server of the shipped model."""
    folder = tmp_path_factory.mktemp("grpc")
    with serving(CREDIT, folder, max_batch_bytes="200000") as subject:
        upstream = Upstream(*address(subject.url))
        server = make_server(upstream, HeldBytes(400_000), 200_000)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with closing(Client(port)) as made:
            made.logs = folder / "logs"
            yield made
        server.stop(None).wait()
        upstream.close()


def rows(count: int = 1) -> tuple[dict[str, Any], bytes]:
    """The golden rows, again and again, as an input and its raw contents."""
    bundle = Bundle.load(CREDIT)
    golden = [np.frombuffer(bundle.schema.encode(row.fields)) for row in bundle.golden_rows()]
    matrix = np.resize(np.array(golden), (count, len(bundle.schema)))
    return {"name": "features", "datatype": "FP64", "shape": list(matrix.shape)}, matrix.tobytes()


@pytest.mark.parametrize("count", [1, 1000])
def test_golden_rows_come_out_to_the_bit_raw_and_typed(client: Client, count: int) -> None:
    margins = np.resize([row.margins[0] for row in Bundle.load(CREDIT).golden_rows()], count)
    tensor, raw = rows(count)
    typed = tensor | {"contents": {"fp64_contents": np.frombuffer(raw).tolist()}}
    wanted = [{"name": "margin"}]
    for members in ({"inputs": [tensor], "raw_input_contents": [raw]}, {"inputs": [typed]}):
        answer = client.call("ModelInfer", model_name="credit", id="a", outputs=wanted, **members)
        assert (answer.model_name, answer.id, [output.name for output in answer.outputs]) == (
            "credit",
            "a",
            ["margin"],
        )
        assert np.frombuffer(answer.raw_output_contents[0]).tobytes() == margins.tobytes()
    every = client.call("ModelInfer", model_name="credit", inputs=[tensor], raw_input_contents=[raw])
    assert len(every.outputs) == len(every.raw_output_contents) > 1


def test_ids_of_a_call_are_in_the_log(client: Client) -> None:
    tensor, raw = rows()
    members: dict[str, Any] = {"model_name": "credit", "inputs": [tensor], "raw_input_contents": [raw]}
    trace = ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01")
    client.call("ModelInfer", ("x-request-id", "grpc-7"), trace, **members)
    client.call("ModelInfer", ("x-request-id", "grpc-8"), id="theirs", **members)

    def ids() -> list[tuple[Any, ...]]:
        names = ("request_id", "header_request_id", "trace_id")
        return [tuple(line.get(name) for name in names) for line in logged(client.logs)]

    wanted = {("grpc-7", None, "ab" * 16), ("theirs", "grpc-8", None)}
    eventually(lambda: wanted <= set(ids()))


def test_calls_beside_inference(client: Client) -> None:
    assert client.call("ServerLive").live
    assert client.call("ServerReady").ready
    assert client.call("HealthCheck").status == SERVING
    assert client.call("ModelReady", name="credit").ready
    assert not client.call("ModelReady", name="other").ready
    assert client.call("ServerMetadata").name == "hotrow"
    metadata = client.call("ModelMetadata", name="credit")
    assert (metadata.name, metadata.inputs[0].datatype, metadata.inputs[0].shape[0]) == ("credit", "FP64", -1)
    assert "feature_names" in {entry.key for entry in metadata.properties}
    statistics = client.call("ModelStatistics", name="credit").model_stats[0]
    assert statistics.inference_stats.success.count == statistics.execution_count
    assert [model.state for model in client.call("RepositoryIndex").models] == ["READY"]


def test_refusals_have_their_status(client: Client) -> None:
    tensor, raw = rows()
    good: dict[str, Any] = {"inputs": [tensor], "raw_input_contents": [raw]}
    code = client.code
    assert code("ModelInfer", model_name="other", **good) == "NOT_FOUND"
    assert code("ModelMetadata", name="credit", version="9") == "NOT_FOUND"
    assert code("ModelInfer", model_name="credit") == "INVALID_ARGUMENT"
    assert (
        code("ModelInfer", model_name="credit", inputs=[tensor], raw_input_contents=[raw[:-1]])
        == "INVALID_ARGUMENT"
    )
    assert (
        code("ModelInfer", model_name="credit", inputs=[tensor], raw_input_contents=[raw] * 2)
        == "INVALID_ARGUMENT"
    )
    nowhere = [{"name": "nothing"}]
    assert code("ModelInfer", model_name="credit", outputs=nowhere, **good) == "INVALID_ARGUMENT"
    large, much = rows(3000)
    too_large = code("ModelInfer", model_name="credit", inputs=[large], raw_input_contents=[much])
    assert too_large == "RESOURCE_EXHAUSTED"
    below = rows(2100)  # what gRPC lets through and the server does not
    assert (
        code("ModelInfer", model_name="credit", inputs=[below[0]], raw_input_contents=[below[1]]) == too_large
    )
    with pytest.raises(grpc.RpcError, match=r"(?i)unimplemented"):
        client._channel.unary_unary(SERVICE + "RepositoryModelLoad")(b"", timeout=60)
    assert client.call("ModelInfer", model_name="credit", **good).outputs


def test_message_that_is_none_is_refused(client: Client) -> None:
    with pytest.raises(grpc.RpcError, match="expected a ModelInferRequest") as refused:
        client._channel.unary_unary(SERVICE + "ModelInfer")(b"\xff" * 9, timeout=60)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


#: Fields of a request on the wire: two bytes each, and some hundred once protobuf has made something of it.
EMPTY = {
    "parameters": b"\x22\0",
    "inputs": b"\x2a\0",
    "outputs": b"\x32\0",
    "raw contents": b"\x3a\0",
    "unknown": b"\x78\0",
}
INPUT = {
    "dimensions": b"\x18\1" * (MAX_PARTS + 1),
    "packed dimensions": b"\x1a\x81\x80\1" + b"\1" * (MAX_PARTS + 1),
    "texts": b"\x2a\x82\x80\x40" + b"\x42\0" * (MAX_TEXTS + 1),
    "truths": b"\x2a\x86\x80\x80\1\x0a\x81\x80\x80\1" + b"\1" * (MAX_NUMBERS + 1),
}


@pytest.mark.parametrize("what", [*EMPTY, *INPUT])
def test_endless_entries_are_refused_before_anything_is_made_of_them(what: str) -> None:
    if what in EMPTY:
        message = EMPTY[what] * (MAX_PARTS + 1)
    else:
        message = MESSAGES["ModelInferRequest"]().SerializeToString()
        size = len(INPUT[what])
        message += (
            b"\x2a"
            + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21])
            + INPUT[what]
        )
    assert MESSAGES["ModelInferRequest"].FromString(message).ByteSize() > 0
    with pytest.raises(BodyTooLarge, match="expected at most 16,384 inputs"):
        split(message)


def test_entries_are_counted_whatever_form_numbers_have() -> None:
    tensor = MESSAGES["InferInputTensor"](name="a", datatype="FP64", shape=[2**40, 0, 3])
    tensor.contents.fp64_contents.extend([1.0] * MAX_NUMBERS)
    request = MESSAGES["ModelInferRequest"](inputs=[tensor], raw_input_contents=[bytes(2**20)])
    split(request.SerializeToString())
    tensor.contents.int64_contents.append(-(2**63))
    request = MESSAGES["ModelInferRequest"](inputs=[tensor])
    with pytest.raises(BodyTooLarge):
        split(request.SerializeToString())


def test_raw_contents_stay_where_they_lie_in_the_message() -> None:
    """Each copy of them was another 16 MiB of a message of that size: 77 MiB in all."""
    raw = [b"a" * 3, b"", b"b" * 2**16]
    request = MESSAGES["ModelInferRequest"](
        model_name="m", id="i", inputs=[{"name": "x"}], raw_input_contents=raw
    )
    message = request.SerializeToString()
    others, views = split(message)
    assert [bytes(view) for view in views] == raw
    assert all(view.obj is message for view in views)
    request.ClearField("raw_input_contents")
    assert MESSAGES["ModelInferRequest"].FromString(others) == request


LONG = b"a" * (max(MAX_NAMES_BYTES, MAX_TEXT_BYTES) + 1)


@pytest.mark.parametrize(
    "members",
    [
        {"id": LONG},
        {"model_name": LONG},
        {"inputs": [{"name": LONG}]},
        {"outputs": [{"name": b"a", "parameters": [{"key": LONG}]}]},
        {"parameters": [{"key": "a", "value": {"string_param": LONG[1:]}}]},
        {"inputs": [{"contents": {"bytes_contents": [LONG]}}]},
    ],
    ids=lambda members: "/".join(members),
)
def test_long_names_ids_parameters_and_texts_are_refused_before_they_are_copied(
    members: dict[str, Any],
) -> None:
    with pytest.raises(BodyTooLarge, match="expected at most 1,048,576 bytes of names"):
        split(MESSAGES["ModelInferRequest"](**members).SerializeToString())


def test_other_calls_than_inferences_take_short_messages_alone(client: Client) -> None:
    assert client.code("ModelMetadata", name="a" * 2**16) == "RESOURCE_EXHAUSTED"
    with pytest.raises(grpc.RpcError, match="expected a ServerLiveRequest") as refused:
        client._channel.unary_unary(SERVICE + "ServerLive")(b"\xff" * 9, timeout=60)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("message", [b"\x0a", b"\x0a\5a", b"\x0b", b"\x80" * 11, b"\x09\0", b"\x2a\2\x1a\5"])
def test_bytes_that_are_no_message_are_refused_by_who_counts(message: bytes) -> None:
    with pytest.raises(MalformedBody):
        split(message)


def test_large_messages_are_held_within_a_budget_and_one_alone_always() -> None:
    """32 of 15 MiB took 1.2 GB, parsed and copied all at once."""
    held = HeldBytes(100)
    refused = pytest.raises(Refused, match="fewer large calls at once")
    with held.holding(60), held.holding(40), refused, held.holding(1):
        pass
    with held.holding(1000), pytest.raises(Refused), held.holding(1):
        pass
    with held.holding(100):
        pass


def test_full_of_inferences_health_and_other_calls_are_answered() -> None:
    """What gRPC reads before our code sees it cannot be counted: only so many threads have it read."""
    with ExitStack() as held, socket.create_server(("127.0.0.1", 0)) as behind:
        behind.settimeout(60)
        upstream = Upstream(*behind.getsockname()[:2])
        server = make_server(upstream, HeldBytes(2**21), 2**20)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with closing(Client(port)) as asking:
            infer = asking._channel.unary_unary(SERVICE + "ModelInfer")
            content, raw = rows()
            asked = MESSAGES["ModelInferRequest"](model_name="m", inputs=[content], raw_input_contents=[raw])
            calls = [infer.future(asked.SerializeToString()) for _ in range(MOST_CALLS)]
            for _ in range(INFERENCES):
                held.enter_context(behind.accept()[0])
            with pytest.raises(grpc.RpcError) as refused:
                infer(asked.SerializeToString(), timeout=60)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            for path, wanted in (
                ("/grpc.health.v1.Health/Check", b"/v2/health/ready"),
                (SERVICE + "ServerLive", b"/v2/health/live"),
                (SERVICE + "ModelMetadata", b"/v2/models/"),
            ):
                other = asking._channel.unary_unary(path).future(b"")
                with behind.accept()[0] as connection:
                    assert connection.recv(2**16).startswith(b"GET " + wanted)
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                assert other.exception(60) is None or "NOT_FOUND" in str(other.exception())
            behind.settimeout(0)
            with pytest.raises(BlockingIOError):
                behind.accept()
            for call in calls:
                call.cancel()
    server.stop(None).wait()
    upstream.close()


def test_odd_calls_have_the_right_status(client: Client) -> None:
    """What grpcurl, meshes and scanners send: reflection, long names and metadata, packed messages."""
    call = client._channel.unary_unary

    def code(path: str, message: bytes = b"", **options: Any) -> str:
        with pytest.raises(grpc.RpcError) as refused:
            call(path)(message, **({"timeout": 60} | options))
        return str(refused.value.code().name)

    assert code("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo") == "UNIMPLEMENTED"
    assert code("/grpc.health.v1.Health/Watch") == "UNIMPLEMENTED"
    assert (
        code(
            "/grpc.health.v1.Health/Check",
            MESSAGES["HealthCheckRequest"](service="other").SerializeToString(),
        )
        == "NOT_FOUND"
    )
    assert client.call("HealthCheck", service="inference.GRPCInferenceService").status == SERVING
    assert code(SERVICE + "ServerLive", metadata=(("x-mesh", "a" * 65_536),)) == "RESOURCE_EXHAUSTED"
    packed = {"compression": grpc.Compression.Gzip}
    assert code(SERVICE + "ModelInfer", bytes(2**22), **packed) == "RESOURCE_EXHAUSTED"
    assert call(SERVICE + "ServerLive")(b"", timeout=60, **packed)
    for name in ("../..", "a/b", "%2e%2e", "a\nb"):
        assert client.code("ModelMetadata", name=name) == "NOT_FOUND"
    assert client.code("ModelMetadata", name="é" * 5000) == "INVALID_ARGUMENT"
    assert client.call("ServerLive").live


def test_server_that_is_not_there_is_unavailable() -> None:
    server = make_server(Upstream("127.0.0.1", free_port()), HeldBytes(2000), 1000)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with closing(Client(port)) as alone:
        assert alone.code("ModelInfer", model_name="credit") == "UNAVAILABLE"
        assert not alone.call("ServerReady").ready
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("datatype", "contents"), [("INT8", {"int_contents": [300]}), ("FP16", {}), ("X" * 99, {})]
)
def test_contents_that_do_not_fit_are_refused(datatype: str, contents: dict[str, Any]) -> None:
    tensor = {"name": "a", "datatype": datatype, "shape": [1], "contents": contents}
    with pytest.raises(MalformedBody, match="expected"):
        to_http(MESSAGES["ModelInferRequest"](inputs=[tensor]), [])


@pytest.mark.whole
def test_tritonclient_reads_every_golden_row_to_the_bit(tmp_path: Path) -> None:
    """The command, its end, and a client of others that made its messages itself."""
    bundle = Bundle.load(CREDIT)
    golden = list(bundle.golden_rows())
    np.array([np.frombuffer(bundle.schema.encode(row.fields)) for row in golden]).tofile(tmp_path / "codes")
    with serving(CREDIT, tmp_path) as subject:
        host, port = address(subject.url)
        grpc_port = free_port()
        command = python(
            "-m", "server.grpc", "--host", host, "--port", str(port), "--grpc-port", str(grpc_port)
        )
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
            assert process.stderr is not None
            assert "Answering gRPC" in process.stderr.readline()
            script = [
                "tests/foreign/tritonclient_grpc.py",
                f"{host}:{grpc_port}",
                bundle.name,
                str(tmp_path / "codes"),
            ]
            done = subprocess.run([foreign_python(), *script], capture_output=True, text=True, timeout=120)
            process.terminate()
            assert process.wait(60) == 0
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = [row.margins[0].hex() for row in golden]
    assert found["rows"] == expected
    assert found["alone"] == expected[:5]
    assert found["thousand"] == [expected[i % len(expected)] for i in range(1000)]
    assert found["ready"] == [True, True, True, False]
    assert (found["server"], found["model"], found["statistics"]) == ("hotrow", bundle.name, bundle.name)
    assert found["errors"] == ["StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"]
