"""Who may read the page: which sites, under which names, with which password, and how often it is tried."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from server.errors import SettingsError
from server.settings import Settings
from tests.support.bundles import CREDIT
from tests.support.pages import page_client
from ui.access.hosts import own_hosts
from ui.access.login import MAX_REMEMBERED, MAX_TRIES, TRY_SECONDS, Tries
from ui.access.login_file import logins_of

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The page without a login."""
    with page_client(CREDIT, tmp_path_factory.mktemp("access")) as client:
        yield client


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


RUN = "/gradio_api/run/predict"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:7860"])
def test_no_other_site_may_read_an_answer(client: TestClient, origin: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answers = [
        client.get("/", headers={"Origin": origin}),
        client.options("/", headers=asked),
        client.post("/page/operations", json={}, headers={"Origin": origin}),
        client.options("/page/operations", headers=asked),
        client.post("/page/decide", json={"turn": 1, "texts": {}}, headers={"Origin": origin}),
    ]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_page_answers_to_its_own_names_alone(tmp_path: Path) -> None:
    hosts = own_hosts(Settings())
    with page_client(CREDIT, tmp_path, allowed_hosts=hosts) as client:
        for path in ("/", "/page/template.csv", "/model"):
            for host in ("localhost", "localhost:7860", "127.0.0.1:80", "[::1]:7860", "LOCALHOST"):
                assert client.get(path, headers={"Host": host}).status_code == 200
            answer = client.get(path, headers={"Host": "evil.example:7860"})
            assert answer.status_code == 400
            assert "HOTROW_ALLOWED_HOSTS" in answer.json()["detail"]
        behind_a_proxy = {"Host": "localhost", "X-Forwarded-Host": "evil.example"}
        assert "evil.example" not in client.get("/", headers=behind_a_proxy).text


def test_hosts_are_those_of_the_address_or_of_the_setting() -> None:
    assert "localhost" in own_hosts(Settings(host="127.0.0.1"))
    assert own_hosts(Settings(host="0.0.0.0")) == ()
    set_ = Settings.read({"HOTROW_ALLOWED_HOSTS": "Page.example, 10.0.0.7"})
    assert own_hosts(set_) == ("page.example", "10.0.0.7")


def test_no_cache_keeps_the_page_but_its_files(client: TestClient) -> None:
    assert client.get("/").headers["Cache-Control"] == "no-store"
    answer = client.post("/page/decide", json={"turn": 1, "texts": {}})
    assert answer.headers["Cache-Control"] == "no-store"


def test_browser_guesses_no_type_and_tells_no_other_site_an_address(client: TestClient) -> None:
    for path in ("/", "/theme.css", "/page/letter?id=x-1"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Referrer-Policy"] == "same-origin", path


def test_calls_of_gradio_are_not_there(client: TestClient) -> None:
    for path in (RUN, "/gradio_api/run/look", "/gradio_api/run/", "/gradio_api/queue/join"):
        answer = client.post(path, json={"fn_index": 0, "data": []})
        assert (answer.status_code, answer.json()["status"]) == (404, 404)


def test_behind_a_prefix_the_page_says_where_its_files_are(client: TestClient, tmp_path: Path) -> None:
    def root(opened: TestClient, **headers: str) -> str:
        found = re.search(r'"root":\s*"([^"]*)"', opened.get("/", headers=headers).text)
        assert found is not None
        return found[1]

    assert root(client, **{"X-Forwarded-Prefix": "/hotrow/"}) == "http://localhost/hotrow"
    for hostile in ("/a b", "//evil.example", "https://evil.example", "/<script>", '/a"x'):
        assert root(client, **{"X-Forwarded-Prefix": hostile}) == "http://localhost"
    with page_client(CREDIT, tmp_path, root_path="/scoring") as below:
        assert root(below) == "http://localhost/scoring"
        for path in ("/scoring/theme.css", "/scoring/page/template.csv", "/page/template.csv"):
            assert below.get(path).status_code == 200


def test_tries_are_counted_by_user_and_then_not_looked_at(tmp_path: Path) -> None:
    logins = (("ann", "secret"), ("bob", "other"))
    with page_client(CREDIT, tmp_path, ui_auth=logins) as client:
        codes = [client.get("/", headers=basic("ann:no")).status_code for _ in range(MAX_TRIES)]
        assert codes == [401] * MAX_TRIES
        # The right one neither, or it could be guessed; elsewhere on the page neither.
        for path in ("/", "/page/template.csv"):
            answer = client.get(path, headers=basic("ann:secret"))
            assert answer.status_code == 429
            assert 1 <= int(answer.headers["Retry-After"]) <= TRY_SECONDS + 1
        assert client.get("/", headers=basic("bob:other")).status_code == 200
        assert client.get("/").status_code == 401


def test_tries_are_forgotten_after_a_while_and_fill_no_memory() -> None:
    now = [0.0]
    tries = Tries(lambda: now[0])
    for _ in range(MAX_TRIES):
        assert tries.wait_seconds("ann") == 0.0
        tries.failed("ann")
    assert tries.wait_seconds("ann") == TRY_SECONDS
    now[0] = TRY_SECONDS
    assert tries.wait_seconds("ann") == 0.0
    tries.failed("ann")
    assert tries.wait_seconds("ann") == 0.0
    for number in range(MAX_REMEMBERED * 2):
        tries.failed(number)
    assert len(tries._failed) == MAX_REMEMBERED


def test_logins_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "logins"
    path.write_text("# who may\nann:a,b:c\n\nbob:pässword \n", encoding="utf-8")
    settings = Settings.read({"HOTROW_UI_AUTH_FILE": str(path), "HOTROW_UI_AUTH": "eve:x"})
    assert logins_of(settings) == (("eve", "x"), ("ann", "a,b:c"), ("bob", "pässword "))


@pytest.mark.parametrize("content", [b"", b"# nobody\n", b"ann\n", b"ann:\n", b":secret\n", b"\xff:x\n"])
def test_file_without_logins_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "logins"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as refusal:
        logins_of(Settings(ui_auth_file=path))
    assert "secret" not in str(refusal.value)
    with pytest.raises(SettingsError, match="HOTROW_UI_AUTH_FILE"):
        logins_of(Settings(ui_auth_file=tmp_path / "none"))
