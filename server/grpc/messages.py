"""The messages of the protocol, as protobuf makes classes of them: no compiler, no generated code.

Names and numbers are those of `open_inference_grpc.proto` of kserve/open-inference-protocol,
`grpc_service.proto` of triton-inference-server/common (statistics, repository) and
`health.proto` of grpc/grpc. A member that is not listed is passed over, as protobuf does.
"""

from collections.abc import Iterator
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from server.errors import MalformedBody

INFERENCE, HEALTH = "inference", "grpc.health.v1"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL, "int32": _Field.TYPE_INT32, "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32, "uint64": _Field.TYPE_UINT64, "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE, "string": _Field.TYPE_STRING, "bytes": _Field.TYPE_BYTES,
}  # fmt: skip

#: Each message with its members, `type name = number`; `*` stands for repeated, `|` for one of several.
_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live = 1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready = 1",
    "ModelReadyRequest": "string name = 1, string version = 2",
    "ModelReadyResponse": "bool ready = 1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "string name = 1, string version = 2, *string extensions = 3",
    "ModelMetadataRequest": "string name = 1, string version = 2",
    "TensorMetadata": "string name = 1, string datatype = 2, *int64 shape = 3",
    "Property": "string key = 1, string value = 2",
    "ModelMetadataResponse": "string name = 1, *string versions = 2, string platform = 3, "
    "*TensorMetadata inputs = 4, *TensorMetadata outputs = 5, *Property properties = 6",
    "InferParameter": "|bool bool_param = 1, |int64 int64_param = 2, |string string_param = 3, "
    "|double double_param = 4, |uint64 uint64_param = 5",
    "Parameter": "string key = 1, InferParameter value = 2",
    "InferTensorContents": "*bool bool_contents = 1, *int32 int_contents = 2, *int64 int64_contents = 3, "
    "*uint32 uint_contents = 4, *uint64 uint64_contents = 5, *float fp32_contents = 6, "
    "*double fp64_contents = 7, *bytes bytes_contents = 8",
    "InferInputTensor": "string name = 1, string datatype = 2, *int64 shape = 3, *Parameter parameters = 4, "
    "InferTensorContents contents = 5",
    "InferRequestedOutputTensor": "string name = 1, *Parameter parameters = 2",
    "ModelInferRequest": "string model_name = 1, string model_version = 2, string id = 3, "
    "*Parameter parameters = 4, *InferInputTensor inputs = 5, *InferRequestedOutputTensor outputs = 6, "
    "*bytes raw_input_contents = 7",
    "InferOutputTensor": "string name = 1, string datatype = 2, *int64 shape = 3, *Parameter parameters = 4, "
    "InferTensorContents contents = 5",
    "ModelInferResponse": "string model_name = 1, string model_version = 2, string id = 3, "
    "*Parameter parameters = 4, *InferOutputTensor outputs = 5, *bytes raw_output_contents = 6",
    "RepositoryIndexRequest": "string repository_name = 1, bool ready = 2",
    "ModelIndex": "string name = 1, string version = 2, string state = 3, string reason = 4",
    "RepositoryIndexResponse": "*ModelIndex models = 1",
    "ModelStatisticsRequest": "string name = 1, string version = 2",
    "StatisticDuration": "uint64 count = 1, uint64 ns = 2",
    "InferStatistics": "StatisticDuration success = 1, StatisticDuration fail = 2, "
    "StatisticDuration queue = 3, StatisticDuration compute_input = 4, StatisticDuration compute_infer = 5, "
    "StatisticDuration compute_output = 6, StatisticDuration cache_hit = 7, StatisticDuration cache_miss = 8",
    "ModelStatistics": "string name = 1, string version = 2, uint64 last_inference = 3, "
    "uint64 inference_count = 4, uint64 execution_count = 5, InferStatistics inference_stats = 6",
    "ModelStatisticsResponse": "*ModelStatistics model_stats = 1",
}
#: Both of health's, whose status is an enum: on the wire a number, 1 for serving and 2 for not.
_HEALTH = {"HealthCheckRequest": "string service = 1", "HealthCheckResponse": "int32 status = 1"}
SERVING, NOT_SERVING = 1, 2


def _classes(package: str, messages: dict[str, str]) -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, members in messages.items():
        message = file.message_type.add(name=name)
        # A map is, on the wire and in a class without its option, a list of keys and values.
        message.field.extend(_fields(package, members))
        if any(field.HasField("oneof_index") for field in message.field):
            message.oneof_decl.add(name="choice")
    # A pool of our own: a library beside us may bring the same names.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _fields(package: str, members: str) -> Iterator[descriptor_pb2.FieldDescriptorProto]:
    for member in filter(None, members.split(", ")):
        kind, name, _, number = member.split(" ")
        label = _Field.LABEL_REPEATED if kind.startswith("*") else _Field.LABEL_OPTIONAL
        field = _Field(name=name, number=int(number), label=label)
        if kind.startswith("|"):
            field.oneof_index = 0
        kind = kind.lstrip("*|")
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type, field.type_name = _Field.TYPE_MESSAGE, f".{package}.{kind}"
        yield field


#: The classes by name.
MESSAGES = _classes(INFERENCE, _MESSAGES) | _classes(HEALTH, _HEALTH)


def parsed(name: str, message: bytes) -> Any:
    """A message of this name; raises `MalformedBody` for bytes that are none."""
    try:
        return MESSAGES[name].FromString(message)
    except DecodeError:
        raise MalformedBody(f"expected a {name}, got another message") from None
