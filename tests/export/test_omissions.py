"""Who gains by leaving inputs out is found, of any bundle, and a policy can end it."""

from pathlib import Path

import numpy as np
import pytest

from export.omissions import drawn, main, omissions
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.bundles import rewritten


def test_every_gain_is_one_and_a_policy_ends_them(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.load(three)
    rows = drawn(bundle, None, 150, seed=0)
    found, predictor = omissions(bundle, rows), Predictor(bundle)
    assert found.rows == 150
    assert 0 < len(found.gains) <= found.adverse < 150
    for gain in found.gains:
        row = bundle.schema.fields(rows[gain.row].tolist())
        assert predictor.predict(bundle.schema.encode(row))[1] == 1
        absent = {name: value for name, value in row.items() if name not in gain.left_out}
        as_null = row | dict.fromkeys(gain.left_out)
        for left_out in (absent, as_null):
            assert predictor.predict(bundle.schema.encode(left_out))[1] == 0
    policy = {"needed": {"always": ["contract", "owner"]}}
    needed = rewritten(three, tmp_path / "needed", policy=policy)
    assert omissions(Bundle.load(needed), rows).gains == ()
    assert main([str(three), "--at-most", "0.01"]) == 1
    assert "decided so for leaving something out" in capsys.readouterr().out
    assert main([str(needed), "--at-most", "0.01"]) == 0


def test_rows_of_a_file_are_tried(three: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "income,contract,owner\n900000,none,0\n900000,,0\n,none,1\n100,permanent,1\n"
    )
    rows = drawn(Bundle.load(three), tmp_path / "rows.csv", 250, seed=0)
    assert len(rows) == 3  # one lacks what the model requires
    assert np.isnan(rows).sum() == 1
