"""`python -m deploy.packages [ENVIRONMENT]`: what is installed there, by size."""

import re
import sysconfig
from collections.abc import Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import NamedTuple

from server.cli import CommandParser, run
from server.errors import HotrowError


class NoEnvironment(HotrowError):
    """A folder that holds no installed packages."""


class Package(NamedTuple):
    """An installed package; `size_bytes` counts its files, the compiled ones too."""

    name: str
    version: str
    size_bytes: int


def packages(environment: Path | None = None) -> list[Package]:
    """The packages of an environment, the largest first; by default of the one that runs this.

    Raises `NoEnvironment` if there are none.
    """
    site = _site(environment)
    found = [_package(distribution) for distribution in distributions(path=[site])]
    if not found:
        raise NoEnvironment(f"expected an environment with packages, got {environment}: name its folder")
    return sorted(found, key=lambda package: (-package.size_bytes, package.name))


def normal(name: str) -> str:
    """A name as the lock files write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _package(distribution: Distribution) -> Package:
    return Package(normal(distribution.metadata["Name"]), distribution.version, _size(distribution))


def _site(environment: Path | None) -> str:
    if environment is None:
        return sysconfig.get_path("purelib")
    return next((str(path) for path in environment.glob("lib/python3*/site-packages")), str(environment))


def _size(distribution: Distribution) -> int:
    files = {Path(str(distribution.locate_file(file))) for file in distribution.files or ()}
    # uv compiles without listing what it compiled.
    for file in [file for file in files if file.suffix == ".py"]:
        files.update(file.parent.glob(f"__pycache__/{file.stem}.*.pyc"))
    return sum(file.stat().st_size for file in files if file.is_file())


def main(arguments: Sequence[str]) -> int:
    """Print the table."""
    parser = CommandParser(prog="python -m deploy.packages", description=__doc__)
    parser.add_argument(
        "environment", nargs="?", type=Path, help="folder of an environment [the running one]"
    )
    found = packages(parser.parse_args(arguments).environment)
    for package in found:
        print(f"{package.size_bytes / 1e6:8.1f} MB  {package.name} {package.version}")
    print(f"{sum(package.size_bytes for package in found) / 1e6:8.1f} MB  in {len(found)} packages")
    return 0


if __name__ == "__main__":
    run(main)
