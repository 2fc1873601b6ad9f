"""What the defaults allow costs no more memory than is said, and ends no worker, whoever sends it."""

import contextlib
import itertools
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from loadtest.harness.http_bytes import address, exchange, get, post
from loadtest.harness.instances import wait_until
from loadtest.harness.subject import Subject
from loadtest.harness.worst_requests import OVERRIDDEN, WORKER_MB, Worst, worst_requests
from server.api.openapi import document
from server.model.bundle import Bundle
from server.scoring.row_limit import MAX_REASONS
from tests.support.bundles import CREDIT
from tests.support.servers import serving

pytestmark = pytest.mark.whole

#: What requests may take beside what the server has anyway, and keep.
GROWTH_MB, KEPT_MB = 64.0, 16.0
SENDERS, ROUNDS = 64, 1
#: Clients that read nothing of the largest response.
UNREAD = 20
#: Two seconds of work each, in which others are answered: F26 alone asks for them.
LONG = ("Arrow: batches", "Arrow: batches of dictionaries")
FOUND = {worst.name: worst for worst in worst_requests(Bundle.load(CREDIT))}
WORST = {name: worst for name, worst in FOUND.items() if name not in LONG}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server of the shipped model that takes outcomes, which all the tests here leave alive and at rest."""
    with serving(CREDIT, tmp_path_factory.mktemp("worst"), outcomes="on") as subject:
        at_rest = memory_mb(subject, "VmRSS")
        yield subject
        wait_until(lambda: memory_mb(subject, "VmRSS") - at_rest < KEPT_MB, "the memory back", 60.0)
        assert subject.process.poll() is None


def memory_mb(subject: Subject, what: str) -> float:
    """A figure of the server's one process, in MB: VmRSS, or VmHWM, the most it had."""
    status = Path(f"/proc/{subject.pid}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


def read_on(client: socket.socket) -> None:
    """Take a MiB of what waits for a client."""
    left = 2**20
    while left > 0:
        piece = client.recv(left)
        assert piece
        left -= len(piece)


def forget_the_most(subject: Subject) -> None:
    """Count VmHWM from now on."""
    Path(f"/proc/{subject.pid}/clear_refs").write_text("5")


@pytest.mark.parametrize("name", WORST)
def test_request_is_answered_within_its_memory(subject: Subject, name: str) -> None:
    worst = WORST[name]
    message = worst.message()
    exchange(subject.url, get("/livez"))
    forget_the_most(subject)
    before = memory_mb(subject, "VmRSS")
    answer, *_ = exchange(subject.url, message)
    assert answer.status in worst.statuses, answer.body[:200]
    assert len(answer.body) < 2**24
    assert memory_mb(subject, "VmHWM") - before < GROWTH_MB


def test_every_route_that_takes_a_body_has_its_worst_requests() -> None:
    """Those that name a model or its version are the same code."""
    bundle = Bundle.load(CREDIT)
    asked = {worst.path.partition("?")[0] for worst in FOUND.values()}
    documented = orjson.loads(document(bundle))["paths"]
    taken = {path for path, of_path in documented.items() if "requestBody" in of_path.get("post", {})}
    taken = {path for path in taken if not path.startswith("/models/") and "/versions/" not in path}
    assert taken <= {path.replace(OVERRIDDEN, "{id}").replace(bundle.name, "{name}") for path in asked}


def test_more_reasons_than_a_response_has_room_for_are_refused(subject: Subject) -> None:
    rows = MAX_REASONS // len(Bundle.load(CREDIT).schema) + 1
    body = b'{"rows":[%b]}' % b",".join([b"{}"] * rows)
    answer, *_ = exchange(subject.url, post("/predict/batch?reasons=all", body))
    assert answer.status == 422
    assert (
        b"expected at most 100,000 reasons in a response, got %b rows" % f"{rows:,}".encode() in answer.body
    )


def test_worker_outlives_the_worst_from_many_senders_within_its_limit(subject: Subject) -> None:
    """One in four kinds, for the memory of the test itself; F27 sends all of them for a minute."""
    large = [worst for worst in WORST.values() if "/batch" in worst.path or "/infer" in worst.path]
    messages = [worst.message() for worst in large[::4]]
    seen: Counter[int] = Counter()
    turns = itertools.cycle(range(len(messages)))

    def send() -> None:
        for _ in range(ROUNDS):
            answers = exchange(subject.url, messages[next(turns)], timeout=120.0)
            seen.update(answer.status for answer in answers[:1])

    forget_the_most(subject)
    senders = [threading.Thread(target=send) for _ in range(SENDERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert set(seen) <= {200, 400, 413, 422, 503}
    assert memory_mb(subject, "VmHWM") < WORKER_MB
    assert [answer.status for answer in exchange(subject.url, get("/readyz"))] == [200]


def test_responses_that_nobody_reads_take_no_more_than_their_budget(subject: Subject) -> None:
    """Of 150 MB the server keeps twice `max_batch_bytes`: the oldest connections are reset for the others."""
    message = FOUND["all reasons of rows"].message()
    forget_the_most(subject)
    before = memory_mb(subject, "VmRSS")
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(UNREAD):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(address(subject.url))
            client.sendall(message)
            assert client.recv(12) == b"HTTP/1.1 200"  # the rest is left
            clients.append(client)
        assert memory_mb(subject, "VmHWM") - before < 2 * 16 + GROWTH_MB
        with pytest.raises(ConnectionResetError):
            read_on(clients[0])
        read_on(clients[-1])


def test_unfinished_bodies_take_no_more_than_their_budget(subject: Subject) -> None:
    """Of 300 MiB the server keeps twice `max_batch_bytes`, and nothing once their senders have gone."""
    unfinished = post("/predict", b" " * (2**20 - 4096))[:-1]
    forget_the_most(subject)
    before = memory_mb(subject, "VmRSS")
    with contextlib.ExitStack() as stack:
        senders = [
            stack.enter_context(socket.create_connection(address(subject.url), 20)) for _ in range(300)
        ]
        for start in range(0, len(unfinished), 2**18):  # by turns, so that all of them grow
            for sender in senders:
                with contextlib.suppress(ConnectionError):  # it has been refused
                    sender.sendall(unfinished[start : start + 2**18])
        exchange(subject.url, get("/livez"))
        assert memory_mb(subject, "VmHWM") - before < GROWTH_MB
    wait_until(lambda: memory_mb(subject, "VmRSS") - before < KEPT_MB, "the memory back", 60.0)


def test_worst_requests_have_names_of_their_own() -> None:
    found: list[Worst] = list(worst_requests(Bundle.load(CREDIT)))
    assert len(FOUND) == len(found)
    assert {worst.media_type for worst in found} == {
        "application/json", "application/x-ndjson", "text/csv", "application/octet-stream",
        "application/vnd.apache.arrow.stream", None,
    }  # fmt: skip
