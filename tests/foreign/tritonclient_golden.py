"""Run in the environment of foreign clients: `URL MODEL GOLDEN CODES`; prints what was found as JSON.

GOLDEN is the bundle's golden.jsonl, CODES the encoded rows as float64 bytes.
"""

import json
import sys

import numpy
import tritonclient.http as triton
from tritonclient.http import InferenceServerClient as Client
from tritonclient.utils import InferenceServerException


def main(address: str, model: str, codes: str) -> dict[str, object]:
    """Every golden row in JSON and binary, metadata, readiness, and how refusals come back."""
    client = Client(address)
    metadata = client.get_model_metadata(model)
    width = metadata["inputs"][0]["shape"][1]
    rows = numpy.fromfile(codes).reshape(-1, width)
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model),
        "version_ready": client.is_model_ready(model, metadata["versions"][0]),
        "other_ready": client.is_model_ready("no-such-model"),
        "server": client.get_server_metadata()["name"],
        "index": client.get_model_repository_index(),
        "config": client.get_model_config(model)["name"],
        "statistics": client.get_inference_statistics(model)["model_stats"][0]["name"],
        "json": infer(client, model, rows, binary=False),
        "binary": infer(client, model, rows, binary=True),
        "alone": [infer(client, model, rows[i : i + 1], binary=True)[0] for i in range(20)],
        "errors": [refusal(client, *case) for case in cases(model, rows)],
    }


def infer(
    client: triton.InferenceServerClient, model: str, rows: numpy.ndarray, *, binary: bool
) -> list[str]:
    """The margins as hexadecimal floats."""
    features = triton.InferInput("features", list(rows.shape), "FP64")
    features.set_data_from_numpy(rows, binary_data=binary)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("probability", "margin")]
    answer = client.infer(model, [features], outputs=outputs, request_id="7")
    assert answer.get_response()["id"] == "7"
    assert answer.as_numpy("probability").shape == (len(rows), 1)
    return [float(margin).hex() for margin in answer.as_numpy("margin").reshape(-1)]


def cases(model: str, rows: numpy.ndarray) -> list[tuple[str, str, str, numpy.ndarray]]:
    """Model, input, output and rows of requests that must be refused."""
    row = rows[:1]
    return [
        ("no-such-model", "features", "margin", row),
        (model, "other", "margin", row),
        (model, "features", "label", row),
        (model, "features", "margin", row[:, 1:]),
        (model, "features", "margin", row.astype(numpy.int64)),
    ]


def refusal(
    client: triton.InferenceServerClient, model: str, name: str, output: str, rows: numpy.ndarray
) -> str:
    """The status an unacceptable request comes back with."""
    kind = {"float64": "FP64", "int64": "INT64"}[rows.dtype.name]
    features = triton.InferInput(name, list(rows.shape), kind)
    features.set_data_from_numpy(rows)
    try:
        client.infer(model, [features], outputs=[triton.InferRequestedOutput(output)])
    except InferenceServerException as error:
        return str(error.status())
    return "accepted"


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
