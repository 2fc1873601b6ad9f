"""Smaller parts of the page: files of people, figures of the metrics, the login, the card, the plots."""

import asyncio
import base64
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from server.errors import MalformedBody, SettingsError, UnacceptableRow
from server.explain.importance import ROWS, ranked, reference_rows
from server.log.history import History
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.model.reference import read_reference, reference_of_rows
from server.scoring.service import Service
from server.settings import Settings
from tests.support.bundles import CREDIT, rewritten, tell_again
from tests.support.monitored import house_bundle
from tests.support.pages import JSON, page_client
from train.french import TRANSLATIONS
from train.tables.features import SCHEMA
from ui.cases.grids import Grids
from ui.cases.table import UploadedTable, columns_of, harmless, read_table
from ui.drawing.plots import trend
from ui.records.register import Register
from ui.tabs.alert_rules import (
    FAST,
    MEMORY_BYTES,
    REJECTED,
    REPEATING_ROWS,
    RULES,
    SHED,
    SILENT_SECONDS,
    SLOWLY,
    WAITING_BYTES,
    Seen,
)
from ui.tabs.alerts import Alerts
from ui.tabs.arms import arms_html
from ui.tabs.day import Day, Minute
from ui.tabs.dependence import dependence_html
from ui.tabs.drift import Drift
from ui.tabs.looks import MetricsSample, Shifted, grown, quantile
from ui.tabs.model import model_html
from ui.tabs.operations import Operations
from ui.tabs.reference import ReferencePlots
from ui.words.card import card_html
from ui.words.labels import Labels
from ui.words.proof import parity_sentence
from ui.words.text import Text
from ui.words.wording import percent


