"""docs/your-model.md: every block of it is run, in its order, on a made-up table like German credit's."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]  # ships no types
import numpy as np
import orjson
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import pytest

from server.model.bundle import Bundle
from server.model.predictor import Predictor
from tests.support.pages import page_client
from tests.support.servers import exchange, post, serving

pytestmark = pytest.mark.whole
DOCUMENT = Path("docs/your-model.md").read_text()
ROOT = Path.cwd()
BLOCKS: list[tuple[str, str]] = re.findall(r"```(\w+)\n(.*?)```", DOCUMENT, re.DOTALL)


def german(count: int = 500) -> pd.DataFrame:
    """Made-up applicants in the columns of Statlog (German Credit) that the document names."""
    random = np.random.default_rng(4)
    choose = random.choice
    frame = pd.DataFrame(
        {
            "status_of_existing_checking_account": choose(["... < 0 DM", "0 <= ... < 200 DM", "none"], count),
            "duration_in_month": random.integers(4, 72, count),
            "credit_history": choose(["existing credits paid back duly till now", "delay, once"], count),
            "purpose": choose(["furniture", "car (new)", "radio/television"], count),
            "credit_amount": random.lognormal(7.8, 0.7, count).round(0),
            "installment_rate_in_percentage_of_disposable_income": random.integers(1, 5, count),
            "personal_status_and_sex": choose(["male : single", "female : married"], count),
            "age_in_years": random.integers(19, 75, count),
            "housing": choose(["own", "rent", "for free"], count),
            "foreign_worker": choose(["yes", "no"], count),
        }
    )
    odds = frame.duration_in_month / 18 + 1.5 * (frame.status_of_existing_checking_account == "... < 0 DM")
    bad = odds + random.logistic(size=count) > 3
    return frame.assign(creditability=np.where(bad, "bad", "good"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after every command of the document but those that serve."""
    folder = tmp_path_factory.mktemp("yours")
    german().to_csv(folder / "german.csv", index=False)
    for language, block in BLOCKS:
        if language == "python":
            script = folder / block.split("\n")[0].removeprefix("# ")
            script.write_text(block)
            run([sys.executable, script.name], folder)
        elif language == "yaml":
            describe(folder / "german.yaml", block)
        else:
            for line in block.strip().split("\n"):
                quick = line.replace("--trials 20", "--trials 2")  # the same steps in less time
                if line.startswith("python") and not is_served(line):
                    run([sys.executable, *shlex.split(quick.partition(" > ")[0])[1:]], folder, line)
    return folder


def is_served(line: str) -> bool:
    return line.startswith(("python -m server --model", "python -m ui --model"))


def describe(path: Path, block: str) -> None:
    """As the document says: each member has one line, and costs take the threshold's place."""
    changed = [line for line in block.split("\n") if line and not line.startswith("#")]
    members = {line.partition(":")[0] for line in changed} | {"threshold"}
    kept = [line for line in path.read_text().split("\n") if line.partition(":")[0] not in members]
    path.write_text("\n".join([*changed, *kept]))


def run(command: Sequence[str], folder: Path, line: str = "") -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, (command, done.stderr.decode()[-2000:])
    if " > " in line:
        (folder / line.partition(" > ")[2]).write_bytes(done.stdout)


def test_german_credit_takes_two_commands_to_a_page_that_decides(folder: Path, tmp_path: Path) -> None:
    (commands,) = [block.strip().split("\n") for _, block in BLOCKS if "python -m train" in block]
    assert len(commands) == 2
    bundle = Bundle.load(folder / "models/german")
    assert bundle.outcomes == ("grant", "decline")
    assert bundle.manifest["evaluation"]["held_out"]["auc"] > 0.6
    with page_client(bundle.directory, tmp_path) as client:
        text = client.get("/").text
    assert "creditability bad" in text
    assert (folder / "models/german.html").exists()


def test_the_pipeline_answers_over_http_as_it_does_in_python(folder: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(folder / "models/pipeline")
    assert bundle.exact
    assert (bundle.outcomes, bundle.decision.threshold) == (("grant", "decline"), 1 / 6)
    assert bundle.manifest["evaluation"]["held_out"]["rows"] == 150
    (line,) = [block for _, block in BLOCKS if block.startswith("curl")]
    row = orjson.loads(shlex.split(line)[2])
    model = joblib.load(folder / "german.joblib")
    with serving(bundle.directory, tmp_path) as server:
        (answer,) = exchange(server.url, post("/predict", orjson.dumps(row)))
    found: dict[str, Any] = orjson.loads(answer.body)
    assert found["probability"] == model.predict_proba(pd.DataFrame([row]))[0, 1]
    assert found["decision"] == ("decline" if found["probability"] >= 1 / 6 else "grant")


def test_the_regression_has_a_page_and_errors(folder: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(folder / "models/amount")
    assert bundle.manifest["evaluation"]["values"]["rows"] == 500
    assert Predictor(bundle).check_golden_rows() >= 200
    with page_client(bundle.directory, tmp_path) as client:
        assert client.get("/").status_code == 200
