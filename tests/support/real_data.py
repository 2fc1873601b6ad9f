"""The real Home Credit files, for tests that need them: never part of the project."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[3] / "shared" / "data" / "home-credit"
DATA = Path(os.environ.get("HOTROW_DATA") or _BESIDE)

needs_real_data = pytest.mark.skipif(
    not (DATA / "application_train.csv.zip").is_file() and not (DATA / "application_train.csv").is_file(),
    reason=f"no Home Credit files in {DATA}: name their folder in HOTROW_DATA",
)
