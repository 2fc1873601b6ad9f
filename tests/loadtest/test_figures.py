"""What the load test makes of what it saw: percentiles, differences, stacks, counts."""

import asyncio
import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from loadtest.__main__ import main as loadtest
from loadtest.bench.gate import Gate, is_sure, judge_counts, judge_ratio
from loadtest.bench.overhead import CALLS, Rounds, in_process
from loadtest.capacity.start import pss_mb
from loadtest.harness.closed_loop import WrkFigures, read_wrk
from loadtest.harness.in_process import Nowhere
from loadtest.harness.percentiles import percentiles_us
from loadtest.harness.subject import workers_of
from loadtest.latency.open_loop import LatencyResult
from loadtest.latency.sweep import knee, write_sweep
from loadtest.latency.sweep_plot import Series
from loadtest.loop.blocks import Second, bucket_ms, percentile_us, read_seconds, write_seconds
from loadtest.loop.compare import MACHINE, Comparison
from loadtest.loop.flame_graph import differential, write_flame_graph
from loadtest.loop.functions import changes, per_request
from loadtest.loop.memory import fit
from loadtest.loop.same_code import CULPRIT, PairTally, plant
from loadtest.loop.shapes import users_at
from loadtest.loop.stacks import from_event_loop, from_speedscope, read, tree, write
from loadtest.report.machine import environment
from loadtest.report.noise import FIGURES, compare_figure, median_interval
from loadtest.report.result_folder import STACKS_FILE, write_summary
from server.compiled.kept import read_kept, write_kept
from tests.support.servers import eventually

CPU = next(figure for figure in FIGURES if figure.key == "cpu_us_per_request")


def test_latencies_below_a_millisecond_keep_three_digits() -> None:
    assert [bucket_ms(value) for value in (0.0234, 0.3456, 3.456, 34.56, 345.6)] == [
        0.023,
        0.346,
        3.46,
        34.6,
        346.0,
    ]


def test_seconds_of_several_load_processes_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid in (1, 2):
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        second = Second()
        for milliseconds in (0.2, 0.4, 0.8):
            second.add(milliseconds, failed=milliseconds > 0.5)
        write_seconds({100: second}, tmp_path)
    both = read_seconds(tmp_path)[100]
    assert (both.responses, both.failures) == (6, 2)
    assert (percentile_us(both, 50), percentile_us(both, 99)) == (400.0, 800.0)


def test_percentiles_are_those_of_the_latencies() -> None:
    found = percentiles_us(np.arange(1, 100_001, dtype=np.int64) * 1000)
    assert found["p50_us"] == pytest.approx(50_000, rel=2e-3)
    assert found["p999_us"] == pytest.approx(99_900, rel=2e-3)


def test_seconds_of_one_distribution_are_the_same() -> None:
    random = np.random.default_rng(0)
    verdicts = [
        compare_figure(CPU, random.normal(30, 1, 12).tolist(), random.normal(30, 1, 12).tolist()).verdict
        for _ in range(100)
    ]
    assert verdicts.count("same") == 100


def test_a_change_beyond_floor_and_spread_is_named_in_either_direction() -> None:
    low, high = [30.0, 31.0, 30.5, 29.5, 30.2], [50.0, 51.0, 49.0, 50.5, 50.2]
    assert compare_figure(CPU, low, high).verdict == "worse"
    assert compare_figure(CPU, high, low).verdict == "better"


def summary(folder: Path, name: str, cpu_us: float | None, others: float) -> None:
    """A run of ten seconds whose server took so much CPU for a request."""
    seconds = [
        {
            **dict.fromkeys([figure.key for figure in FIGURES], 1.0),
            "cpu_us_per_request": None if cpu_us is None else cpu_us + second % 3,
            "measured": True,
            "others_cpu_share": others,
        }
        for second in range(10)
    ]
    document = {
        "name": name,
        "environment": {**dict.fromkeys((*MACHINE, "commit"), "x"), "settings": {}},
        "totals": {"cpu_us_per_request": cpu_us},
        "profile": {},
        "seconds": seconds,
    }
    (folder / name).mkdir()
    write_summary(document, folder / name)


