"""Clients generated from the OpenAPI document: no warning, and every golden row to the bit."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server.model.bundle import Bundle
from tests.support.bundles import CREDIT
from tests.support.foreign_clients import foreign_python
from tests.support.servers import serving, system_tool

pytestmark = pytest.mark.whole

NODE = Path("tests/foreign/node").resolve()
#: Its generator knows no CSV and NDJSON: it is told that they are bytes.
CONFIG = """content_type_overrides:
  application/x-ndjson: application/octet-stream
  text/csv: application/octet-stream
post_hooks: []
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a server, and a folder with its document and the golden rows."""
    folder = tmp_path_factory.mktemp("generated")
    with serving(CREDIT, folder) as subject:
        (folder / "openapi.json").write_bytes(httpx.get(subject.url + "/openapi.json").content)
        rows = [row.fields for row in Bundle.load(CREDIT).golden_rows()]
        (folder / "rows.json").write_text(json.dumps(rows))
        yield subject.url, folder


def expected() -> list[float]:
    return [row.outputs[0] for row in Bundle.load(CREDIT).golden_rows()]


def done(command: list[str], folder: Path) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_openapi_python_client(served: tuple[str, Path]) -> None:
    url, folder = served
    generator = Path(foreign_python()).with_name("openapi-python-client")
    if not generator.exists():
        pytest.skip("openapi-python-client is not installed: `make foreign` installs it")
    (folder / "config.yml").write_text(CONFIG)
    made = ("--path", "openapi.json", "--output-path", "generated_client", "--meta", "none")
    said = done([str(generator), "generate", *made, "--config", "config.yml", "--fail-on-warning"], folder)
    assert "arning" not in said
    script = Path("tests/foreign/generated_golden.py").resolve()
    found = json.loads(done([foreign_python(), str(script), url, str(folder)], folder))
    assert found["alone"] == found["batch"] == expected()
    assert (found["reasons"] > 0, found["refused"], found["outputs"] > 1) == (True, 422, True)


def test_openapi_typescript(served: tuple[str, Path]) -> None:
    url, folder = served
    node = system_tool("node")
    if not (NODE / "node_modules/openapi-typescript").exists():
        pytest.skip("openapi-typescript is not installed: `make foreign` installs it where npm is")
    (folder / "node_modules").symlink_to(NODE / "node_modules")
    shutil.copy(NODE / "generated.mts", folder)
    tool = "node_modules/openapi-typescript/bin/cli.js"
    said = done([node, tool, "openapi.json", "--output", "api.d.ts"], folder)
    assert "⚠" not in said
    strict = ("--strict", "--target", "es2022", "--module", "nodenext", "--types", "node")
    done([node, "node_modules/typescript/bin/tsc", *strict, "generated.mts"], folder)
    found = json.loads(done([node, "generated.mjs", url, "rows.json"], folder))
    assert found["alone"] == found["batch"] == expected()
    assert (found["status"], found["outputs"] > 1) == (422, True)
