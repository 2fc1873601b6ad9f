"""Bundles that are trained once for a state of the code and kept: most tests need one, few need LightGBM."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

KEPT = Path("tests/output/kept")
#: What a bundle follows from: a change in any of these makes it anew.
_SOURCES = ("export/**/*.py", "server/model/*.py", "tests/support/bundles.py", "requirements/*.txt")


def kept(make: Callable[[Path], Any], folder: Path) -> Path:
    """`folder` as `make(folder)` writes it, copied from an earlier run of the same code if there was one."""
    there = KEPT / f"{make.__name__}-{_state()}"
    if not there.exists():
        make(folder)
        KEPT.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=KEPT, prefix="."))  # for this one of several processes
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        try:
            partial.rename(there)
        except OSError:  # another run was first
            shutil.rmtree(partial)
    else:
        shutil.copytree(there, folder)
    return folder


@cache
def _state() -> str:
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for file in sorted(Path().glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
