"""What `performance --keep` leaves beside the log, on the server's `/metrics` and in Operations."""

import os
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import httpx
import msgspec
import pytest

from export.evaluation.cost import Costs
from export.evaluation.evaluate import evaluate
from monitoring.__main__ import main
from server.metrics.measured import MAX_BYTES, MAX_MODELS, NAME, MeasuredFile, keep_measured, read_measured
from server.model.bundle import Bundle
from tests.monitoring.test_outcomes import drawn, scores, write_log, write_outcomes
from tests.support.bundles import rewritten
from tests.support.monitored import monitored_bundle
from tests.support.pages import look, page_client
from tests.support.servers import serving
from ui.tabs.outcomes import outcomes_html


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("measured")
    plain = monitored_bundle(folder / "three")
    held = evaluate(drawn(scores(4000)), scores(4000), 0.4, Costs(5.0, 1.0))
    return Bundle.load(rewritten(plain.directory, folder / "evaluated", evaluation={"held_out": held}))


def measure(bundle: Bundle, *words: str | Path) -> int:
    with redirect_stdout(StringIO()):
        return main(["performance", *map(str, words), "--model", str(bundle.directory), "--json"])


def log_in(folder: Path, bundle: Bundle, worse: bool = False) -> Path:
    """A log with outcomes beside it, which are half as many again as the scores promise or as many."""
    score = scores()
    folder.mkdir(exist_ok=True)
    write_log(folder / "predictions-1-0.jsonl", bundle, score)
    outcome = drawn((1.5 * score).clip(max=1) if worse else score)
    rows = [(i, int(value)) for i, value in enumerate(outcome)]
    file = write_outcomes(folder.parent / "outcomes.csv", "row_id,outcome", rows)
    with redirect_stdout(StringIO()):
        main(["outcomes", "add", str(folder), str(file), "--model", str(bundle.directory)])
    return folder


def gauges(page: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in page.splitlines() if line.startswith("hotrow_outcome"))
    return {name: float(value) for name, _, value in lines}


def test_kept_figures_are_on_the_metrics_of_the_server(bundle: Bundle, tmp_path: Path) -> None:
    """Those of the file for node_exporter, also once measured anew; no command takes it for a log."""
    folder = tmp_path / "logs"
    with serving(bundle.directory, tmp_path) as subject:
        assert not gauges(httpx.get(subject.url + "/metrics").text)
        textfile = tmp_path / "outcomes.prom"
        for worse in (False, True):
            code = measure(bundle, log_in(folder, bundle, worse), "--keep", "--textfile", textfile)
            told = gauges(httpx.get(subject.url + "/metrics").text)
            assert told == gauges(textfile.read_text())
            assert told[f'hotrow_outcome_worse{{model="{bundle.label}"}}'] == worse == (code == 3)
            auc = [
                told[f'hotrow_outcome_auc{end}{{model="{bundle.label}"}}'] for end in ("_low", "", "_high")
            ]
            assert auc == sorted(auc)
    with redirect_stdout(StringIO()) as out:
        main(["verify-log", str(folder), "--json"])
    assert NAME not in out.getvalue()
    (kept,) = read_measured(folder / NAME)
    assert kept.promised["auc"].low is not None
    assert (kept.model, kept.verdict) == (bundle.label, "worse")


HOSTILE = {
    "no JSON": b"AUC 0.9",
    "another version": b'{"version":2,"models":[]}',
    "lying types": b'{"version":1,"models":[{"model":7}]}',
    "huge": b" " * (MAX_BYTES + 1),
    "deep": b"[" * 50_000,
    "half a letter": b'{"version":1,"models":[],"\xff":1}',
}


def test_files_that_are_none_are_left_out_with_one_sentence(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    measure(bundle, log_in(tmp_path / "logs", bundle), "--keep")
    path = tmp_path / "logs" / NAME
    good = path.read_bytes()
    (kept,) = read_measured(path)
    file = MeasuredFile(path.parent)
    assert file.models() == [kept]
    one = good.partition(b'"models":[')[2].removesuffix(b"]}")
    hostile = HOSTILE | {
        "no finite number": b'{"version":1,"models":[' + one.replace(b'"value":', b'"value":1e999') + b"]}",
        "a model twice": b'{"version":1,"models":[' + one + b"," + one + b"]}",
        "another figure": good.replace(b'"auc"', b'"\\u0000"'),
    }
    for name, content in hostile.items():
        path.write_bytes(content)
        caplog.clear()
        assert not file.models(), name
        assert not file.models(), name
        assert len(caplog.messages) == 1, name
        assert caplog.messages[0].startswith(f"{path} is left out: expected what"), name
    path.unlink()
    os.mkfifo(path)
    assert not file.models()  # and does not wait for a writer
    path.unlink()
    assert not file.models()
    path.write_bytes(good)
    assert file.models() == [kept]


def test_last_measured_models_are_kept(bundle: Bundle, tmp_path: Path) -> None:
    measure(bundle, log_in(tmp_path / "logs", bundle), "--keep")
    (kept,) = read_measured(tmp_path / "logs" / NAME)
    for number in range(MAX_MODELS + 3):
        keep_measured(tmp_path / "logs", msgspec.structs.replace(kept, model=f"m@{number}"))
    found = [one.model for one in read_measured(tmp_path / "logs" / NAME)]
    assert found[-1] == f"m@{MAX_MODELS + 2}"
    assert len(found) == MAX_MODELS


def test_operations_show_figures_beside_what_training_promised(bundle: Bundle, tmp_path: Path) -> None:
    assert "python -m monitoring performance LOG --keep" in outcomes_html(None)
    measure(bundle, log_in(tmp_path / "logs", bundle, worse=True), "--keep")
    with page_client(bundle.directory, tmp_path / "logs") as client:
        shown = look(client)
    assert "Worse than the model promised" in shown
    assert "Moins bon que ce que le modèle promettait" in shown
    assert f"{bundle.label}: of 1,650 decisions, 1,500 have an outcome" in shown
    (kept,) = read_measured(tmp_path / "logs" / NAME)
    for figure in (kept.figures["auc"], kept.promised["auc"], kept.figures["expected_auc"]):
        assert (
            f"{figure.value:.3f} ({figure.low:.3f}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{figure.high:.3f})"
            in shown
        )
