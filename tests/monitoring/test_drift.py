"""Drift: what is chance, what is small, what is a shift; streaming and offline."""

import asyncio
import shutil
import struct
import time
import zipfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2  # type: ignore[import-untyped]  # it ships none

from export.assemble import write_conversion
from export.lightgbm.model import convert_lightgbm
from loadtest.harness.scrape import total
from monitoring.drift.comparison import drift_of_files
from server.errors import BundleError
from server.log.mask import Masking
from server.log.prediction_log import PredictionLog
from server.log.ring import NO_MARGIN
from server.metrics.column_shifts import missing_shift
from server.metrics.drift import (
    FALSE_ALARM_RATE,
    MIN_ROWS,
    chance_psi,
    independent_share,
    psi,
    reference_counts,
    shift,
)
from server.metrics.drift_gauges import drift_families
from server.metrics.layout import SlotLayout
from server.metrics.row_counter import RowCounter
from server.metrics.shared import SharedMetrics, WorkerMetrics
from server.model.bundle import Bundle
from server.model.distribution import Distribution, Reference
from server.model.predictor import Predictor
from server.model.reference import read_reference, reference_of_rows
from server.model.schema import Feature, Schema
from server.settings import Settings
from tests.support.bundles import CREDIT, THREE_FEATURES, rewritten, sample_rows, train
from tests.support.commands import run_inside as run
from tests.support.monitored import house_bundle, houses, monitored_bundle, send_all, wait_for_rows
from tests.support.real_data import DATA, needs_real_data
from tests.support.servers import exchange, post, serving
from train.tables.data import APPLICATIONS
from train.tables.data import load as load_tables
from train.tables.features import SCHEMA


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored_bundle(tmp_path_factory.mktemp("drift") / "three")


@pytest.mark.parametrize("bins", [2, 3, 5, 10, 20])
@pytest.mark.parametrize("tests", [1, 30, 1200])
def test_chance_is_the_chi_square_quantile_or_a_little_more(bins: int, tests: int) -> None:
    exact = (1 / 1000 + 1 / 5000) * chi2.ppf(1 - FALSE_ALARM_RATE / tests, bins - 1)
    assert exact <= chance_psi(5000, 1000, bins, tests) <= 1.2 * exact


def test_two_samples_of_one_distribution_stay_under_what_chance_gives() -> None:
    """At one false alarm in 1,000 tests 900 of them have six with a probability of 4e-4."""
    random = np.random.default_rng(5)
    verdicts = []
    for n in (200, 1000, 5000):
        for _ in range(300):
            p, q = random.multinomial(5000, [0.1] * 10), random.multinomial(n, [0.1] * 10)
            verdicts.append(shift(p, q, tests=1).verdict)
    assert verdicts.count("chance") > 900 - 6
    assert set(verdicts) <= {"chance", "small"}


@pytest.mark.parametrize("shares", [[0.1] * 10, [0.5, 0.3, 0.1, 0.05, 0.03, 0.01, 0.005, 0.003, 0.002]])
def test_few_rows_raise_no_alarm_by_empty_bins_and_many_are_judged(shares: list[float]) -> None:
    random = np.random.default_rng(6)
    reference = np.rint(np.array(shares) * 100_000)
    for n in (1, 5, 50, MIN_ROWS - 1):
        drawn = random.multinomial(n, shares, size=200)
        assert {shift(reference, q, tests=30).verdict for q in drawn} == {"few"}
    for n in (MIN_ROWS, 2 * MIN_ROWS):
        drawn = random.multinomial(n, shares, size=2000)
        assert not any(shift(reference, q, tests=30).drifted for q in drawn)
        assert shift(reference, np.eye(len(shares))[-1] * n, tests=30).drifted


def test_one_request_sent_again_and_again_is_one_observation(bundle: Bundle) -> None:
    rows = sample_rows(THREE_FEATURES, 3, seed=5) * 400
    figures = _streamed(bundle, rows)
    assert not [name for name, _ in figures if "psi" in name]
    assert figures[("hotrow_drift_independent_rows", "")] == pytest.approx(3, abs=0.1)
    assert not _alarms(figures)


