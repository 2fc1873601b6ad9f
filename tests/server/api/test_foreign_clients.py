"""Clients that nobody here made: every golden row to the bit, and a 413 where a body is too large."""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import pytest

from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.bundles import CREDIT
from tests.support.compatibility import hold
from tests.support.foreign_clients import foreign_python, optional_tool, with_mono, with_r
from tests.support.servers import serving, system_tool

pytestmark = pytest.mark.whole

FOLDER = Path("tests/foreign")
AXIOS = FOLDER / "node" / "node_modules" / "axios"
#: How often each client sends what is too large: `LARGE_TIMES=100` for a proof.
TIMES = int(os.environ.get("LARGE_TIMES", "1"))
NAMES = {
    "java": "Java 17, `java.net.http.HttpClient` as it is (asks for HTTP/2)",
    "go": "Go, `net/http`",
    "csharp": "C# of Mono, `HttpClient`",
    "r": "R, jsonlite and curl",
    "curl": "curl, `--http2`",
    "fetch": "Node.js, `fetch`",
    "axios": "Node.js, axios",
    "perl": "Perl, `HTTP::Tiny`",
    "ruby": "Ruby, `Net::HTTP`",
    "php": "PHP, its HTTP streams",
    "requests": "Python, requests",
    "urllib": "Python, urllib",
    "httpx": "Python, httpx",
}

#: Languages that CI may be without: what is said of them is seen where they are.
OPTIONAL = ("csharp", "r", "ruby", "php")
EXACT, READ = "equal to the bit", "413, read every time"

#: What the tests below saw of each client.
SEEN: dict[str, dict[str, str]] = {}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a server of the shipped model."""
    with serving(CREDIT, tmp_path_factory.mktemp("foreign")) as subject:
        yield subject.url.removeprefix("http://")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for programs that are built once."""
    return tmp_path_factory.mktemp("built")


def command(client: str, built: Path) -> Sequence[str]:
    """What runs a client; skips without it."""
    if client == "java":
        run = system_tool("java")
        if not (built / "Golden.class").exists():
            subprocess.run([system_tool("javac"), "-d", built, FOLDER / "Golden.java"], check=True)
        return [run, "-cp", str(built), "Golden"]
    if client == "go":
        program = built / "golden"
        if not program.exists():
            subprocess.run([system_tool("go"), "build", "-o", str(program), FOLDER / "golden.go"], check=True)
        return [str(program)]
    if client == "csharp":
        return with_mono((FOLDER / "Golden.cs").read_text(), built)
    if client == "r":
        return with_r(FOLDER / "golden.R")
    if client in ("fetch", "axios"):
        if client == "axios" and not AXIOS.exists():
            words = "axios is not installed: `make foreign` installs it where npm is"
            if os.environ.get("CI") == "true" and shutil.which("npm"):
                pytest.fail(words)
            pytest.skip(words)
        return [system_tool("node"), str(FOLDER / "node" / "golden.mjs"), client]
    if client == "perl":
        return [system_tool("perl"), str(FOLDER / "golden.pl")]
    if client == "ruby":
        return [optional_tool("ruby", "ruby"), str(FOLDER / "golden.rb")]
    if client == "php":
        return [optional_tool("php", "php-cli"), str(FOLDER / "golden.php")]
    if client == "curl":
        system_tool("curl")
    interpreter = foreign_python() if client == "requests" else sys.executable
    return [interpreter, str(FOLDER / "golden.py"), client]


def printed(client: str, built: Path, *arguments: str) -> list[str]:
    done = subprocess.run(
        [*command(client, built), *arguments], capture_output=True, text=True, timeout=300 + 20 * TIMES
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("client", NAMES)
def test_client_reads_every_golden_row_to_the_bit(
    address: str, built: Path, tmp_path: Path, client: str
) -> None:
    bundle = Bundle.load(CREDIT)
    rows = [golden.fields for golden in bundle.golden_rows()]
    if client == "curl":  # a process for each row
        rows = rows[:20]
    predict = Predictor(bundle).predict
    expected = [struct.pack(">d", predict(bundle.schema.encode(row))[0]).hex() for row in rows]
    (tmp_path / "rows").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    assert printed(client, built, address, "golden", str(tmp_path / "rows")) == expected
    SEEN.setdefault(client, {})["golden"] = EXACT


@pytest.mark.parametrize("client", NAMES)
def test_client_reads_that_its_body_is_too_large(address: str, built: Path, client: str) -> None:
    """20 MB to /predict, 40 MB to /predict/batch."""
    assert printed(client, built, address, "large", str(TIMES)) == ["413", "413"] * TIMES
    SEEN.setdefault(client, {})["large"] = READ


def test_table_of_clients_says_what_was_seen() -> None:
    for client in OPTIONAL:
        SEEN.setdefault(client, {"golden": EXACT, "large": READ})
    if any(len(SEEN.get(client, {})) < 2 for client in NAMES):
        pytest.skip("not every client was tried")
    rows = [(name, SEEN[client]["golden"], SEEN[client]["large"]) for client, name in NAMES.items()]
    hold("Clients", ("client", "golden rows", "a body over the limit"), rows)
