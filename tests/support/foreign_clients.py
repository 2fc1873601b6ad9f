"""Other people's clients: their environment (`make foreign`), and languages that may be there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOREIGN = Path(".venv-foreign/bin/python")


def foreign_python() -> str:
    """The interpreter that has tritonclient and kserve; skips, or fails in CI, without one."""
    if not FOREIGN.exists():
        words = "no environment of foreign clients: run `make foreign`"
        if os.environ.get("CI") == "true":
            pytest.fail(words)
        pytest.skip(words)
    return str(FOREIGN.absolute())


def optional_tool(name: str, package: str) -> str:
    """The path of a tool too heavy for `make system`; without it the test skips, in CI as well."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: Debian's {package} brings it")
    return found


def with_r(script: Path) -> list[str]:
    """What runs a script of R with jsonlite and curl; skips without them."""
    run = optional_tool("Rscript", "r-base-core")
    have = 'quit(status = !all(sapply(c("jsonlite", "curl"), requireNamespace, quietly = TRUE)))'
    if subprocess.run([run, "-e", have], capture_output=True, timeout=60).returncode:
        pytest.skip("R has no jsonlite or curl: Debian's r-cran-jsonlite and r-cran-curl bring them")
    return [run, str(script)]


def with_mono(code: str, folder: Path) -> list[str]:
    """What runs a program of C#, which is built in a folder; skips without Mono."""
    source, program = folder / "client.cs", folder / "client.exe"
    source.write_text(code)
    build = [optional_tool("mcs", "mono-mcs"), "-r:System.Net.Http.dll", f"-out:{program}", str(source)]
    if not program.exists():
        subprocess.run(build, check=True, timeout=60)
    return [optional_tool("mono", "mono-runtime"), str(program)]