def test_too_few_rows_have_a_number_and_no_psi(bundle: Bundle) -> None:
    figures = _streamed(bundle, sample_rows(THREE_FEATURES, MIN_ROWS - 1, seed=5))
    assert figures[("hotrow_drift_rows", "")] == MIN_ROWS - 1
    assert {name for name, feature in figures if feature} == {
        "hotrow_feature_missing_ratio",
        "hotrow_feature_unseen_ratio",
    }
    assert ("hotrow_score_psi", "") not in figures


def test_rows_repeat_where_few_are_possible(bundle: Bundle) -> None:
    reference = read_reference(bundle)
    assert reference is not None
    flags = Reference(dict.fromkeys("abc", reference.features["owner"]), reference.score)
    assert independent_share(flags, 10_000, 8) == 1.0
    assert independent_share(reference, 10_000, 8) == 8 / 10_000
    assert independent_share(reference, 10_000, 9_000) == independent_share(reference, 1, 1) == 1.0


def test_psi_is_the_textbook_figure() -> None:
    # 0.8/0.2 against 0.5/0.5: (0.3) ln(0.8/0.5) + (-0.3) ln(0.2/0.5)
    expected = 0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5)
    assert psi([50, 50], [80, 20]) == pytest.approx(expected, abs=1e-15)
    assert psi([0, 0], [1, 2]) == psi([1, 2], [0, 0]) == 0.0


def test_verdicts_go_from_chance_to_large() -> None:
    even = np.full(4, 25_000)
    assert shift(even, even, 1).verdict == "chance"
    assert shift(even, np.array([28, 24, 24, 24]) * 1000, 1).verdict == "small"
    assert shift(even, np.array([40, 20, 20, 20]) * 1000, 1).verdict == "moderate"
    assert shift(even, np.array([70, 10, 10, 10]) * 1000, 1).verdict == "large"


def test_a_missing_rate_that_doubles_is_drift() -> None:
    distribution = Distribution(4000, 0.2, (0.5,), (0.5, 0.5))
    assert missing_shift(distribution, 1200, 800, 10).drifted
    assert not missing_shift(distribution, 1600, 400, 10).drifted


def test_counts_behind_the_reference_are_whole_again() -> None:
    values = np.random.default_rng(0).normal(size=1237)
    values[:119] = np.nan
    distribution = Distribution.from_values(values, (-0.5, 0.0, 0.5))
    assert reference_counts(distribution).tolist() == distribution.counts(values).tolist()


def _line(bundle: Bundle, fields: dict[str, Any], probability: float) -> bytes:
    return orjson.dumps({"model": bundle.label, "input": fields, "probability": probability})


def _lines(bundle: Bundle, rows: list[dict[str, Any]]) -> list[bytes]:
    predictor = Predictor(bundle)
    return [_line(bundle, row, predictor.predict(bundle.schema.encode(row))[0]) for row in rows]


def _streamed(
    bundle: Bundle, rows: list[dict[str, Any]], window: int = 10_000
) -> dict[tuple[str, str], float]:
    return _streamed_lines(bundle, _lines(bundle, rows), window)


def _streamed_lines(bundle: Bundle, lines: list[bytes], window: int = 10_000) -> dict[tuple[str, str], float]:
    """The drift figures of two workers that share these lines of their logs."""
    reference = read_reference(bundle)
    assert reference is not None
    shared = SharedMetrics(SlotLayout([(bundle.label, bundle.outcomes)], {bundle.label: reference}), 2)
    for worker in range(2):
        counter = _counter(bundle, shared, worker, window)
        counter.count(_scored_row(bundle, line) for line in lines[worker::2])
    families = drift_families(shared.layout.drift, shared.totals())
    return {(s.name, s.labels.get("feature", "")): s.value for f in families for s in f.samples}