@pytest.mark.parametrize(
    ("cpu_us", "others", "code", "verdict"),
    [
        (80.0, 0.9, 1, "worse"),
        (44.0, 0.9, 0, "same"),
        (20.0, 0.9, 0, "better"),
        (None, 0.0, 3, "unknown"),
        (50.0, 0.0, 1, "worse"),
        (50.0, 0.9, 0, "same"),
    ],
)
def test_cpu_decides_on_a_busy_machine_too_and_the_exit_code_says_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    cpu_us: float | None,
    others: float,
    code: int,
    verdict: str,
) -> None:
    summary(tmp_path, "a", 40.0, others)
    summary(tmp_path, "b", cpu_us, others)
    assert loadtest(["compare", "a", "b", "--results", str(tmp_path), "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == code
    assert told["figures"]["cpu_us_per_request"]["verdict"] == verdict
    assert told["figures"]["p50_us"]["verdict"] == ("unknown" if others else "same")


@pytest.mark.parametrize(
    ("cpu_us", "after", "code", "words"),
    [
        (48.0, {"door": 500, "margin": 700}, 3, "functions grew (margin +8.0 us)"),
        (40.0, {"door": 500, "moved": 500}, 0, "No difference beyond the noise in what can be told"),
        (40.5, {"door": 500, "margin": 512}, 0, "No difference beyond the noise in what can be told"),
        (80.0, {"door": 500, "margin": 1500}, 1, "Different: server CPU per request"),
    ],
)
def test_exit_code_is_never_0_where_functions_are_named_that_grew(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    cpu_us: float,
    after: dict[str, int],
    code: int,
    words: str,
) -> None:
    for name, us, samples in (("a", 40.0, {"door": 500, "margin": 500}), ("b", cpu_us, after)):
        summary(tmp_path, name, us, others=0.9)
        lines = [f"loop;{f} (a.py) {count}\n" for f, count in samples.items()]
        (tmp_path / name / STACKS_FILE).write_text("".join(lines))
    assert loadtest(["compare", "a", "b", "--results", str(tmp_path), "--json"]) == code
    assert words in json.loads(capsys.readouterr().out)["conclusion"].replace(" (a.py)", "")


def test_of_a_busy_machine_no_timing_is_concluded() -> None:
    low, high = [30.0] * 8, [60.0] * 8
    assert {compare_figure(f, low, high, busy=True).verdict for f in FIGURES if f.busy_floor is None} == {
        "unknown"
    }


def test_a_function_that_grew_comes_first() -> None:
    before = {"loop;door (wire/fast_path.py)": 500, "loop;predict (model/predictor.py)": 500}
    after = {**before, "loop;predict (model/predictor.py)": 1500}
    first, *_ = changes(before, after, 20.0, 40.0)
    assert first.name == "predict (model/predictor.py)"
    assert (first.change_us, first.is_noise) == (20.0, False)


def test_c_code_is_answered_for_by_the_python_function_that_calls_it() -> None:
    stacks = {"run (serve.py);margin (model/predictor.py);[onnxruntime]": 10}
    assert changes({}, stacks, 0.0, 10.0)[0].name == "margin (model/predictor.py)"


def test_neighbouring_seconds_are_resampled_together() -> None:
    """A neighbour's trouble of some seconds, in one run and not in the other, is no difference."""
    random = np.random.default_rng(3)
    verdicts = []
    for _ in range(100):
        calm, troubled = random.normal(30, 0.5, (2, 12))
        troubled[4:8] += 12.0
        verdicts.append(compare_figure(CPU, calm.tolist(), troubled.tolist()).verdict)
    assert verdicts.count("same") == 100


def test_a_loop_is_planted_in_a_copy_of_the_server_and_found_by_its_name(tmp_path: Path) -> None:
    folder = plant(tmp_path, 20.0)
    source = (folder / "server" / "model" / "predictor.py").read_text()
    assert source.count("while time.perf_counter_ns() < until") == 1
    ours = "from server.model.predictor import Predictor as p; print(p._margin_of_graph.__code__.co_filename)"
    done = subprocess.run(
        [sys.executable, "-c", ours], cwd=folder, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()) == folder / "server" / "model" / "predictor.py"
    before = {
        f"loop;{CULPRIT}": 500,
        "loop;write (wire/fast_path.py)": 500,
    }
    after = {**before, f"loop;{CULPRIT}": 1500}
    grown, same = changes(before, after, 20.0, 40.0), changes(before, before, 20.0, 20.0)
    pair = Comparison({}, {}, [], same, [])
    assert PairTally([pair] * 10, Comparison({}, {}, [], grown, [])).passed
    assert not PairTally([pair] * 10, pair).passed


def test_few_samples_are_noise() -> None:
    assert changes({"a.py": 500, "b.py": 500}, {"a.py": 520, "b.py": 480}, 20.0, 20.0)[0].is_noise
    assert changes({"a.py": 12, "b.py": 24}, {"b.py": 40}, 60.0, 60.0)[0].is_noise


def test_waiting_is_no_work_and_lines_are_one_function(tmp_path: Path) -> None:
    frames = [
        {"name": "serve", "file": "/x/server/process/single.py", "line": 1},
        {"name": "answer", "file": "/x/server/scoring/one_row.py", "line": 5},
        {"name": "answer", "file": "/x/server/scoring/one_row.py", "line": 9},
        {"name": "epoll_pwait", "file": "/lib/libc.so.6", "line": 0},
        {"name": "0x7f01", "file": "/lib/libfoo.so.6", "line": 0},
    ]
    profile = {"samples": [[0, 1], [0, 2], [0, 3], [0, 1, 4]], "weights": [1, 1, 1, 1]}
    file = tmp_path / "speedscope.json"
    file.write_text(json.dumps({"shared": {"frames": frames}, "profiles": [profile]}))
    stacks = from_speedscope(file)
    inner = "serve (process/single.py);answer (scoring/one_row.py)"
    assert stacks == {inner: 2, inner + ";[libfoo]": 1}
    write(stacks, tmp_path / "folded")
    assert read(tmp_path / "folded") == stacks


def test_a_tree_holds_values_and_changes_of_a_frame_and_all_it_calls() -> None:
    before, after = per_request({"a;b": 1, "a;c": 1}, 10.0), per_request({"a;b": 3, "a;d": 1}, 20.0)
    deltas = {stack: after.get(stack, 0.0) - before.get(stack, 0.0) for stack in before.keys() | after.keys()}
    root = tree(after, deltas)
    (a,) = root["children"]
    assert (root["value"], root["delta"]) == (20.0, 10.0)
    assert (a["value"], a["delta"]) == (20.0, 10.0)
    assert {child["name"]: child["delta"] for child in a["children"]} == {"b": 10.0, "d": 5.0}


def test_a_flame_graph_is_of_python_at_work_and_names_keep_their_beginning(tmp_path: Path) -> None:
    stacks = {
        "main (x.py);Loop__run (loop.so);HotrowProtocol.data_received (wire/fast_path.py);run [onnx]": 700,
        "main (x.py);Loop__run (loop.so);HotrowProtocol.data_received (wire/fast_path.py)": 280,
        "main (x.py);Loop__run (loop.so);a_function_of_a_very_long_name_indeed (wire/<&>.py)": 20,
    }
    write_flame_graph(stacks, tmp_path / "graph.svg")
    root = ElementTree.parse(tmp_path / "graph.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    shapes = {
        str(group.findtext(f"{space}title")): (group.find(f"{space}rect"), group.findtext(f"{space}text"))
        for group in root.findall(f"{space}g")
    }
    assert set(shapes) == {
        "all: 100.0%",
        "event loop: 100.0%",
        "HotrowProtocol.data_received (wire/fast_path.py): 98.0%",
        "a_function_of_a_very_long_name_indeed (wire/<&>.py): 2.0%",
    }
    _, wide = shapes["HotrowProtocol.data_received (wire/fast_path.py): 98.0%"]
    narrow_shape, narrow = shapes["a_function_of_a_very_long_name_indeed (wire/<&>.py): 2.0%"]
    assert wide == "HotrowProtocol.data_received (wire/fast_path.py)"
    assert narrow is not None
    assert narrow.removesuffix("…") in "a_function_of"
    assert narrow_shape is not None
    assert float(narrow_shape.attrib["width"]) == pytest.approx(0.02 * 1200)


def test_a_differential_flame_graph_tells_what_grew_and_what_vanished() -> None:
    in_after, in_before = differential({"a;b": 5.0, "a;c": 5.0}, {"a;b": 9.0})
    assert "b: 9.00 us of a request, +4.00 us" in in_after
    assert "c: " not in in_after
    assert "c: 5.00 us of a request, -5.00 us" in in_before
    titles = ElementTree.fromstring(in_before).iter("{http://www.w3.org/2000/svg}title")
    assert next(title.text for title in titles) == "all: 10.00 us of a request, -1.00 us"


def test_the_transport_in_process_can_do_all_that_a_protocol_may_ask() -> None:
    public = [name for name in dir(asyncio.Transport) if not name.startswith("_")]
    inherited = [name for name in public if getattr(Nowhere, name) is getattr(asyncio.Transport, name)]
    # What is left is made of the others, or is for subclasses that have sockets.
    assert set(inherited) <= {"writelines", "get_protocol"}


def test_stacks_begin_at_the_event_loop() -> None:
    stack = "main (x.py);Runner.run (asyncio/runners.py);uv_run (core.c);Py_DECREF (o.c);data_received (p.py)"
    assert from_event_loop({stack: 1.0}) == {"event loop;data_received (p.py)": 1.0}


def _result(rate: float, p99_us: float, achieved: float | None = None) -> LatencyResult:
    latency = {"p50_us": p99_us / 2, "p99_us": p99_us, "p999_us": p99_us * 2, "max_us": p99_us * 3}
    return LatencyResult(
        rate, rate, achieved or rate, 1000, 0, 0, latency, latency, latency, 1.0, limited=False
    )


def test_the_knee_is_the_last_rate_before_latency_or_answers_give_way() -> None:
    assert knee([_result(100, 1.0), _result(200, 2.0), _result(300, 9.0)]) == 1
    assert knee([_result(100, 1.0), _result(200, 1.0, achieved=150)]) == 0
    assert knee([_result(100, 1.0), _result(200, 1.0)]) is None
    assert knee([_result(100, 1.0)._replace(limited=True), _result(200, 9.0)]) is None


def test_a_sweep_is_a_plot_and_a_page_that_need_no_network(tmp_path: Path) -> None:
    points = [_result(rate, p99) for rate, p99 in ((100, 900.0), (200, 1200.0), (300, 90_000.0))]
    series = [Series(1, "async", points, 1), Series(2, "off", points[:2], None)]
    write_sweep(series, environment(), tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in page
    assert "http://" not in page
    assert "knee" in page


def test_shapes_reach_their_peak_and_hold_it() -> None:
    for shape in ("steady", "ramp", "spike", "soak"):
        assert users_at(shape, 40, 10.0, 11.0) == 40
    assert [users_at("ramp", 40, 8.0, at) for at in (0.0, 4.0, 7.9)] == [5, 25, 40]
    assert [users_at("spike", 40, 10.0, at) for at in (1.0, 5.0, 7.0)] == [10, 40, 10]


def test_memory_that_grows_with_the_requests_is_a_leak_and_noise_is_none() -> None:
    noise = np.random.default_rng(0).normal(0, 4096, 30)
    steady = [(1000 * i, int(80e6 + noise[i])) for i in range(30)]
    growing = [(1000 * i, int(80e6 + 100 * 1000 * i + noise[i])) for i in range(30)]
    assert not fit(steady).is_leak
    assert fit(growing).is_leak
    assert fit(growing).kib_per_million == pytest.approx(100e6 / 1024, rel=0.01)


def test_what_is_added_is_the_median_of_neighbouring_rounds() -> None:
    drifting = [10.0 + i for i in range(21)]
    random = np.random.default_rng(0)
    rounds = Rounds("", drifting, [off + 2.0 + random.normal(0, 0.1) for off in drifting], 2.5)
    added, low, high = rounds.added
    assert added == pytest.approx(2.0, abs=0.1)
    assert low < added < high < low + 0.3


def test_a_worker_that_counts_and_logs_is_measured_beside_one_that_does_neither(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtest.bench.overhead.WARM_UP_SECONDS", 0)
    rounds = asyncio.run(in_process(three, tmp_path, rounds=3))
    assert len(rounds.off) == len(rounds.on) == 3
    assert min(rounds.off + rounds.on) > 0
    lines = b"".join(file.read_bytes() for file in (tmp_path / "full").glob("*.jsonl")).count(b"\n")
    assert lines == 3 * CALLS
    assert not (tmp_path / "silent").exists()


def test_the_gate_names_what_became_dearer() -> None:
    gate = Gate(0.7, 0.15, 100.0, 30.0)
    assert judge_ratio(median_interval([0.80] * 15), gate) == []
    assert "got 0.900" in judge_ratio(median_interval([0.90] * 15), gate)[0]
    from loadtest.bench.allocations import Counts

    assert judge_counts(Counts(100.0, 30.0), gate) == []
    assert "allocations" in judge_counts(Counts(110.0, 30.0), gate)[0]


def test_disturbed_rounds_neither_fail_the_gate_nor_are_committed_to() -> None:
    gate = Gate(0.7, 0.15, 100.0, 30.0)
    disturbed = [0.7] * 9 + [1.4] * 6
    assert judge_ratio(median_interval(disturbed), gate) == []
    assert not is_sure(median_interval(disturbed))
    assert is_sure(median_interval([0.7, 0.705, 0.71] * 5))


def test_no_module_takes_the_name_of_another_library() -> None:
    """Locust puts `loadtest/` first on the path, where its modules would be found instead."""
    ours = {path.stem for path in Path("loadtest").iterdir()} - {"__init__", "__main__", "__pycache__"}
    libraries: dict[str, Any] = dict(packages_distributions())
    assert not ours & (sys.stdlib_module_names | libraries.keys())


@pytest.mark.parametrize(("words", "seconds"), [("500.00ms", 0.5), ("10.01s", 10.01), ("1.50m", 90.0)])
def test_figures_of_wrk_are_read_whatever_their_units(words: str, seconds: float) -> None:
    output = f"""  71 requests in {words}, 12.71MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5"""
    assert read_wrk(output) == WrkFigures(71, seconds, 5, 1, 2, 3, 4)
    assert read_wrk("  0 requests in 2.00s, 0B read") is None


def test_memory_of_workers_counts_as_that_of_one() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & wait"]) as parent:
        try:
            eventually(lambda: len(workers_of(parent.pid)) == 2)
            found = pss_mb(parent.pid)
        finally:
            for child in workers_of(parent.pid):
                child.kill()
    assert list(found) == ["the first process", "a worker", "others", "together"]
    assert found["together"] == found["the first process"] + found["a worker"] > found["others"] == 0.0


def test_margins_of_families_are_compared_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compare = ["bench", "compiled", "--families", "DecisionTree", "--rows", "500"]
    assert loadtest(compare) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["| DecisionTreeRegressor | 500 | 0 of 500 |"]
    (path,) = tmp_path.rglob("*.o")
    kept = read_kept(path)
    assert kept is not None
    assert kept.tables is not None
    write_kept(path, kept._replace(tables=[t._replace(weights=t.weights + 1) for t in kept.tables]))
    assert loadtest(compare) == 1
    assert capsys.readouterr().out.splitlines()[2:] == ["| DecisionTreeRegressor | 500 | 500 of 500 |"]
