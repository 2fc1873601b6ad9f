"""nginx and HAProxy as deploy/proxies configures them: what comes through is what the server answers."""

import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtest.harness.subject import free_port
from server.model.bundle import Bundle
from tests.support.bundles import CREDIT
from tests.support.certificates import Authority
from tests.support.servers import serving, system_tool

pytestmark = pytest.mark.whole

COMMANDS = {
    "nginx": ("nginx.conf", ("-g", "daemon off;", "-c")),
    "haproxy": ("haproxy.cfg", ("-db", "-f")),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that both stand in front of."""
    with serving(CREDIT, tmp_path_factory.mktemp("behind")) as subject:
        yield subject.url


@pytest.fixture(scope="module", params=COMMANDS)
def client(
    request: pytest.FixtureRequest, server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of a proxy, whose file is changed in what its first lines call yours."""
    tool, (name, options) = system_tool(request.param), COMMANDS[request.param]
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    authority = Authority(folder)
    (folder / "tls.pem").write_bytes(authority.issue("proxy"))
    text = Path("deploy/proxies", name).read_text()
    for ours, yours in (
        ("127.0.0.1:8000", server.removeprefix("http://")),
        ("/etc/hotrow/tls.pem", str(folder / "tls.pem")),
        ("/run/hotrow-nginx.pid", str(folder / "pid")),
        ("8443", str(port)),
    ):
        text = text.replace(ours, yours)
    (folder / name).write_text(text)
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([tool, *options, str(folder / name)], stderr=log, stdout=log, cwd=folder)
    context = ssl.create_default_context(cafile=authority.certificate)
    try:
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, timeout=60) as made:
            end = time.monotonic() + 60
            while not answers(made):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
            yield made
    finally:
        process.terminate()
        process.wait(60)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_golden_rows_come_out_to_the_bit(client: httpx.Client) -> None:
    golden = list(Bundle.load(CREDIT).golden_rows())
    alone = [client.post("/predict", json=row.fields).json()["probability"] for row in golden]
    batch = client.post("/predict/batch", json={"rows": [row.fields for row in golden]}).json()
    assert alone == batch["probabilities"] == [row.outputs[0] for row in golden]


def test_refusals_come_through_and_operators_routes_do_not(client: httpx.Client) -> None:
    assert client.post("/predict", json={}).status_code == 422
    assert client.get("/metrics").status_code == client.get("/history").status_code == 403
    large = client.post("/predict", content=b" " * (17 * 2**20), headers={"Content-Type": "application/json"})
    assert large.status_code == 413
    assert client.get("/model").status_code == 200


def test_the_page_of_the_document_names_the_address_that_the_client_knows(client: httpx.Client) -> None:
    assert f"{client.base_url}/predict" in client.get("/docs").text