def _counter(bundle: Bundle, shared: SharedMetrics, worker: int, window: int) -> RowCounter:
    """What the observer counts one worker's rows with."""
    names, hidden = bundle.schema.names, Masking().hidden(bundle)
    plan = WorkerMetrics(shared, worker).drift_plan(bundle.label, names, hidden, window)
    assert plan is not None
    return RowCounter(orjson.loads(orjson.dumps(plan)), shared.region(worker))


def _scored_row(bundle: Bundle, line: bytes) -> bytes:
    """What a worker hands over of the row of a line: its score, and the encoded row."""
    record = orjson.loads(line)
    return struct.pack("d", record["probability"]) + bundle.schema.encode(record["input"])


def _alarms(figures: dict[tuple[str, str], float]) -> list[str]:
    names = [f"hotrow_{name}_psi" for name in ("feature", "feature_missing", "feature_unseen", "score")]
    return [
        f"{name} {feature}"
        for (name, feature), value in figures.items()
        if name in names and value > figures[(f"{name}_limit", feature)]
    ]


@pytest.mark.parametrize("n", [500, 2000])
def test_streaming_raises_no_alarm_on_rows_like_those_of_training(bundle: Bundle, n: int) -> None:
    alarms = [_alarms(_streamed(bundle, sample_rows(THREE_FEATURES, n, seed=seed))) for seed in range(20, 30)]
    assert not any(alarms)


def test_streaming_finds_a_shift_of_one_standard_deviation_in_500_rows(bundle: Bundle) -> None:
    incomes = [row["income"] for row in sample_rows(THREE_FEATURES, 4000, seed=7)]
    rows = [
        row | {"income": min(1e6, row["income"] + float(np.std(incomes)))}
        for row in sample_rows(THREE_FEATURES, 500, 3)
    ]
    assert "hotrow_feature_psi income" in _alarms(_streamed(bundle, rows))


def test_streaming_finds_a_field_that_goes_missing(bundle: Bundle) -> None:
    rows = [{"income": row["income"]} for row in sample_rows(THREE_FEATURES, 500, 3)]
    assert "hotrow_feature_missing_psi contract" in _alarms(_streamed(bundle, rows))


