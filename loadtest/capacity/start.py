"""`python -m loadtest start`: seconds until a server is ready, and the memory it has at rest.

With `--code` those of another checkout beside, both in turn. Seconds count from the start of the
process to the first response; memory is PSS, in which a page that several share counts once, of
the first process (of several workers their parent), of a worker and of what writes the log, after
rows that warm it.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import orjson

from loadtest.harness.http_bytes import exchange, post
from loadtest.harness.instances import wait_until
from loadtest.harness.subject import family, workers_of
from loadtest.harness.target import add_model, started

ROWS = 1000
#: Then what was taken for the rows has been given back.
REST_SECONDS = 2.0
SECONDS, TOGETHER = "seconds to the first response", "together"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes [1]")
    parser.add_argument("--times", type=int, default=5, metavar="N", help="starts of each [5]")
    parser.add_argument("--code", type=Path, metavar="DIR", help="another checkout, with its own model")


def main(options: argparse.Namespace) -> int:
    """Start each in turn, and print the medians."""
    sides: dict[str, tuple[Path, Path | None]] = {"this": (options.model, None)}
    if options.code:
        sides[str(options.code)] = (options.code / options.model, options.code)
    found: dict[str, dict[str, list[float]]] = {side: defaultdict(list) for side in sides}
    for _ in range(options.times):
        for side, (model, code) in sides.items():
            for name, figure in _start(model, code, options.workers).items():
                found[side][name].append(figure)
    for side, figures in found.items():
        print(f"{side}, --workers {options.workers}, medians of {options.times}:")
        for name, values in figures.items():
            print(f"    {name:30} {median(values):6.2f}{'' if name == SECONDS else ' MB'}")
    return 0


def _start(model: Path, code: Path | None, workers: int) -> dict[str, float]:
    golden = (model / "golden.jsonl").read_bytes().splitlines()  # by itself: the bundle may be an older one
    rows = [post("/predict", orjson.dumps(orjson.loads(line)["row"])) for line in golden]
    with tempfile.TemporaryDirectory(prefix="hotrow-start-") as folder:
        began = time.monotonic()
        with started(model, Path(folder), ["--workers", str(workers)], code=code) as subject:
            seconds = time.monotonic() - began
            wait_until(
                lambda: len(workers_of(subject.pid)) == (workers if workers > 1 else 0), "workers", 30.0
            )
            exchange(subject.url, *islice(cycle(rows), ROWS))
            time.sleep(REST_SECONDS)
            return {SECONDS: seconds, **pss_mb(subject.pid)}


def pss_mb(pid: int) -> dict[str, float]:
    """By role; of several workers the mean, and of them one in what all take together."""
    workers = workers_of(pid)
    sizes = {process.pid: process.memory_full_info().pss / 1e6 for process in family(pid)}
    found = {"the first process": sizes.pop(pid)}
    if workers:
        found["a worker"] = sum(sizes.pop(worker.pid) for worker in workers) / len(workers)
    found["others"] = sum(sizes.values())
    return {**found, TOGETHER: sum(found.values())}
