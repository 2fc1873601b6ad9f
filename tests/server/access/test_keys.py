"""Keys: every route asks for one, on the fast path as on the ASGI path, and none is kept."""

import gc
import hashlib
import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from loadtest.harness.http_bytes import get
from server.access.keys import Keys, new_key, read_callers
from server.access.scopes import OPEN_PATHS, SCOPES, scopes_for
from server.errors import HotrowError, SettingsError
from server.publish import commands
from server.settings import Settings
from server.wire.fast_path import Endpoint, KeyedFastPath
from tests.support.bundles import ROW
from tests.support.monitored import logged
from tests.support.servers import RawResponse, address, eventually, exchange, post, run, serving

BODY = orjson.dumps(ROW)


class Keyed(NamedTuple):
    """A server that asks for keys, one of each scope, and the file it reads."""

    url: str
    pid: int
    keys: dict[str, str]
    file: Path


def write(path: Path, lines: list[str], mode: int = 0o600) -> None:
    made = path.with_suffix(".new")
    made.write_text("".join(lines))
    made.chmod(mode)
    made.replace(path)


@pytest.fixture(scope="module", params=["on", "off"])
def keyed(
    request: pytest.FixtureRequest, three: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Keyed]:
    """With the fast path and without."""
    folder = tmp_path_factory.mktemp("keyed")
    made = {scope: new_key(f"a-{scope}", scope) for scope in SCOPES}
    write(folder / "keys", ["# who may ask\n", *(line for _, line in made.values())])
    settings = {"keys_file": str(folder / "keys"), "cors_origins": "https://a.example"}
    with serving(three, folder, fast_path=request.param, **settings) as subject:
        keys = {scope: key for scope, (key, _) in made.items()}
        yield Keyed(subject.url, subject.pid, keys, folder / "keys")


def bearer(key: str) -> str:
    return f"Authorization: Bearer {key}"


def scored(keyed: Keyed, *headers: str) -> RawResponse:
    return exchange(keyed.url, post("/predict", BODY, *headers))[0]


def test_key_of_the_scope_is_answered_however_it_is_sent(keyed: Keyed) -> None:
    key = keyed.keys["score"]
    forms = [bearer(key), f"authorization:bearer {key}", f"X-API-Key: {key}", f"x-api-key:  {key}"]
    for _ in range(2):  # the head is remembered
        assert [scored(keyed, form).status for form in forms] == [200] * 4
        for number in range(3):  # behind a mesh no head comes twice
            assert scored(keyed, f"traceparent: 00-{number}", bearer(key), "X-Request-Id: a").status == 200
    assert scored(keyed, bearer(keyed.keys["admin"])).status == 200
    assert scored(keyed, bearer(key), f"X-API-Key: {key}").status == 200


def test_line_of_the_log_names_the_caller(keyed: Keyed) -> None:
    """On every route, of heads that are remembered and of those that never come twice."""
    score, admin = bearer(keyed.keys["score"]), bearer(keyed.keys["admin"])
    tensor = {"name": "features", "shape": [1, 3], "datatype": "FP64", "data": [1.0, 0, 0]}
    sent = {
        "plain": (post("/predict", BODY, score, "X-Request-Id: plain"), "a-score"),
        "other": (post("/predict", BODY, admin, "X-Request-Id: other"), "a-admin"),
        "query": (post("/models/three/predict", BODY, score, "X-Request-Id: query"), "a-score"),
        "batch": (post("/predict/batch", b'{"rows":[%b]}' % BODY, score, "X-Request-Id: batch"), "a-score"),
        "reason": (post("/explain", BODY, admin, "X-Request-Id: reason"), "a-admin"),
        "infer": (
            post("/v2/models/three/infer", orjson.dumps({"inputs": [tensor]}), score, "X-Request-Id: infer"),
            "a-score",
        ),
    }
    requests = [request for request, _ in sent.values()] * 2
    assert {exchange(keyed.url, request)[0].status for request in requests} == {200}
    logs = keyed.file.parent / "logs"
    wanted = {id_: [caller] * 2 for id_, (_, caller) in sent.items()}
    eventually(lambda: callers(logs, wanted) == wanted)
    assert all("caller" in line for line in logged(logs))


def callers(logs: Path, ids: Iterable[str]) -> dict[str, list[str]]:
    """The callers of the lines of these requests."""
    lines = logged(logs) if logs.is_dir() else []
    return {id_: [line["caller"] for line in lines if line.get("request_id") == id_] for id_ in ids}


