"""Our PSI against Evidently's on the same bins, in an environment of its own (`make foreign-evidently`)."""

import json
import os
import subprocess
from bisect import bisect_left
from pathlib import Path

import numpy as np
import pytest

from server.metrics.drift import psi
from server.model.distribution import Distribution

pytestmark = pytest.mark.whole

PYTHON = Path(".venv-evidently/bin/python")
#: Reads [reference, current] lists of bins from standard input, writes the PSI of each.
JUDGE = """
import json, sys
import pandas as pd
from evidently.legacy.calculations.stattests import psi_stat_test
from evidently.legacy.core import ColumnType
found = []
for reference, current in json.load(sys.stdin):
    series = pd.Series(reference), pd.Series(current)
    found.append(float(psi_stat_test.func(*series, ColumnType.Categorical, 0.1)[0]))
print(json.dumps(found))
"""


def test_psi_is_evidentlys_to_a_billionth() -> None:
    if not PYTHON.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("Evidently is not installed: run `make foreign-evidently`")
        pytest.skip("Evidently is not installed: `make foreign-evidently` installs it")
    cases, ours = [], []
    random = np.random.default_rng(1)
    for n, shift, spread in ((500, 0.0, 1.0), (1000, 0.3, 1.0), (5000, 1.0, 2.0), (300, 4.0, 0.1)):
        reference = random.normal(size=4000)
        current = random.normal(shift, spread, size=n)
        edges = tuple(np.quantile(reference, np.arange(1, 10) / 10).tolist())
        distribution = Distribution.from_values(reference, edges)
        bins = [[bisect_left(edges, value) for value in values.tolist()] for values in (reference, current)]
        cases.append(bins)
        ours.append(psi(distribution.counts(reference), distribution.counts(current)))
    environment = {**os.environ, "ITERATIVE_DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", JUDGE],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=120,
    )
    assert ours == pytest.approx(json.loads(done.stdout), abs=1e-9, rel=0)
    assert min(ours) < 0.05 < 1 < max(ours)
