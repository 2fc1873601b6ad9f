"""A request that has waited for longer than its client does is not scored."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from loadtest.harness.scrape import scrape, total
from server.model.bundle import Bundle
from tests.support import patient
from tests.support.bundles import ROW
from tests.support.servers import address, exchange, post, serving

pytestmark = pytest.mark.whole

HEADER = "X-Request-Timeout-Ms"


@pytest.fixture(scope="module")
def url(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = {"max_batch_rows": "1000000", "max_batch_bytes": "100000000"}
    with serving(three, tmp_path_factory.mktemp("deadline"), **settings) as subject:
        yield subject.url


def predictions(url: str) -> float:
    return total(scrape(url), "hotrow_predictions_total")


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/explain"])
def test_body_that_comes_too_late_is_504_and_not_scored(url: str, path: str) -> None:
    before = predictions(url)
    body = orjson.dumps({"rows": [ROW]} if path.endswith("batch") else ROW)
    request = post(path, body, f"{HEADER}: 50")
    with socket.create_connection(address(url), 60) as connection:
        connection.sendall(request[:-5])
        threading.Event().wait(0.2)  # this is what is tested: the rest comes late
        connection.sendall(request[-5:])
        assert connection.recv(65_536).startswith(b"HTTP/1.1 504")
    assert predictions(url) == before


def test_rows_behind_a_large_batch_are_504_when_their_turn_comes_too_late(url: str, three: Path) -> None:
    """Large batches run one after the other in a thread; the second one waits for the first."""
    width = len(Bundle.load(three).schema)
    large = np.zeros((1_000_000, width))
    head = {"inputs": [{"name": "features", "datatype": "FP64", "shape": list(large.shape),
                        "parameters": {"binary_data_size": large.nbytes}}]}  # fmt: skip
    text = orjson.dumps(head)
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    rows = np.zeros((100, width))
    features = {"name": "features", "datatype": "FP64", "shape": [100, width], "data": rows.tolist()}
    late = {"inputs": [features], "parameters": {"timeout": 50}}
    with patient.client(base_url=url) as first, patient.client(base_url=url) as second:
        codes: list[int] = []

        def send_large() -> None:
            content = text + large.tobytes()
            codes.append(first.post("/v2/models/three/infer", content=content, headers=headers).status_code)

        thread = threading.Thread(target=send_large)
        thread.start()
        answers = []
        while thread.is_alive():
            answers.append(second.post("/v2/models/three/infer", json=late))
        thread.join()
    assert codes == [200]
    assert 504 in {answer.status_code for answer in answers}
    assert "error" in next(answer.json() for answer in answers if answer.status_code == 504)


@pytest.mark.parametrize("text", ["-1", "0", "soon", "1.5", "", "99999999999", "１"])
def test_header_that_is_no_time_is_400(url: str, text: str) -> None:
    (answer,) = exchange(
        url, post("/predict", orjson.dumps(ROW), f"{HEADER}: {text}".encode().decode("latin-1"))
    )
    assert answer.status == 400
    assert HEADER in answer.body.decode()


@pytest.mark.parametrize("timeout", [-1, 1.5, "1000", True])
def test_parameter_that_is_no_time_is_400(url: str, timeout: object) -> None:
    request = {
        "inputs": [{"name": "income", "datatype": "FP64", "shape": [1], "data": [1.0]}],
        "parameters": {"timeout": timeout},
    }
    answer = patient.post(url + "/v2/models/three/infer", json=request)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_time_enough_changes_nothing(url: str) -> None:
    plain, timed = (
        patient.post(url + "/predict", json=ROW, headers=headers).json()
        for headers in ({}, {HEADER: "60000"})
    )
    assert plain["probability"] == timed["probability"]
