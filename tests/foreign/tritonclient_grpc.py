"""Golden rows by tritonclient's gRPC client: the margins it reads, and what it says of refusals, as JSON."""

import json
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

url, model, codes = sys.argv[1:]
client = triton.InferenceServerClient(url)
width = client.get_model_metadata(model).inputs[0].shape[1]
rows = np.fromfile(codes).reshape(-1, width)


def margins(matrix: "np.ndarray", name: str = model, shape: "list[int] | None" = None) -> "list[str]":
    features = triton.InferInput("features", shape or list(matrix.shape), "FP64")
    features.set_data_from_numpy(matrix)
    answer = client.infer(name, [features], outputs=[triton.InferRequestedOutput("margin")])
    return [value.hex() for value in answer.as_numpy("margin").ravel().tolist()]


def status(name: str, matrix: "np.ndarray") -> str:
    try:
        margins(matrix, name)
    except InferenceServerException as error:
        return str(error.status())
    return "none"


print(
    json.dumps(
        {
            "rows": margins(rows),
            "alone": [margins(row.reshape(1, -1))[0] for row in rows[:5]],
            "thousand": margins(np.resize(rows, (1000, width))),
            "ready": [
                client.is_server_live(),
                client.is_server_ready(),
                client.is_model_ready(model),
                client.is_model_ready("other"),
            ],
            "server": client.get_server_metadata().name,
            "model": client.get_model_repository_index().models[0].name,
            "statistics": client.get_inference_statistics(model).model_stats[0].name,
            "errors": [status("other", rows[:1]), status(model, rows[:1, :3].copy())],
        }
    )
)
