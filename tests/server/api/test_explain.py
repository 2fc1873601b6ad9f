"""`POST /explain`: why a row is scored as it is."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from loadtest.harness.instances import wait_until
from loadtest.harness.subject import Subject, has_ended, workers_of
from server.explain.explainer import Explainer
from server.model.bundle import SOURCE_FILE, Bundle, write_bundle
from tests.support import patient
from tests.support.bundles import ROW, THREE_FEATURES, sample_rows
from tests.support.servers import serving

if TYPE_CHECKING:
    import lightgbm

pytestmark = pytest.mark.whole

ROWS = sample_rows(THREE_FEATURES, 40)


@pytest.fixture(scope="module")
def subject(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server of the three-feature model."""
    with serving(three, tmp_path_factory.mktemp("explain")) as subject:
        yield subject


@pytest.fixture(scope="module")
def booster(three: Path) -> "lightgbm.Booster":
    import lightgbm

    return lightgbm.Booster(model_file=str(three / SOURCE_FILE))


def test_contributions_are_lightgbms_to_the_bit_and_sum_to_the_margin(
    subject: Subject, booster: "lightgbm.Booster"
) -> None:
    for row in ROWS:
        answer = patient.post(subject.url + "/explain", json=row).json()
        encoded = np.frombuffer(THREE_FEATURES.encode(row)).reshape(1, -1)
        expected = booster.predict(encoded, pred_contrib=True)[0].tolist()
        found = {reason["feature"]: reason["contribution"] for reason in answer["reasons"]}
        assert [*(found[name] for name in THREE_FEATURES.names), answer["base"]] == expected
        margin = booster.predict(encoded, raw_score=True)[0]
        assert math.fsum([*found.values(), answer["base"]]) == pytest.approx(margin, abs=1e-9)


def test_answer_is_that_of_predict_with_reasons_unfavourable_first(subject: Subject) -> None:
    for row in ROWS:
        answer = patient.post(subject.url + "/explain", json=row).json()
        predicted = patient.post(subject.url + "/predict", json=row).json()
        assert list(answer)[:4] == list(predicted)
        assert {k: answer[k] for k in ("probability", "decision", "model")} == {
            k: predicted[k] for k in ("probability", "decision", "model")
        }
        terms = [reason["contribution"] for reason in answer["reasons"]]
        assert terms == sorted(terms, reverse=True)
        principal = [reason["contribution"] for reason in answer["reasons"] if reason["principal"]]
        assert principal == [term for term in terms if term > 0][:4]


def test_reasons_are_worded_from_the_labels(subject: Subject) -> None:
    reasons = patient.post(subject.url + "/explain", json={"income": 2500.5, "owner": True}).json()["reasons"]
    words = {reason["feature"]: (reason["label"], reason["value"], reason["words"]) for reason in reasons}
    assert words["income"][:2] == ("Monthly income", 2500.5)
    assert words["income"][2].startswith("Monthly income: 2,500 EUR ")
    assert words["contract"][1] is None
    assert words["contract"][2].startswith("Contract: not given ")
    assert words["owner"][2].startswith("Owns a home: yes ")


def test_bad_row_is_refused_as_predict_refuses_it(subject: Subject) -> None:
    bad = ROW | {"income": -1}
    answers = [patient.post(subject.url + path, json=bad) for path in ("/explain", "/predict")]
    assert [a.status_code for a in answers] == [422, 422]
    assert answers[0].json() == answers[1].json()


def test_lightgbm_is_loaded_by_the_first_call_in_a_process_of_its_own(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path) as subject:
        server = psutil.Process(subject.pid)
        assert not workers_of(subject.pid)
        patient.post(subject.url + "/explain", json=ROW).raise_for_status()
        (helper,) = workers_of(subject.pid)
        assert "server.explain.contributions" in " ".join(helper.cmdline())
        assert "lib_lightgbm" not in " ".join(m.path for m in server.memory_maps())


def test_killed_helper_is_started_again(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path) as subject:
        first = patient.post(subject.url + "/explain", json=ROW).json()
        (helper,) = workers_of(subject.pid)
        helper.kill()
        second = patient.post(subject.url + "/explain", json=ROW)
        assert second.status_code == 200
        assert second.json()["reasons"] == first["reasons"]


def test_client_that_goes_while_a_killed_helper_is_replaced_leaves_no_answer_behind(three: Path) -> None:
    """The next call gets its own terms, not those that the client before it did not wait for."""
    rows = [THREE_FEATURES.encode(row) for row in ROWS[:2]]

    async def terms() -> list[list[list[float]]]:
        explainer = Explainer(Bundle.load(three))
        try:
            found = [await explainer.contributions(row) for row in rows]
            first = explainer._helper
            assert first is not None
            first.kill()
            await first.wait()
            gone = asyncio.create_task(explainer.contributions(rows[0]))
            while explainer._helper in (first, None):  # from then on it waits for the second's answer
                await asyncio.sleep(0)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            return [*found, await explainer.contributions(rows[1])]
        finally:
            await explainer.close()

    first, second, after = asyncio.run(terms())
    assert first != second == after


def test_helper_ends_with_the_server(three: Path, tmp_path: Path) -> None:
    with serving(three, tmp_path) as subject:
        patient.post(subject.url + "/explain", json=ROW).raise_for_status()
        (helper,) = workers_of(subject.pid)
    wait_until(lambda: has_ended(helper.pid), "the helper's end", 60.0)


def test_bundle_without_a_lightgbm_source_is_501(three: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(three)
    manifest = {k: v for k, v in bundle.manifest.items() if k not in ("files", "format", "source")}
    files = {name: (three / name).read_bytes() for name in bundle.manifest["files"] if name != SOURCE_FILE}
    write_bundle(tmp_path / "plain", manifest | {"source": {"family": "onnx"}}, files)
    with serving(tmp_path / "plain", tmp_path) as subject:
        answer = patient.post(subject.url + "/explain", json=ROW)
        document = patient.get(subject.url + "/openapi.json").json()
    assert answer.status_code == 501
    assert "onnx" in answer.json()["detail"]
    assert "/explain" not in document["paths"]


def test_wide_model_is_explained_through_the_pipe(wide: Path, tmp_path: Path) -> None:
    with serving(wide, tmp_path) as subject:
        answer = patient.post(subject.url + "/explain", json={"x1": 1.0}).json()
    assert len(answer["reasons"]) == 600
