"""More requests than a worker answers at once: shed before they cost, and told when to come back."""

import contextlib
import socket
from pathlib import Path

import orjson

from tests.bundles import ROW
from tests.servers import address, exchange, post, serving

HALF = post("/predict/batch", b"x" * 99)[:-90]
BATCH = orjson.dumps({"rows": [ROW]})


def test_requests_beyond_the_limit_are_shed_and_the_others_served(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path, max_inflight="3") as subject, contextlib.ExitStack() as halves:
        for _ in range(3):
            half = halves.enter_context(socket.create_connection(address(subject.url)))
            half.sendall(HALF)
        while True:  # until the server has seen all three
            answer, *_ = exchange(subject.url, post("/predict/batch", BATCH))
            if answer.status == 503:
                break
        assert 1 <= int(answer.headers["retry-after"]) <= 5
        assert orjson.loads(answer.body)["status"] == 503
        for path in ("/livez", "/readyz", "/metrics"):
            health, *_ = exchange(subject.url, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert health.status == 200
        # A plain row is answered at once and never waits: there is nothing to shed.
        with socket.create_connection(address(subject.url)) as plain:
            plain.sendall(post("/predict", orjson.dumps(ROW)))
            assert plain.recv(65_536).startswith(b"HTTP/1.1 200")
        assert 'hotrow_shed_total{reason="inflight"}' in health.body.decode()
