"""Other people's clients against our server, and every block of docs/clients.md as printed."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from server.model.bundle import Bundle
from tests.support.bundles import CREDIT
from tests.support.foreign_clients import foreign_python, with_mono, with_r
from tests.support.servers import serving, system_tool

pytestmark = pytest.mark.whole

BLOCKS = re.findall(r"^## (.+?)\n.*?```(\w+)\n(.*?)```", Path("docs/clients.md").read_text(), re.M | re.S)
PRINTED = "127.0.0.1:8000"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a server of the shipped model."""
    with serving(CREDIT, tmp_path_factory.mktemp("clients")) as subject:
        yield subject.url.removeprefix("http://")


#: What runs a block that is saved under this name.
RUN = {"java": ("java", "Client.java"), "javascript": ("node", "client.mjs"), "go": ("go run", "client.go")}
NOT_RUN = "not run by the tests"


def command(language: str, code: str, folder: Path) -> list[str]:
    """What runs a block as printed; skips without it."""
    if language == "python":
        foreign = "triton" in code or "kserve" in code
        return [foreign_python() if foreign else sys.executable, "-c", code]
    if language == "sh":
        return ["sh", "-euc", code]
    if language == "csharp":
        return with_mono(code, folder)
    if language == "r":
        (folder / "client.R").write_text(code)
        return with_r(folder / "client.R")
    words, name = RUN[language]
    tool, *options = words.split()
    (folder / name).write_text(code)
    return [system_tool(tool), *options, str(folder / name)]


@pytest.mark.parametrize(
    ("title", "language", "code"),
    [block for block in BLOCKS if NOT_RUN not in block[0]],
    ids=[block[0] for block in BLOCKS if NOT_RUN not in block[0]],
)
def test_block_of_the_page_runs_as_printed(
    address: str, tmp_path: Path, title: str, language: str, code: str
) -> None:
    assert PRINTED in code
    run = command(language, code.replace(PRINTED, address), tmp_path)
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "prob" in done.stdout or "0." in done.stdout


def test_tritonclient_reads_every_golden_row_to_the_bit(address: str, tmp_path: Path) -> None:
    bundle = Bundle.load(CREDIT)
    golden = list(bundle.golden_rows())
    codes = np.array([np.frombuffer(bundle.schema.encode(row.fields)) for row in golden])
    codes.tofile(tmp_path / "codes")
    script = ["tests/foreign/tritonclient_golden.py", address, bundle.name, str(tmp_path / "codes")]
    done = subprocess.run([foreign_python(), *script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = [row.margins[0].hex() for row in golden]
    assert found["json"] == expected
    assert found["binary"] == expected
    assert found["alone"] == expected[:20]
    assert [found[name] for name in ("live", "ready", "model_ready", "version_ready", "other_ready")] == [
        True,
        True,
        True,
        True,
        False,
    ]
    assert (found["server"], found["config"], found["statistics"]) == ("hotrow", bundle.name, bundle.name)
    assert found["index"][0]["name"] == bundle.name
    assert found["errors"] == ["404", "400", "400", "400", "400"]