def test_no_wrong_and_several_keys_are_refused(keyed: Keyed) -> None:
    key = keyed.keys["score"]
    assert scored(keyed, bearer(key)).status == 200  # whose head is remembered, and of no use to others
    wrong = [[], [bearer("hr_wrong")], [bearer("")], [f"X-API-Key: {key}a"], [f"X-API-Key: {key[:-1]}"]]
    wrong += [["Authorization: Basic YTpi"], [f"Authorization: {key}"], [f"X-Api-Key2: {key}"]]
    wrong += [[bearer(key), bearer("hr_wrong")], [bearer(key), "X-API-Key: hr_wrong"]]
    wrong += [["traceparent: 00-1", "X-Request-Id: a", bearer("hr_wrong")]]
    for _ in range(2):
        for headers in wrong:
            answer = scored(keyed, *headers)
            assert (answer.status, orjson.loads(answer.body)["status"]) == (401, 401), headers
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert key.encode() not in answer.body
        foreign = scored(keyed, bearer(keyed.keys["metrics"]))
        assert foreign.status == 403
        assert 'scope="score"' in foreign.headers["www-authenticate"]


def test_every_route_asks_for_a_key_but_health(keyed: Keyed) -> None:
    """401 without a key and with a wrong one, 403 with one of another scope."""
    document = orjson.loads(exchange(keyed.url, get_with("/openapi.json", keyed.keys["score"]))[0].body)
    routes = [(path, method) for path, found in document["paths"].items() for method in found]
    assert len(routes) > 25
    assert OPEN_PATHS & {path for path, _ in routes} == {
        "/livez",
        "/readyz",
        "/v2/health/live",
        "/v2/health/ready",
    }
    for path, method in routes:
        asked = path.format(name="credit", version="1", id="000000000000-1")
        operation = document["paths"][path][method]
        if path in OPEN_PATHS:
            assert exchange(keyed.url, get(asked))[0].status == 200
            assert "security" not in operation
            continue
        right, foreign = ("metrics", "score") if "metrics" in scopes_for(asked) else ("score", "metrics")
        last = asked.rpartition("/")[2]
        right = last if last in ("explain", "override", "outcomes") else right
        found = [
            ask(keyed, method, asked, key) for key in ("", "hr_wrong", keyed.keys[foreign], keyed.keys[right])
        ]
        assert [answer.status for answer in found[:3]] == [401, 401, 403], (method, asked)
        assert found[3].status not in (401, 403), (method, asked)
        assert ("error" in orjson.loads(found[0].body)) == path.startswith("/v2")
        assert operation["security"] == [{"bearer": []}, {"key": []}]
        assert {"401", "403"} <= operation["responses"].keys()
    assert ask(keyed, "get", "/nowhere", "").status == 401
    assert exchange(keyed.url, get("/health"), b"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n")[1].status == 200


