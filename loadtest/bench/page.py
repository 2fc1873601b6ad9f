"""`python -m loadtest bench page`: from moving a slider to the verdict on screen, and a file beside others.

A real browser moves a slider of the page while wrk loads `/predict` at half of the
rate it takes at most, and once more without load. A move is measured in the page,
from the event to the frame after the new verdict; the server's part is what it says
itself (`Server-Timing`). Then 100,000 rows are scored from a file in the page, and
single rows are asked for beside it, 100 a second, latency from the intended time.
"""

import argparse
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.bench.batch import write_rows
from loadtest.bench.rows import JSON_HEADERS, RowsClient
from loadtest.harness.bodies import golden_bodies, paced, wrk_script
from loadtest.harness.closed_loop import drive, read_wrk, wrk
from loadtest.harness.meanwhile import meanwhile
from loadtest.harness.subject import LoadTestError, Subject, python
from loadtest.harness.target import add_model, started
from server.model.bundle import Bundle

MOVES, ROWS = 200, 100_000
#: Each connection of the half load asks, and asks again so long after its response.
DELAY_SECONDS = 0.02
PROBES_A_SECOND = 100

#: One move: the time from the event to the frame that follows the new verdict.
_MOVE = """share => new Promise(done => {
  const [slider] = document.querySelectorAll('.slider input[type=range]');
  const shown = document.querySelector('#right');
  const seen = new MutationObserver(() => {
    seen.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
  });
  seen.observe(shown, { childList: true });
  slider.value = Math.round(slider.max * share);
  const began = performance.now();
  slider.dispatchEvent(new Event('input', { bubbles: true }));
})"""
_SERVER_PARTS = """() => performance.getEntriesByType('resource')
  .filter(entry => entry.name.endsWith('/page/what-if'))
  .map(entry => entry.serverTiming[0].duration)"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--moves", type=int, default=MOVES, metavar="N", help="moves of a slider [200]")
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help="rows of the file [100000]")


def main(options: argparse.Namespace) -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder, page = Path(name), python("-m", "ui")
        with started(options.model, folder, command=page) as subject:
            measure(subject, Bundle.load(options.model), folder, options.moves, options.rows)
    return 0


def measure(subject: Subject, bundle: Bundle, folder: Path, moves: int, rows: int) -> None:
    """All figures of one running page."""
    script = wrk_script(golden_bodies(bundle), folder / "rows.lua")
    peak = drive(subject, "/predict", 3, script).requests_per_second
    print(f"/predict at most: {peak:,.0f} a second")
    with page_of(subject.url) as page:
        page.locator(".example").first.click()
        page.locator("#tab-what-if").click()
        page.locator("#right .panel").wait_for()
        told("slider to verdict, no load", *slide(page, moves))
        with half_load(subject, script, peak / 2) as load:
            figures = slide(page, moves)
        told(f"slider to verdict, {load[0]:,.0f} of /predict a second", *figures)
        table = folder / "rows.csv"
        write_rows(bundle, table, rows)
        body = golden_bodies(bundle)[0]
        print(f"/predict beside nothing:   {latencies(subject.url, body, lambda: time.sleep(5))}")
        print(f"/predict beside {rows:,} rows: {latencies(subject.url, body, lambda: score(page, table))}")


@contextmanager
def page_of(url: str) -> Iterator[Any]:
    """The page in a browser of its own; raises `LoadTestError` without one."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise LoadTestError("expected chromium to be installed, found none: run `make system` as root")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        page.locator("#form .decide").wait_for()
        yield page
        browser.close()


def slide(page: Any, moves: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each move on screen, and the server's part of each."""
    page.evaluate(
        "() => { performance.clearResourceTimings(); performance.setResourceTimingBufferSize(1e5); }"
    )
    on_screen = [page.evaluate(_MOVE, (i * 37 % 100) / 100) for i in range(moves)]
    return on_screen, page.evaluate(_SERVER_PARTS)


def told(name: str, on_screen: list[float], server: list[float]) -> None:
    """Print what a run of moves came to."""
    shown = [f"{np.percentile(on_screen, p):.1f}" for p in (50, 95)]
    parts = [f"{np.percentile(server, p):.2f}" for p in (50, 95)]
    print(f"{name}: median {shown[0]} ms (p95 {shown[1]}), the server's part {parts[0]} ms (p95 {parts[1]})")


@contextmanager
def half_load(subject: Subject, script: Path, rate: float) -> Iterator[list[float]]:
    """wrk at about this rate meanwhile; the rate it had stands in the list afterwards."""
    slower = script.with_name("paced.lua")
    slower.write_text(script.read_text())
    paced(slower, DELAY_SECONDS * 1000)
    command = wrk(subject.url + "/predict", 600, max(1, round(rate * DELAY_SECONDS)), slower)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    had = [0.0]
    try:
        yield had
    finally:
        process.send_signal(signal.SIGINT)  # wrk then says what it did
        output, _ = process.communicate(timeout=10)
    if found := read_wrk(output):
        had[0] = found.requests / found.seconds


def latencies(url: str, body: bytes, act: Callable[[], object]) -> str:
    """Percentiles of `/predict`, from the intended time of each request, while something goes on."""
    found: list[float] = []
    with meanwhile(partial(_probe, url, body, found)):
        act()
    p50, p99, most = np.percentile(found, (50, 99, 100)) * 1000
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {most:.1f} ms, of {len(found):,}"


def _probe(url: str, body: bytes, found: list[float], ended: threading.Event) -> None:
    client = RowsClient(url, "/predict", body, JSON_HEADERS)
    intended = time.perf_counter()
    while not ended.is_set():
        intended += 1 / PROBES_A_SECOND
        time.sleep(max(0.0, intended - time.perf_counter()))
        client.ask()
        found.append(time.perf_counter() - intended)


def score(page: Any, table: Path) -> None:
    """Score a file in the page, and say how fast that went."""
    page.locator("#tab-many").click()
    page.locator("#file").set_input_files(table)
    page.locator(".preview .score").click()
    began = time.perf_counter()
    page.locator(".summary .figures strong").first.wait_for(timeout=600_000)
    rows = page.locator(".summary .figures strong").first.inner_text()
    print(f"a file of {rows} rows in {time.perf_counter() - began:.1f} s")