@pytest.fixture(scope="module")
def real_clients(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The competition's test clients as requests."""
    folder = tmp_path_factory.mktemp("clients")
    unlabelled = pl.read_csv(zipfile.ZipFile(DATA / "application_test.csv.zip").read("application_test.csv"))
    unlabelled.with_columns(TARGET=pl.lit(0)).write_csv(folder / APPLICATIONS)
    for file in ("bureau.csv.zip", "credit_card_balance.csv.zip"):
        shutil.copy(DATA / file, folder / file)
    clients, _ = load_tables(folder)
    return [SCHEMA.fields(row) for row in clients.features.tolist()]


@needs_real_data
def test_real_test_clients_raise_no_alarm_in_95_of_100_samples(real_clients: list[dict[str, Any]]) -> None:
    """The competition's test clients differ from its training clients, within what is tolerated."""
    bundle = Bundle.load(CREDIT)
    lines = _lines(bundle, real_clients)
    random = np.random.default_rng(0)
    quiet = 0
    for n in np.linspace(1000, 5000, 100).astype(int):
        sample = random.choice(len(lines), n, replace=False).tolist()
        quiet += not _alarms(_streamed_lines(bundle, [lines[i] for i in sample]))
    assert quiet >= 95


@needs_real_data
def test_a_shift_of_one_deviation_in_any_number_of_real_clients_is_found_in_500(
    real_clients: list[dict[str, Any]],
) -> None:
    """Of a feature that few clients have, in 500 of those: fewer than 200 values are not judged."""
    bundle = Bundle.load(CREDIT)
    random = np.random.default_rng(1)
    for name, maximum in [(f.name, f.maximum) for f in bundle.schema.features if f.kind == "number"]:
        having = [row for row in real_clients if row.get(name) is not None]
        deviation = float(np.std([row[name] for row in having]))
        enough = 500 * len(having) / len(real_clients) > MIN_ROWS
        pool = real_clients if enough else having
        rows = [pool[i] for i in random.choice(len(pool), 500, replace=False)]
        shifted = [
            row if row.get(name) is None else row | {name: min(row[name] + deviation, maximum or np.inf)}
            for row in rows
        ]
        assert f"hotrow_feature_psi {name}" in _alarms(_streamed(bundle, shifted)), name


def test_streaming_forgets_rows_before_the_last_two_windows(bundle: Bundle) -> None:
    shifted = [row | {"income": 1e6} for row in sample_rows(THREE_FEATURES, 2000, 3)]
    usual = sample_rows(THREE_FEATURES, 4000, seed=8)
    assert _alarms(_streamed(bundle, shifted + usual[:1000], window=1000))
    figures = _streamed(bundle, shifted + usual, window=1000)
    assert not [alarm for alarm in _alarms(figures) if "income" in alarm]
    assert figures[("hotrow_drift_rows", "")] <= 4000


def test_streaming_and_offline_agree_on_the_same_rows(bundle: Bundle, tmp_path: Path) -> None:
    rows = sample_rows(THREE_FEATURES, 400, seed=11)
    with serving(bundle.directory, tmp_path) as subject:
        send_all(subject.url, rows)
        samples = wait_for_rows(subject.url, 400)
    found = drift_of_files([tmp_path / "logs"], bundle)
    for column in found.columns:
        name = "hotrow_score_psi" if column.name == "score" else "hotrow_feature_psi"
        labels = {} if column.name == "score" else {"feature": column.name}
        assert total(samples, name, **labels) == pytest.approx(column.values.psi, abs=1e-12)


@pytest.mark.parametrize("window", [7, 64, 10_000])
def test_rows_are_counted_alike_alone_and_many_at_once(bundle: Bundle, window: int) -> None:
    """Against plain Python: the definition of a bin, of missing, and of what is beyond the range."""
    reference = read_reference(bundle)
    assert reference is not None
    wide = Distribution(1000, 0.0, tuple(code + 0.5 for code in range(39)), (1 / 40,) * 40)
    reference = Reference({**reference.features, "contract": wide}, reference.score)
    random = np.random.default_rng(3)
    rows = np.column_stack(
        [
            random.random(500),
            np.exp(random.normal(10, 2, 500)),
            random.integers(0, 2, 500),
            random.integers(0, 40, 500),
        ]
    )
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[:, 0] = np.nan_to_num(rows[:, 0])
    names = tuple(reference.features)
    counts = []
    for pieces in ([row.tobytes() for row in rows], [rows[:333].tobytes(), rows[333:].tobytes()]):
        shared = SharedMetrics(SlotLayout([("m@1", ("",))], {"m@1": reference}), 1)
        plan = WorkerMetrics(shared, 0).drift_plan("m@1", names, (), window)
        assert plan is not None
        counter = RowCounter(orjson.loads(orjson.dumps(plan)), shared.region(0))
        for piece in pieces:
            counter.count([piece])
        slots = shared.layout.drift["m@1"]
        counts.append(slots.both_windows(shared.totals()))
        kept = len(rows) % window if len(rows) < window else window + len(rows) % window
        assert counts[-1][0] == kept
        for name, column in zip(("", *names), rows[-kept:].T, strict=True):
            at, values = slots.columns[name], column[~np.isnan(column)].tolist()
            bins = Counter(bisect_left(at.distribution.edges, value) for value in values)
            assert counts[-1][at.first : at.missing].tolist() == [
                bins[i] for i in range(len(at.distribution.shares))
            ]
            low, high = at.distribution.range
            assert counts[-1][at.missing : at.end].tolist() == [
                kept - len(values),
                sum(not low <= value <= high for value in values),
            ]
    assert counts[0].tolist() == counts[1].tolist()


def test_who_reads_while_the_observer_gives_way_finds_whole_counts(bundle: Bundle) -> None:
    """No rows without their marks: they would be taken for copies of one row, and nothing be judged."""
    reference = read_reference(bundle)
    assert reference is not None
    names = tuple(reference.features)
    rows = np.random.default_rng(3).normal(size=(9_000, 1 + len(names)))
    shared = SharedMetrics(SlotLayout([("m@1", ("",))], {"m@1": reference}), 1)
    plan = WorkerMetrics(shared, 0).drift_plan("m@1", names, (), 10_000)
    assert plan is not None
    slots = shared.layout.drift["m@1"]
    seen = []

    def read() -> None:
        counts = slots.both_windows(shared.totals())
        seen.append((int(counts[0]), slots.independent_share(counts) if counts[0] else 1.0))

    RowCounter(plan, shared.region(0)).count([rows.tobytes()], read)
    assert 0 < max(at for at, _ in seen) < len(rows)
    assert all(share > 0.5 for _, share in seen), seen


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_every_task_has_live_drift_of_rows_and_batches(task: str, tmp_path: Path) -> None:
    """Areas in square feet are found in the feature and in what is answered, usual ones are not."""
    bundle = house_bundle(tmp_path / "houses", task)
    usual = houses(600, seed=1)
    shifted = [row | {"area": min(400.0, row["area"] * 2.5)} for row in houses(600, seed=2)]
    metric = {"regression": "hotrow_predicted_value", "multiclass": "hotrow_probability"}[task]
    other = {"regression": "hotrow_probability", "multiclass": "hotrow_predicted_value"}[task]
    for rows, drifts in ((usual, False), (shifted, True)):
        folder = tmp_path / str(drifts)
        folder.mkdir()
        with serving(bundle.directory, folder) as subject:
            send_all(subject.url, rows[:200])
            for start in range(200, 600, 50):
                (batch,) = exchange(
                    subject.url, post("/predict/batch", orjson.dumps({"rows": rows[start : start + 50]}))
                )
                assert batch.status == 200
            samples = wait_for_rows(subject.url, 600)
        psi = total(samples, "hotrow_feature_psi", feature="area")
        assert (psi > total(samples, "hotrow_feature_psi_limit", feature="area")) is drifts
        score = total(samples, "hotrow_score_psi"), total(samples, "hotrow_score_psi_limit")
        assert 0.0 < score[1] < np.inf
        assert (score[0] > score[1]) is drifts
        assert total(samples, f"{metric}_count") == total(samples, "hotrow_predictions_total") == 600
        assert not [name for name, _ in samples if name.startswith(other)]


def test_rows_of_a_model_that_comes_with_a_reload_are_counted(bundle: Bundle, tmp_path: Path) -> None:
    second = monitored_bundle(tmp_path / "second", version="2")
    references = {b.label: read_reference(b) for b in (bundle, second)}
    shared = SharedMetrics(
        SlotLayout(
            [(label, bundle.outcomes) for label in references], {k: r for k, r in references.items() if r}
        ),
        1,
    )
    answers = _lines(second, sample_rows(THREE_FEATURES, 30, seed=1))

    async def serve() -> float:
        log = PredictionLog(Settings(log_dir=tmp_path), 0, WorkerMetrics(shared, 0))
        log.register(bundle, "1" * 12)
        log.start()
        taker = log.register(second, "2" * 12)
        for number, line in enumerate(answers):
            body = orjson.dumps(orjson.loads(line)["input"])
            taker.put([(0, 1, line, number, NO_MARGIN, body)], [_scored_row(second, line)])
        slots, end = shared.layout.drift[second.label], time.monotonic() + 60
        while (rows := slots.both_windows(shared.totals())[0]) < len(answers) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        log.stop()
        await asyncio.to_thread(log.close)
        return float(rows)

    assert asyncio.run(serve()) == len(answers)


def test_the_command_exits_3_on_drift_and_0_without(bundle: Bundle, tmp_path: Path) -> None:
    usual, shifted = tmp_path / "usual.csv", tmp_path / "shifted.csv"
    rows = sample_rows(THREE_FEATURES, 800, seed=12)
    _write_csv(usual, rows)
    _write_csv(
        shifted, [row | {"income": 900_000 + row["income"] / 10, "contract": "barter"} for row in rows]
    )
    model = ("--model", str(bundle.directory))
    quiet = run("-m", "monitoring", "drift", str(usual), *model)
    assert quiet.returncode == 0, quiet.stdout + quiet.stderr
    assert "No drift in 800 rows" in quiet.stdout
    loud = run("-m", "monitoring", "drift", str(shifted), "--json", *model)
    assert loud.returncode == 3
    found = orjson.loads(loud.stdout)
    columns = {column["name"]: column for column in found["columns"]}
    assert {"income", "contract"} <= set(found["drifted"])
    assert columns["contract"]["unseen_rate"] == 1.0
    assert sum(column["importance"] for name, column in columns.items() if name != "score") == pytest.approx(
        1
    )


def test_the_command_makes_no_judgement_of_a_handful_of_rows_or_of_the_same_ones(
    bundle: Bundle, tmp_path: Path
) -> None:
    few, repeated = tmp_path / "few.csv", tmp_path / "repeated.csv"
    rows = [row | {"income": 900_000.0} for row in sample_rows(THREE_FEATURES, 12, seed=12)]
    _write_csv(few, rows)
    _write_csv(repeated, rows * 100)
    for file, words in ((few, "12 rows, too few"), (repeated, "1,200 rows that repeat themselves")):
        done = run("-m", "monitoring", "drift", str(file), "--model", str(bundle.directory))
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"No judgement: {words}" in " ".join(done.stdout.split())


def test_what_a_description_tolerates_is_no_drift(bundle: Bundle, tmp_path: Path) -> None:
    """Of one feature alone, as a whole and in its shares; the others and the score as before."""
    rows = sample_rows(THREE_FEATURES, 800, seed=12)
    rows = [row | {"income": 900_000 + row["income"] / 10, "owner": True} for row in rows]
    _write_csv(tmp_path / "a.csv", rows)
    features = orjson.loads((bundle.directory / "bundle.json").read_bytes())["features"]
    for feature in features:
        feature |= {"drift_tolerance": 50.0} if feature["name"] == "income" else {}
    lenient = Bundle.load(rewritten(bundle.directory, tmp_path / "b", features=features))
    names = [[c.name for c in drift_of_files([tmp_path / "a.csv"], b).drifted] for b in (bundle, lenient)]
    assert set(names[0]) - set(names[1]) == {"income"}
    assert "owner" in names[1]
    features[0]["drift_tolerance"] = "x"
    with pytest.raises(BundleError, match="drift_tolerance"):
        Bundle.load(rewritten(bundle.directory, tmp_path / "c", features=features))


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    names = THREE_FEATURES.names
    lines = [",".join(str(row.get(name, "")) for name in names) for row in rows]
    path.write_text("\n".join([",".join(names), *lines]) + "\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("drift", "nowhere.jsonl"), "expected a log file"), (("drift", "empty.csv"), "expected")],
)
def test_a_users_mistake_is_one_sentence(
    bundle: Bundle, tmp_path: Path, arguments: tuple[str, str], words: str
) -> None:
    (tmp_path / "empty.csv").write_text("a,b\n1,2\n")
    command, file = arguments
    done = run("-m", "monitoring", command, str(tmp_path / file), "--model", str(bundle.directory))
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


AMOUNTS = Schema(
    [
        Feature("overdue"),
        Feature("constant"),
        Feature("income"),
        Feature("late", kind="integer"),
        Feature("noise"),
    ]
)


def _amounts(count: int, seed: int) -> NDArray[np.float64]:
    """`overdue` is 0 in 98.6 %, `constant` always 1, `income` has a tail, `late` ties, `noise` no use."""
    random = np.random.default_rng(seed)
    return np.column_stack(
        [
            np.where(random.random(count) < 0.986, 0.0, np.exp(random.normal(6, 1, count))),
            np.ones(count),
            np.exp(random.normal(10, 0.5, count)),
            random.poisson(0.4, count),
            random.normal(size=count),
        ]
    )


@pytest.fixture(scope="module")
def amounts(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    matrix = _amounts(5000, 1)
    target = matrix[:, 2] / 3e4 + (matrix[:, 0] > 0) + matrix[:, 3] / 2 > 1.2
    # LightGBM would drop the constant, and leave the noise alone.
    text = train(matrix, target, AMOUNTS, 20)
    conversion = convert_lightgbm(text)
    scores = np.asarray(conversion.source.outputs(matrix))
    return write_conversion(
        tmp_path_factory.mktemp("amounts") / "bundle",
        conversion,
        schema=AMOUNTS,
        name="amounts",
        version="1",
        golden=[AMOUNTS.fields(row.tolist()) for row in matrix[:300]],
        files={"reference.json": orjson.dumps(reference_of_rows(AMOUNTS, matrix, scores).to_dict())},
        ordinary_rows=2000,
    )


def _times(column: int, factor: float, chosen: Callable[[NDArray[np.float64]], Any]) -> Callable[..., None]:
    def change(matrix: NDArray[np.float64]) -> None:
        rows = chosen(matrix)
        matrix[rows, column] = matrix[rows, column] * factor

    return change


def _more_overdue(matrix: NDArray[np.float64]) -> None:
    matrix[np.random.default_rng(9).random(len(matrix)) < 0.046, 0] = 400.0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("overdue", _times(0, 1000.0, lambda m: m[:, 0] > 0)),
        ("overdue", _more_overdue),
        ("constant", _times(1, 0.0, lambda _: slice(None))),
        ("constant", _times(1, 0.0, lambda m: slice(0, len(m) // 10))),
        ("income", _times(2, 1000.0, lambda m: m[:, 2] > np.quantile(m[:, 2], 0.98))),
        ("income", _times(2, 50.0, lambda m: m[:, 2] > np.quantile(m[:, 2], 0.9))),
        ("late", _times(3, 2.0, lambda _: slice(None))),
    ],
)
def test_what_bins_do_not_show_is_found(
    amounts: Bundle, tmp_path: Path, name: str, change: Callable[[NDArray[np.float64]], None]
) -> None:
    """Beyond the range, a constant that moved, a rare value that is rare no more: in 3,000 rows, alone."""
    matrix = _amounts(3000, 2)
    change(matrix)
    found = drift_of_files([_table(tmp_path / "a.csv", matrix)], amounts)
    assert [column.name for column in found.drifted if not column.is_score] == [name]


@pytest.mark.parametrize("n", [200, 1000, 5000])
def test_rows_like_those_of_training_are_no_drift(amounts: Bundle, tmp_path: Path, n: int) -> None:
    for seed in range(10, 25):
        found = drift_of_files([_table(tmp_path / "a.csv", _amounts(n, seed))], amounts)
        assert [(column.name, column.why) for column in found.drifted] == []


@pytest.mark.parametrize("lost", ["stuck", "missing"])
def test_a_lost_culprit_is_listed_before_a_mild_shift(amounts: Bundle, tmp_path: Path, lost: str) -> None:
    """Shuffling a stuck column changes nothing: importance is of reference rows, order by effect.

    The margins of all rows together hardly move without it, and those of each row do.
    """
    matrix = _amounts(3000, 2)
    matrix[:, 2] = np.median(matrix[:, 2]) if lost == "stuck" else np.nan
    matrix[::4, 3] += 1.0
    found = drift_of_files([_table(tmp_path / "a.csv", matrix)], amounts)
    names = [column.name for column in found.drifted if not column.is_score]
    assert names == ["income", "late"]
    income = next(column for column in found.columns if column.name == "income")
    assert income.importance > 0.2
    assert income.effect > 0.1


def test_live_figures_count_what_lies_beyond_the_range(amounts: Bundle) -> None:
    matrix = _amounts(1000, 2)
    matrix[:100, 2] *= 1e4
    figures = _streamed(amounts, [AMOUNTS.fields(row) for row in matrix.tolist()])
    assert figures[("hotrow_feature_unseen_ratio", "income")] == pytest.approx(0.1, abs=0.002)
    assert figures[("hotrow_feature_unseen_ratio", "late")] < 0.01


def _table(path: Path, matrix: NDArray[np.float64]) -> Path:
    pl.DataFrame(matrix, schema=list(AMOUNTS.names)).write_csv(path)
    return path
