"""`python -m deploy.licences [FILE]`: docs/generated/licences.md, from the bill of materials of a set."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.packages import normal
from server.cli import CommandParser, run

FILE = Path("docs/generated/licences.md")
SETS = {
    "requirements/server.txt": "The API: both images",
    "requirements.txt": "The page: the image `ui`",
    "requirements/arrow.txt": "Arrow packed by lz4: images with `EXTRAS=arrow`",
    "requirements/grpc.txt": "gRPC: images with `EXTRAS=grpc`",
    "requirements/otel.txt": "Spans: images with `EXTRAS=otel`",
    "requirements/tools.txt": "Training, export, load tests and monitoring: in no image",
    "requirements/dev.txt": "Tests and checks: in no image",
}
#: Packages whose metadata names no licence; read from the licence file they carry.
READ = {
    "axe-playwright-python": "MIT",
    "kubernetes-validate": "Apache-2.0",
    "promql-parser": "MIT",
    "protobuf": "BSD-3-Clause",
    "skops": "MIT",
}
#: Words of the classifiers that name one licence.
SPDX = {"Apache Software License": "Apache-2.0", "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0"}
_OSI = "License :: OSI Approved"
_HEAD = """# Licences

Hotrow is under Apache-2.0. It uses the packages below, under their licences. `make licences` writes this page
from what is installed, `make sbom` a bill of materials (CycloneDX) of each image. The lock files have the
versions.
"""


def licences() -> dict[str, str]:
    """The licence of every package of this environment, as SPDX names it where it is told so."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--no-validate", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {normal(part["name"]): licence_of(part) for part in json.loads(done.stdout)["components"]}


def licence_of(component: Mapping[str, Any]) -> str:
    """An SPDX identifier or expression before words, and what was read for a package that says nothing."""
    stated = [entry.get("license", entry) for entry in component.get("licenses", [])]
    known = [entry[kind] for kind in ("id", "expression") for entry in stated if kind in entry]
    words = [entry["name"].removeprefix(_OSI).strip(" :") for entry in stated if "name" in entry]
    found = [READ.get(normal(component["name"]), ""), *known, *(SPDX.get(word, word) for word in words)]
    return next(filter(None, found), "not stated")


def page() -> str:
    """The document: a table for each set of requirements."""
    known = licences()
    return _HEAD + "".join(_table(file, title, known) for file, title in SETS.items())


def _table(file: str, title: str, known: Mapping[str, str]) -> str:
    rows = "".join(f"| {name} | {known[name]} |\n" for name in locked(file) if name in known)
    return f"\n## {title}\n\n`{file}`\n\n| package | licence |\n| --- | --- |\n{rows}"


def locked(file: str) -> Iterator[str]:
    """The names a lock file pins, in its order; not those of the files it includes."""
    seen = re.findall(r"^([A-Za-z0-9._-]+)==", Path(file).read_text(), re.MULTILINE)
    return iter(dict.fromkeys(map(normal, seen)))


def main(arguments: Sequence[str]) -> int:
    """Write the page."""
    parser = CommandParser(prog="python -m deploy.licences", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=FILE, help="what is written [%(default)s]")
    parser.parse_args(arguments).file.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run(main)