@pytest.mark.parametrize(
    ("cell", "given_back"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|x", "'+cmd|x"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("\n=1", "'\n'=1"),
        ("\0=1", "'\0=1"),
        ("\tx", "'\tx"),
        ("\nx", "'\nx"),
        ("\0x", "'\0x"),
        ("  =1+1", "'  =1+1"),
        ("\N{NO-BREAK SPACE}=1", "'\N{NO-BREAK SPACE}=1"),
        ("＝1+1", "'＝1+1"),
        ("＋1+1", "'＋1+1"),
        ("－1+1", "'－1+1"),
        ("＠SUM(A1)", "'＠SUM(A1)"),
        ("a;=1+1", "a;'=1+1"),
        ("a,=1+1", "a,'=1+1"),
        ("a, @x", "a,' @x"),
        ("a\t+1", "a\t'+1"),
        ("a\n-1", "a\n'-1"),
        ("a\r\n=1", "a\r\n'=1"),
        ('a;"=1"', 'a;\'"=1"'),
        (";=1;=2", ";'=1;'=2"),
        ("-5,-3", "'-5,'-3"),
        ("=", "'="),
        ("-5", "-5"),
        ("+5.25", "+5.25"),
        ("-1e-3", "-1e-3"),
        ("-0,5", "-0,5"),
        ("-5,3", "-5,3"),
        ("2026-01-02", "2026-01-02"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_what_a_spreadsheet_would_run_comes_back_as_text(cell: str, given_back: str) -> None:
    assert harmless(cell) == given_back


def table_of(text: str, first_line: int = 2, most: int = 100) -> UploadedTable:
    return read_table(text.encode(), first_line, most, SCHEMA)


def test_lines_of_a_table_are_those_of_its_file() -> None:
    table = table_of('a,b\n1,"x\ny"\n\n2,z\r\n3,"q"', 10, 3)
    assert table.records == [["1", "x\ny"], ["2", "z"], ["3", "q"]]
    assert table.lines == [10, 13, 14]


def test_semicolons_part_cells_where_the_header_has_them() -> None:
    table = table_of("a;EXT_SOURCE_1\nx;0,5")
    assert (table.delimiter, table.records) == (";", [["x", "0,5"]])
    assert table.dialect.rules.decimal == ","


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(MalformedBody, match="in line 2 a quote inside a cell"):
        table_of('a\n"x"y')
    with pytest.raises(UnacceptableRow, match="header"):
        table_of("")
    with pytest.raises(UnacceptableRow, match="at most 1 rows"):
        table_of("a\n1\n2", 2, 1)
    for text in ("a,b\n1,2", "AMT_CREDIT,AMT_CREDIT\n1,2"):
        with pytest.raises(UnacceptableRow, match="expected"):
            columns_of(table_of(text), SCHEMA)


def test_quantiles_lie_on_the_line_between_two_bounds() -> None:
    histogram = grown({1.0: 5.0, 2.0: 5.0, float("inf"): 5.0}, {1.0: 15.0, 2.0: 25.0, float("inf"): 25.0})
    assert histogram == [(1.0, 10.0), (2.0, 10.0), (float("inf"), 0.0)]
    assert quantile(histogram, 0.25) == 0.5
    assert quantile(histogram, 0.75) == 1.5
    assert quantile([(1.0, 0.0), (float("inf"), 4.0)], 0.5) == 1.0
    assert quantile([], 0.5) is None


def test_a_look_takes_one_model_and_predict_alone() -> None:
    family = HistogramMetricFamily("hotrow_request_duration_seconds", "x", labels=("route", "method", "code"))
    for route, code, count in (
        ("/predict", "200", 3),
        ("/predict", "422", 1),
        ("/model", "200", 4),
        ("other", "401", 1),
    ):
        family.add_metric((route, "POST", code), [("0.1", count), ("+Inf", count)], sum_value=1.0)
    look = MetricsSample.of([family], 1.0, "m@1")
    assert (look.requests, look.failed) == (9, 2)
    assert look.durations == {0.1: 3.0, float("inf"): 3.0}


def drift_of(figures: dict[str, dict[str, float]]) -> list[Shifted]:
    families = []
    for name, values in figures.items():
        labels = ("model", "feature") if "feature" in name else ("model",)
        family = GaugeMetricFamily(f"hotrow_{name}", "x", labels=labels)
        for feature, value in values.items():
            family.add_metric(("m@1", feature)[: len(labels)], value)
        families.append(family)
    return MetricsSample.of(families, 1.0, "m@1").drift


def test_a_look_takes_drift_of_values_of_missing_ones_and_of_the_score() -> None:
    found = drift_of(
        {
            "feature_psi": {"a": 0.3},
            "feature_psi_limit": {"a": 0.2},
            "feature_missing_psi": {"a": 0.1},
            "feature_missing_psi_limit": {"a": math.inf},
            "feature_unseen_ratio": {"a": 0.25},
            "score_psi": {"": 0.4},
            "score_psi_limit": {"": 0.2},
        }
    )
    assert found == [
        Shifted("a", False, 0.3, 0.2, 0.25),
        Shifted("a", True, 0.1, math.inf),
        Shifted("", False, 0.4, 0.2),
    ]
    assert [shifted.strength for shifted in found] == pytest.approx([1.5, 0.0, 2.0])


def test_operations_show_arms_once_there_are_two() -> None:
    answered = CounterMetricFamily("hotrow_predictions", "x", labels=("model", "decision"))
    beside = CounterMetricFamily("hotrow_challenger_rows", "x", labels=("model", "challenger", "result"))
    answered.add_metric(("m@1", "grant"), 900.0)
    alone = MetricsSample.of([answered], 1.0, "m@1")
    assert arms_html(alone) == ""
    for labels, value in ((("m@2", "grant"), 60.0), (("m@2", "decline"), 40.0), (("other@1", "grant"), 7.0)):
        answered.add_metric(labels, value)
    for result, value in (("same", 720.0), ("flipped", 80.0), ("rejected", 3.0), ("shed", 2.0)):
        beside.add_metric(("m@1", "m@2", result), value)
    look = MetricsSample.of([answered, beside], 1.0, "m@1")
    assert (look.arms, look.decisions) == ({"m@1": 900.0, "m@2": 100.0}, {"grant": 900.0})
    shown = arms_html(look)
    assert shown.count("<li") == 2
    assert "other@1" not in shown
    for said in ("90.0", "scored 800 rows beside. Decided otherwise: 80. Not scored: 5."):
        assert said in shown


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Service]:
    with page_client(CREDIT, tmp_path) as client:
        yield client.app.state.service  # type: ignore[attr-defined]  # of Starlette's app


def test_operations_rank_all_drift_and_judge_none_of_too_few_rows(opened: Service) -> None:
    drift = Drift(opened.bundles[0])
    name = SCHEMA.names[0]
    look = MetricsSample(1.0, single={"hotrow_drift_rows": 5000.0, "hotrow_drift_independent_rows": 5000.0})
    values, absence = "hotrow_feature_psi", "hotrow_feature_missing_psi"
    look.drift_figures = {
        (values, name): 0.01,
        (f"{values}_limit", name): math.inf,
        ("hotrow_feature_unseen_ratio", name): 0.5,
        (absence, name): 0.3,
        (f"{absence}_limit", name): 0.2,
        ("hotrow_score_psi", ""): 0.8,
        ("hotrow_score_psi_limit", ""): 0.2,
    }
    shown = drift.html(look, lambda _: [])
    entries = shown.split("<li")[1:]
    assert "Score" in entries[0]
    assert ": missing or not" in entries[1]
    assert all(">drifted<" in entry for entry in entries[:2])
    assert "too few rows; 50.0" in entries[2]
    assert "as in training" not in shown
    assert "<details" not in shown
    look.single["hotrow_drift_independent_rows"] = 1.0
    assert "5,000, of which 1 tells something new" in drift.html(look, lambda _: [])


def test_what_drifted_opens_to_its_bins_in_training_and_of_the_last_day(opened: Service) -> None:
    bundle = opened.bundles[0]
    history = History(History.make())
    day = Day(history, bundle.label)
    name, flag = SCHEMA.names[0], next(f.name for f in SCHEMA.features if f.form_kind == "flag")
    reference = read_reference(bundle)
    assert reference is not None
    bins = len(reference.features[name].shares)
    for minute in range(2):
        column = {"bins": [3] + [0] * (bins - 1), "missing": 1, "beyond": 0}
        models = {bundle.label: {name: column, flag: {"bins": [2, 2], "missing": 0, "beyond": 0}}}
        told = {"from": _clock(minute), "models": models}
        history.columns.add(29_928_120 + minute, orjson.dumps(told))
        day.renew()
        day.renew()
    assert day.held(name) == [6] + [0] * (bins - 1) + [2]
    assert day.held("nothing") == []
    look = MetricsSample(1.0, single={"hotrow_drift_rows": 5000.0, "hotrow_drift_independent_rows": 5000.0})
    look.drift_figures = {("hotrow_feature_psi", name): 0.9, ("hotrow_feature_psi", flag): 0.1}
    shown = Drift(bundle).html(look, day.held)
    assert shown.count("<details") == 2
    number, yes_or_no = sorted(shown.split("<details")[1:], key=lambda part: f'"{flag} values"' in part)
    assert [number.count(f">{share}\N{NO-BREAK SPACE}%<") for share in ("75.0", "25.0")] == [1, 1]
    assert number.count("<tr>") == 1 + 1 + sum(share > 0 for share in reference.features[name].shares)
    assert ">Yes<" in yes_or_no
    assert Drift(bundle).html(look, lambda _: [1]).count("<details") == 0
    # The tab of the model draws the same counts over those of training.
    plots = ReferencePlots(bundle, SCHEMA.names)
    drawn = plots.html({name: day.held(name), flag: [0] * 3, "other": [1, 2]})
    assert drawn.count('class="now"') == 1
    assert "the 8 rows of the last 24 hours" in drawn
    assert re.search(
        r"most moved: \d+\.\d\N{NO-BREAK SPACE}% in training, 100\.0\N{NO-BREAK SPACE}% now", drawn
    )
    assert "now 25.0\N{NO-BREAK SPACE}%" in drawn
    assert "How the 3,750 training rows were spread" in plots.html({})


def test_operations_tell_requests_by_path_and_code(opened: Service) -> None:
    family = HistogramMetricFamily("hotrow_request_duration_seconds", "x", labels=["route", "method", "code"])
    for route, method, code, count in (("/predict", "POST", "200", 3), ("/predict", "GET", "405", 1)):
        family.add_metric((route, method, code), [("0.1", count), ("+Inf", count)], sum_value=1.0)
    family.add_metric(("/explain", "POST", "200"), [("0.1", 0), ("+Inf", 0)], sum_value=0.0)
    look = MetricsSample.of([family], 1.0, "m@1")
    assert look.answered == {("/predict", "200"): 3.0, ("/predict", "405"): 1.0}
    assert "Answered since the start, by path and code" in asyncio.run(
        Operations(opened, opened.bundles[0], Register(opened).overrides).look()
    )


def test_of_two_pages_that_ask_at_once_one_looks(opened: Service) -> None:
    operations = Operations(opened, opened.bundles[0], Register(opened).overrides)
    looks: list[int] = []
    collect = opened.collector.collect

    def counted() -> Iterator[Metric]:
        looks.append(1)
        return iter(list(collect()))

    async def both() -> None:
        opened.collector.collect = counted  # type: ignore[method-assign]  # counts the real looks
        await asyncio.gather(operations.look(), operations.look())

    asyncio.run(both())
    assert len(looks) == 1


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def test_page_of_a_policy_of_bands_alone(three: Path, tmp_path: Path) -> None:
    """It asks for no inputs and checks none: other reasons than the shipped model's are there, or none."""
    bands = [
        {"below": 0.2, "decision": "grant"},
        {"below": 0.4, "decision": "<refer>"},
        {"decision": "decline"},
    ]
    folder = rewritten(three, tmp_path / "bands", policy={"bands": bands})
    tell_again(folder)
    with page_client(folder, tmp_path / "logs") as client:
        assert client.get("/").status_code == 200
        told = client.post("/page/studio", content="{}", headers=JSON).json()
    assert (told["limits"], told["bands"]) == ([0.2, 0.4], ["grant", "<refer>", "decline"])
    assert told["deciding"] == []
    assert (told["counted"], told["groups"]) == ([], [])
    assert "does not count its held-out cases by group and limit" in told["html"]
    assert "&lt;refer&gt;" in told["html"]
    assert "<refer>" not in told["html"]


def test_login_covers_the_page_and_its_calls_and_leaves_the_api_open(tmp_path: Path) -> None:
    logins = Settings.read({"HOTROW_UI_AUTH": "ann:s:cret,bob:pässword"}).ui_auth
    assert logins == (("ann", "s:cret"), ("bob", "pässword"))
    with page_client(CREDIT, tmp_path, ui_auth=logins) as client:
        for path in ("/", "/page/template.csv", "/theme.css"):
            refusal = client.get(path)
            assert refusal.status_code == 401
            assert refusal.headers["WWW-Authenticate"].startswith("Basic realm=")
            for pair in ("ann:s:cret", "bob:pässword"):
                assert client.get(path, headers=basic(pair)).status_code == 200
        for pair in ("ann:", "ann:s:cre", "ann:pässword", "eve:s:cret", "", ":"):
            assert client.get("/", headers=basic(pair)).status_code == 401
        for header in ("Basic", "Basic !", "Bearer x", "Basic " + "A" * 9999):
            assert client.get("/", headers={"Authorization": header}).status_code == 401
        for path in ("/page/what-if", "/page/many", "/page/flip", "/page/operations", "/page/person"):
            assert client.post(path, json={}).status_code == 401
        for path in ("/page/letter?id=a-1", "/page/record?id=a-1"):
            assert client.get(path).status_code == 401
        assert client.get("/livez").status_code == 200
        assert client.post("/predict", json={}).status_code == 422


@pytest.mark.parametrize("text", ["ann", "ann:", ":secret", "ann:x,bob"])
def test_a_login_that_is_none_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(SettingsError, match="expected HOTROW_UI_AUTH to be USER:PASSWORD") as refusal:
        Settings.read({"HOTROW_UI_AUTH": text})
    assert text not in str(refusal.value)


def test_passwords_are_in_no_representation_of_the_settings() -> None:
    assert "secret" not in repr(Settings(ui_auth=(("ann", "secret"),)))


def test_card_is_rendered_without_raw_markup_and_below_the_pages_headings() -> None:
    shown = card_html("---\na: b\n---\n# One\n<script>x</script>\n\n| a | b |\n| - | - |\n| 1 | <i>2</i> |\n")
    assert "<h3>One</h3>" in shown
    assert "<script" not in shown
    assert "<i>" not in shown
    assert '<div class="scroll" tabindex="0"' in shown
    assert "a: b" not in shown


def model_tab(bundle: Bundle) -> str:
    predictor = Predictor(bundle)
    return model_html(predictor, ranked(predictor), Grids(predictor))


def test_model_tab_tells_proof_evaluation_inputs_reference_and_card() -> None:
    shown = model_tab(Bundle.load(CREDIT))
    for words in ("0 bits different", "ROC curve", "Calibration", "Cost by limit", "By group: age"):
        assert words in shown
    for words in ("EXT_SOURCE_2", "How the 3,750 training rows were spread", "Credit default risk"):
        assert words in shown
    numbers = [f for f in SCHEMA.features if f.form_kind in ("number", "integer")]
    assert shown.count("<svg") == 3 + len(numbers)


def test_dependence_is_the_mean_of_what_rows_of_each_value_get() -> None:
    predictor = Predictor(Bundle.load(CREDIT))
    shown = dependence_html(predictor, ranked(predictor), Grids(predictor))
    rows = reference_rows(predictor.bundle)[:ROWS]
    label = Labels.of(predictor.bundle).value
    feature = predictor.bundle.schema["NAME_EDUCATION_TYPE"]
    for code in range(len(feature.categories)):
        tried = rows.copy()
        tried[:, SCHEMA.names.index(feature.name)] = code
        mean = np.mean([predictor.predict(row.tobytes())[0] for row in tried])
        assert f'title="{label(feature, feature.decode(code)).en}: {percent(float(mean)).en}"' in shown


@pytest.mark.parametrize(("task", "curves"), [("regression", True), ("multiclass", False)])
def test_dependence_of_a_value_is_drawn_and_of_classes_left_out(
    task: str, curves: bool, tmp_path: Path
) -> None:
    predictor = Predictor(house_bundle(tmp_path / task, task))
    shown = dependence_html(predictor, ranked(predictor), Grids(predictor))
    assert shown.count("<li>") == len(predictor.bundle.schema)
    assert ("<svg" in shown, "mean prediction" in shown) == (curves, curves)


def test_model_tab_says_what_a_bundle_does_not_hold(three: Path) -> None:
    bundle = Bundle.load(three)
    shown = model_tab(bundle)
    for words in ("holds no evaluation", "holds no reference", "has no card"):
        assert words in shown


def test_model_tab_shows_columns_of_one_value_and_of_none(three: Path, tmp_path: Path) -> None:
    schema = Bundle.load(three).schema
    values = np.full((50, len(schema)), math.nan)
    values[:, 0] = 7.0
    reference = orjson.dumps(reference_of_rows(schema, values, np.full(50, 0.5)).to_dict())
    bundle = Bundle.load(rewritten(three, tmp_path / "constant", files={"reference.json": reference}))
    shown = model_tab(bundle).partition("What drift is measured against")[2]
    assert shown.count('class="small-bars"') == 1 + len(schema)
    assert "100.0" in shown  # what is missing of the other columns


def test_parity_report_in_words() -> None:
    total = {
        "rows": 1_200_000,
        "margin_bits_differ": 0,
        "decisions_flipped": 0,
        "max_margin_difference": 1e-7,
    }
    exact = parity_sentence({"exact": True, "total": total}, "binary")
    assert (
        exact.en == "1,200,000 rows compared with the trained model, 0 bits different, 0 decisions changed."
    )
    bounded = parity_sentence({"exact": False, "total": total}, "regression")
    assert bounded.en.endswith("a score is 1e-07, of scores above 1 in parts of them.")


def test_shipped_french_is_that_of_the_source_and_whole() -> None:
    assert Bundle.load(CREDIT).manifest["translations"] == TRANSLATIONS
    french = TRANSLATIONS["fr"]["features"]
    context = Bundle.load(CREDIT).context
    assert set(french) == {feature.name for feature in (*SCHEMA.features, *context)}
    for feature in (*SCHEMA.features, *context):
        told = french[feature.name]
        assert bool(told.get("unit")) == bool(feature.unit)
        assert told["label"]
        assert told["help"]
        assert bool(told.get("group")) == bool(feature.group)
        assert len(told.get("category_labels", ())) == len(feature.category_labels)
    told_of = Bundle.load(CREDIT).manifest["evaluation"]["held_out"]["groups"]
    assert {name for kind, entries in told_of.items() for name in (kind, *entries)} <= set(
        TRANSLATIONS["fr"]["groups"]
    )
    groups = {feature.group: french[feature.name]["group"] for feature in SCHEMA.features}
    assert all(french[f.name]["group"] == groups[f.group] for f in SCHEMA.features)
    assert all(a != b for a, b in pairwise(sorted(groups.values())))


def test_the_day_tells_each_minute_once_and_the_fields_refused_most(opened: Service) -> None:
    bundle = opened.default.bundle
    history = History(History.make())
    day = Day(history, bundle.label)
    words, schema = Labels.of(bundle), bundle.schema
    assert "not over yet" in day.html(words, schema)
    for minute, count in enumerate((60, 6000)):
        told = {
            "from": f"2026-11-26T10:0{minute}:00Z",
            "requests": {"/predict": {"200": count, "422": 1}},
            "latency_us": {"/predict": {"p99": 250.0}},
            "slow": 3,
            "shed": 0,
            "log": {"dropped": {}, "waiting_bytes": 0},
            "models": {bundle.label: {"refused": {schema.names[0]: 2, "": 1}}},
        }
        history.minutes.add(29_928_120 + minute, orjson.dumps(told))
        day.renew()
        day.renew()
    shown = day.html(words, schema)
    assert 'aria-label="Requests a minute: at most 6,001"' in shown
    assert 'aria-label="p99 of /predict in ms: at most 0.25"' in shown
    # Two minutes stand at the end of the shortest span that holds them, and do not fill it.
    assert "The last 5 minutes, minute by minute" in shown
    assert 'points="75.00,' in shown
    assert f"{words.label(schema.features[0]).en} (4), no feature of the model (2)" in shown
    for minute in range(2, 200):
        history.minutes.add(29_928_120 + minute, orjson.dumps(told | {"from": _clock(minute)}))
    day.renew()
    assert "The last 24 hours, minute by minute" in day.html(words, schema)


def _clock(minute: int) -> str:
    return f"2026-11-26T{10 + minute // 60}:{minute % 60:02}:00Z"


def test_trend_of_one_value_is_a_dot() -> None:
    """A line needs two points; the first minute of a day has one."""
    drawn = trend([("first", [3.0])], Text("a", "a"), 1440, Text("b", "b"), Text("c", "c"))
    assert 'points="100.00,4.00 100.00,4.00"' in drawn
    assert drawn.count('<polyline class="first dot"') == 1


def test_trend_of_nothing_has_no_line() -> None:
    drawn = trend([("first", [0.0, 0.0])], Text("a", "a"), 60, Text("b", "b"), Text("none yet", "c"))
    assert "<polyline" not in drawn


#: What only something that remembers more than this server, or outlives it, can judge.
ONLY_PROMETHEUS = {
    "HotrowDown",
    "HotrowLogDrifts",
    "HotrowDriftCosts",
    "HotrowOutcomesWorse",
    "HotrowObserverRestarts",
    "HotrowWorkersRestart",
    "HotrowWorkersCannotStart",
    "HotrowMemoryGrows",
}
LIMITS = {
    "HotrowLatencyBudgetBurnsFast": FAST,
    "HotrowLatencyBudgetBurnsSlowly": SLOWLY,
    "HotrowErrorBudgetBurnsFast": FAST,
    "HotrowErrorBudgetBurnsSlowly": SLOWLY,
    "HotrowRejectsMore": REJECTED,
    "HotrowSheds": SHED,
    "HotrowRowsRepeat": REPEATING_ROWS,
    "HotrowLogDrops": 0.0,
    "HotrowLogWaits": WAITING_BYTES,
    "HotrowLogStands": SILENT_SECONDS,
    "HotrowObserverDown": SILENT_SECONDS,
    "HotrowMemoryHigh": MEMORY_BYTES,
}


def test_alerts_of_the_page_are_the_shipped_rules() -> None:
    groups = yaml.safe_load(Path("monitoring/prometheus/alerts.yml").read_text())["groups"]
    shipped = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    assert {rule.alert for rule in RULES} == shipped.keys() - ONLY_PROMETHEUS
    for rule in RULES:
        assert (shipped[rule.alert]["labels"]["severity"] == "page") == rule.wakes
        assert shipped[rule.alert].get("for", "0m") == f"{rule.wait}m"
        numbers = re.findall(r"[<>]=? ([\d.]+(?: \* [\d.]+)*)", shipped[rule.alert]["expr"])
        limits = [math.prod(map(float, number.split(" * "))) for number in numbers]
        if rule.alert in LIMITS:
            assert pytest.approx(LIMITS[rule.alert]) in limits, rule.alert
        else:
            assert "_limit" in shipped[rule.alert]["expr"]


def test_an_alert_holds_above_its_limit() -> None:
    rules = {rule.alert: rule for rule in RULES}
    quiet = [Minute(at, 100, 0.1, {}, scored=100) for at in range(1000, 1360)]

    def holding(now: int = 1359, look: MetricsSample | None = None, **changed: tuple[range, int]) -> set[str]:
        minutes = [
            Minute(**{**minute._asdict(), **{n: c for n, (at, c) in changed.items() if minute.at in at}})
            for minute in quiet
        ]
        seen = Seen(look or MetricsSample(0.0), minutes, now)
        return {alert for alert, rule in rules.items() if rule.judge(seen).holds}

    hour, now = range(1300, 1360), range(1355, 1360)
    assert holding() == set()
    assert holding(slow=(hour, 1)) == set()
    assert holding(slow=(hour, 2)) == {"HotrowLatencyBudgetBurnsFast"}
    assert holding(failed=(range(1000, 1360), 1)) == {"HotrowErrorBudgetBurnsSlowly"}
    assert holding(failed=(range(1300, 1355), 50)) == {"HotrowErrorBudgetBurnsSlowly"}  # it has stopped
    assert holding(rejected=(range(1330, 1360), 6)) == {"HotrowRejectsMore"}
    assert holding(rejected=(range(1330, 1360), 5)) == set()
    assert holding(shed=(now, 2)) == {"HotrowSheds"}
    assert holding(dropped=(range(1355, 1356), 1)) == {"HotrowLogDrops"}
    assert holding(dropped=(range(1354, 1355), 1)) == set()
    waits = MetricsSample(0.0, single={"hotrow_log_queue_bytes": 2.0**23})
    assert holding(look=waits, waiting_bytes=(range(1358, 1360), 2**23)) == {"HotrowLogWaits"}
    assert holding(look=waits, waiting_bytes=(range(1359, 1360), 2**23)) == set()
    single = {
        "hotrow_log_oldest_unwritten_seconds": 31.0,
        "hotrow_observer_silent_seconds": 31.0,
        "hotrow_drift_rows": 1000.0,
        "hotrow_drift_independent_rows": 199.0,
    }
    look = MetricsSample(0.0, single=single, memory={"0": 401.0 * 2**20})
    for name, feature in (
        ("feature_psi", "income"),
        ("feature_missing_psi", "income"),
        ("feature_unseen_psi", "income"),
        ("score_psi", ""),
    ):
        look.drift_figures |= {
            (f"hotrow_{name}", feature): 0.3,
            (f"hotrow_{name}_limit", feature): 0.2,
            (f"hotrow_{name}", "few"): 9.0,
            (f"hotrow_{name}_limit", "few"): math.inf,
        }
    told = {
        "HotrowFeatureDrifts",
        "HotrowFeatureGoesMissing",
        "HotrowUnseenValues",
        "HotrowScoreDrifts",
        "HotrowRowsRepeat",
        "HotrowLogStands",
        "HotrowObserverDown",
        "HotrowMemoryHigh",
    }
    assert holding(look=look) == told
    shown = Alerts({"income": Text("Income", "Revenu")}).html(Seen(look, None, 0))
    assert shown.count('class="pending"') == len(told)  # nobody has looked before
    assert shown.index("Values that training never saw: Income") < shown.index("Refused to protect")
    assert shown.count("without a log not known") == 8
    a_day_before = [
        Minute(at, 100, 0.1, {}, scored=100, rejected=2) for at in range(1359 - 1440, 1359 - 1400)
    ]
    seen = Seen(MetricsSample(0.0), [*a_day_before, *(m._replace(rejected=9) for m in quiet)], 1359)
    assert not rules["HotrowRejectsMore"].judge(seen).holds  # it was so at this hour yesterday


def test_an_alert_is_pending_until_it_has_held_for_its_time() -> None:
    def state(alerts: Alerts, seen: Seen, name: str) -> str:
        """ "" where the rule does not hold, "firing", or for how many minutes it has held."""
        found = next(state for state in alerts.states(seen) if state.rule.alert == name)
        return ("firing" if found.is_firing else f"{found.held:g}") if found.holds else ""

    # By the minutes of the history, whoever looked: 2 of 100 are shed from a minute on.
    shed = [Minute(at, 100, 0.1, {}, scored=100, shed=2 * (at >= 996)) for at in range(900, 1020)]
    for now, told in ((997, ""), (998, "0"), (1005, "7"), (1007, "9"), (1008, "firing"), (1015, "firing")):
        seen = Seen(MetricsSample(0.0), shed[: now - 899], now)
        assert state(Alerts({}), seen, "HotrowSheds") == told, now
    # By the figure itself, where it is for how long something has stood.
    for silent, told in ((30.0, ""), (45.0, "0.25"), (90.0, "firing")):
        look = MetricsSample(0.0, single={"hotrow_observer_silent_seconds": silent})
        assert state(Alerts({}), Seen(look, None, 0), "HotrowObserverDown") == told
    # By the looks, where nothing else tells; a gap between them, or a look without it, begins anew.
    alerts, mib = Alerts({}), 2.0**20
    after = [(120 + 60 * i, 401, f"{i}" if i < 10 else "firing") for i in range(12)]
    for seconds, memory, told in ((0, 401, "0"), (60, 401, "1"), (90, 399, ""), *after, (900, 401, "0")):
        look = MetricsSample(float(seconds), memory={"0": memory * mib})
        assert state(alerts, Seen(look, None, 0), "HotrowMemoryHigh") == told, seconds
    assert "Pending, 0 of 10 minutes" in alerts.html(Seen(look, None, 0))
    # A rule without a time fires at once.
    lost = [Minute(1019, 100, 0.1, {}, scored=100, dropped=1)]
    assert state(Alerts({}), Seen(MetricsSample(0.0), lost, 1019), "HotrowLogDrops") == "firing"