def get_with(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: test\r\nX-API-Key: {key}\r\n\r\n".encode()


def ask(keyed: Keyed, method: str, path: str, key: str) -> RawResponse:
    headers = [bearer(key)] if key else []
    if method == "post":
        return exchange(keyed.url, post(path, BODY, *headers))[0]
    return exchange(keyed.url, get(path).replace(b"\r\n\r\n", "\r\n".join(["", *headers, "", ""]).encode()))[
        0
    ]


def test_preflight_of_a_browser_needs_no_key(keyed: Keyed) -> None:
    lines = ["OPTIONS /predict HTTP/1.1", "Host: a", "Origin: https://a.example"]
    lines += ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-api-key", "", ""]
    assert exchange(keyed.url, "\r\n".join(lines).encode())[0].status == 200
    answer = scored(keyed, "Origin: https://a.example")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (401, "https://a.example")


def test_withdrawn_key_is_refused_and_a_damaged_file_changes_nothing(keyed: Keyed) -> None:
    before = keyed.file.read_text()
    old, new = keyed.keys["score"], new_key("a-score", "score")
    assert scored(keyed, bearer(old)).status == 200  # its head is remembered
    write(keyed.file, [before, new[1]])  # two of one name, while it is replaced
    os.kill(keyed.pid, signal.SIGHUP)
    until(lambda: scored(keyed, bearer(new[0])).status == 200)
    assert scored(keyed, bearer(old)).status == 200
    digest = hashlib.sha256(old.encode()).hexdigest()
    write(keyed.file, [line for line in [*before.splitlines(True), new[1]] if digest not in line])
    until(lambda: scored(keyed, bearer(old)).status == 401)  # without a signal: it is looked at
    write(keyed.file, ["nonsense\n"])
    os.kill(keyed.pid, signal.SIGHUP)
    log = keyed.file.parent / "server.log"
    until(lambda: "line 1" in log.read_text())
    assert scored(keyed, bearer(new[0])).status == 200
    write(keyed.file, [before])
    until(lambda: scored(keyed, bearer(old)).status == 200)


def until(is_true: "object", seconds: float = 120.0) -> None:
    assert callable(is_true)
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_no_key_is_in_logs_or_the_list_of_processes(keyed: Keyed) -> None:
    for key in keyed.keys.values():
        scored(keyed, bearer(key))
    exchange(keyed.url, post("/predict", b"{", bearer(keyed.keys["score"])))
    files = [path for path in keyed.file.parent.rglob("*") if path.is_file()]
    said = b"".join(path.read_bytes() for path in files)
    said += Path(f"/proc/{keyed.pid}/cmdline").read_bytes() + Path(f"/proc/{keyed.pid}/environ").read_bytes()
    assert not [key for key in keyed.keys.values() if key.encode() in said]


def test_connections_that_stay_open_hold_no_key(keyed: Keyed) -> None:
    """Some copies lie in memory that is free; of 64 connections none keeps its own."""
    key = keyed.keys["score"]
    with ExitStack() as stack:
        for _ in range(64):
            client = stack.enter_context(closing(http.client.HTTPConnection(*address(keyed.url))))
            client.request("GET", "/model", headers={"X-API-Key": key})
            assert client.getresponse().read()
        copies = _memory(keyed.pid).count(key.encode())
        assert copies < 32


def _memory(pid: int) -> bytes:
    """What a process has in memory that it may write."""
    maps = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    parts = [place for place, rights, *_ in maps if rights.startswith("rw")]
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for start, end in (map(partial(int, base=16), place.split("-")) for place in parts):
            memory.seek(start)
            with suppress(OSError):  # nothing is mapped there any more
                found.append(memory.read(end - start))
    return b"".join(found)


def test_what_the_fast_path_remembers_holds_no_key(tmp_path: Path) -> None:
    key, line = new_key("a", "score")
    write(tmp_path / "keys", [line])
    path = KeyedFastPath(
        Keys(tmp_path / "keys"), {"/predict": Endpoint(lambda *_: None, lambda _: None)}, 100
    )
    request = post("/predict", b"{}", bearer(key))
    traced = post("/predict", b"{}", bearer(key), "traceparent: 00-1", "X-Request-Id: a")
    for head, names in ((request[:-2], b""), (traced[:-2], b',"request_id":"a"')):
        for _ in range(2):
            found = path.eligible(head)
            assert found is not None
            assert found.identity.members == names + b',"caller":"a"'
    assert len(path._known_heads) == len(path._templates) == 1
    reached, seen = [path._known_heads, path._templates, path._keys], set()
    while reached:
        one = reached.pop()
        assert not (isinstance(one, (bytes, str)) and key in str(one))
        if id(one) not in seen and not isinstance(one, type):
            seen.add(id(one))
            reached += [held for held in gc.get_referents(one) if not callable(held)]
    assert len(seen) > 10


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "got none"),
        (["a score\n"], "NAME SCOPES SHA256 in line 1"),
        (["a score abc\n"], "NAME SCOPES SHA256 in line 1"),
        (["# a\n", f"a score,fly {'0' * 64}\n"], "got fly"),
        ([f"a score {'0' * 64}\n", f"b score {'0' * 64}\n"], "line 2"),
        ([f"a score {digit * 64}\n" for digit in "012"], "2 keys of a name in line 3"),
    ],
)
def test_file_that_cannot_be_used_is_refused_by_line(tmp_path: Path, lines: list[str], words: str) -> None:
    write(tmp_path / "keys", lines)
    with pytest.raises(SettingsError, match=words):
        Keys(tmp_path / "keys")


def test_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "keys", [new_key("a", "score")[1]], mode=0o604)
    with pytest.raises(SettingsError, match="chmod 600"):
        Keys(tmp_path / "keys")
    with pytest.raises(HotrowError, match="HOTROW_KEYS_FILE"):
        Keys(tmp_path / "none")


def test_command_prints_a_key_once_and_keeps_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    made: list[subprocess.CompletedProcess[str]] = [
        run("-m", "server.keys", "new", "shop", "--scopes", "score,explain", HOTROW_KEYS_FILE=str(file))
        for _ in range(3)
    ]
    assert [done.returncode for done in made] == [0, 0, 2]  # two keys of a name
    keys = [done.stdout.strip() for done in made[:2]]
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(key in file.read_text() for key in keys)
    assert {caller.name for _, caller in read_callers(file)} == {"shop"}
    assert Keys(file).find(keys[1].encode()).scopes == {"score", "explain"}
    assert run("-m", "server.keys", "list", "--file", str(file)).stdout == "shop explain,score\n" * 2


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a\nb\n", b"shop score 00\n", b"a\0b", "cl\u00e9".encode(), b"\xff", None]
)
def test_file_without_one_key_is_refused_before_a_server_is_asked(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(SettingsError, match="key"):
        commands.main(["list", "--key-file", str(tmp_path / "key")])


def test_off_by_default(server: str) -> None:
    assert Settings().keys_file is None
    assert exchange(server, post("/predict", BODY, bearer("anything")))[0].status == 200
    assert b"securitySchemes" not in exchange(server, get("/openapi.json"))[0].body
