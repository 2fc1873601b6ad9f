"""Models that are damaged, and models exchanged again and again: F11 and F12."""

import functools
import hashlib
import logging
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from export.assemble import write_conversion
from loadtest.faults.outcome import FaultOutcome
from loadtest.faults.scene import Scene, Served
from loadtest.harness.instances import wait_until
from loadtest.harness.recording_client import Load
from loadtest.harness.reference_rows import ReferenceRow, scored
from loadtest.harness.scrape import scrape, total
from loadtest.harness.subject import free_port, python
from server.cli import COULD_NOT_START
from server.errors import HotrowError
from server.model.bundle import GRAPH_FILE, Bundle
from server.model.files import MANIFEST_FILE
from server.model.predictor import Predictor
from server.process.model_check import check_models
from server.publish.publication import publish
from server.publish.running_server import RunningServer, ServerError
from server.settings import Settings

GROWTH_MB = 20.0
SPARSE_BYTES = 10 * 2**30
#: How a process that tried a model ended.
ACCEPTED, REFUSED, OTHERWISE, SCORED_WRONG = 0, 1, 2, 3

Change = Callable[[bytes, random.Random], bytes]


def _truncated(content: bytes, choose: random.Random) -> bytes:
    return content[: choose.randrange(len(content))]


def _flipped(content: bytes, choose: random.Random) -> bytes:
    at = choose.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << choose.randrange(8)]) + content[at + 1 :]


def _zeroed(content: bytes, choose: random.Random) -> bytes:
    at, length = choose.randrange(len(content)), choose.randrange(1, 512)
    return content[:at] + bytes(len(content[at : at + length])) + content[at + length :]


def _doubled(content: bytes, choose: random.Random) -> bytes:
    at = choose.randrange(len(content))
    return content[:at] + content[at // 2 :]


CHANGES: tuple[Change, ...] = (_truncated, _flipped, _zeroed, _doubled)


class Mutation(NamedTuple):
    """A damage to a model folder; `signed` if every hash in the manifest agrees with the files afterwards."""

    words: str
    apply: Callable[[Path], object]
    signed: bool


def mutations(bundle: Bundle, count: int, seed: int) -> Iterator[Mutation]:
    """So many damages, in turn of every kind."""
    choose = random.Random(seed)
    names = [MANIFEST_FILE, *bundle.manifest["files"]]
    for i in range(count):
        if i % 25 == 0:
            yield _whole_file(i // 25, choose.choice(names))
            continue
        signed = i % 5 < 3
        name = GRAPH_FILE if signed else choose.choice(names)
        change, own = CHANGES[i % len(CHANGES)], random.Random(choose.random())
        yield Mutation(
            f"{name} {change.__name__.strip('_')}" + (", hash renewed" if signed else ""),
            functools.partial(_change, name, change, own, signed),
            signed or name == MANIFEST_FILE,  # which nothing has a hash of
        )


def _change(name: str, change: Change, choose: random.Random, signed: bool, folder: Path) -> None:
    file = folder / name
    content = change(file.read_bytes(), choose)
    file.write_bytes(content)
    if signed:
        manifest = orjson.loads((file.parent / MANIFEST_FILE).read_bytes())
        manifest["files"][file.name] = hashlib.sha256(content).hexdigest()
        (file.parent / MANIFEST_FILE).write_bytes(orjson.dumps(manifest))


def _whole_file(number: int, name: str) -> Mutation:
    def symlink(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    kinds: dict[str, Callable[[Path], object]] = {
        "missing": lambda folder: (folder / name).unlink(),
        "empty": lambda folder: (folder / name).write_bytes(b""),
        "text": lambda folder: (folder / name).write_text("this is no model\n"),
        "symlink": symlink,
        "sparse": lambda folder: os.truncate(folder / name, SPARSE_BYTES),
    }
    word, damage = list(kinds.items())[number % len(kinds)]
    return Mutation(f"{name} {word}", damage, signed=False)


def damaged(scene: Scene, outcome: FaultOutcome) -> None:
    """500 folders truncated, flipped, zeroed, emptied, linked, 10 GB sparse; at starts and at reloads."""
    logging.getLogger("server").setLevel(logging.CRITICAL)
    ends: Counter[int] = Counter()
    unsigned_accepted: list[str] = []
    forged: list[str] = []
    for mutation in mutations(scene.bundle, scene.times(500, 50), seed=1):
        folder = _damaged_copy(scene, mutation)
        end = _tried(folder, scene)
        ends[end] += 1
        if end == ACCEPTED and not mutation.signed:
            unsigned_accepted.append(mutation.words)
        if end == SCORED_WRONG:
            (forged if mutation.signed else unsigned_accepted).append(mutation.words)
        shutil.rmtree(folder.parent)
    crashes = sum(count for end, count in ends.items() if end < 0)
    outcome.figures["damaged folders"] = (
        f"{ends.total()}: {ends[REFUSED]} refused, {ends[ACCEPTED]} as good as before, "
        f"{crashes} crashed ONNX Runtime in the process that tries them"
    )
    outcome.expect_none("served whose hashes do not agree", unsigned_accepted)
    # No hash can tell a manifest that was made to agree from a model that was exported so.
    outcome.figures["forged ones that pass the golden rows and score another row otherwise"] = (
        "; ".join(forged) or "0"
    )
    outcome.expect_none("ended by another exception than a sentence", ends[OTHERWISE])
    _at_start(scene, outcome)
    _at_reload(scene, outcome)


def _damaged_copy(scene: Scene, mutation: Mutation) -> Path:
    folder = scene.new_folder() / "model"
    shutil.copytree(scene.bundle.directory, folder)
    mutation.apply(folder)
    return folder


def _tried(folder: Path, scene: Scene) -> int:
    """Try a folder in a process of its own; how that ended, -n by signal n."""
    pid = os.fork()
    if pid == 0:
        end = OTHERWISE
        try:
            end = _try(folder, scene)
        finally:
            os._exit(end)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _try(folder: Path, scene: Scene) -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        check_models(Settings.read({}, model=(folder,), log_mode="off"))
        bundle = Bundle.load(folder)
    except HotrowError:
        return REFUSED
    predictor, threshold = Predictor(bundle), scene.bundle.decision.threshold
    for row in scene.rows:
        try:
            response = predictor.predict(bundle.schema.encode(row.fields))
        except HotrowError:
            return SCORED_WRONG
        if response not in {(score, int(score >= threshold)) for score in row.scores.values()}:
            return SCORED_WRONG
    return ACCEPTED


def _at_start(scene: Scene, outcome: FaultOutcome) -> None:
    """Real starts, with one worker and with two."""
    tried = list(mutations(scene.bundle, scene.times(75, 26), seed=2))
    chosen = [mutation for mutation in tried if not mutation.signed][:: 2 if not scene.short else 6]
    bad = []
    for i, mutation in enumerate(chosen):
        folder = _damaged_copy(scene, mutation)
        options = ("--model", str(folder), "--port", str(free_port()), "--workers", str(1 + i % 2))
        done = subprocess.run(
            python("-m", "server", *options),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "HOTROW_LOG_DIR": str(folder.parent / "logs")},
        )
        sentence = done.stderr.startswith("expected ") and done.stderr.count("\n") == 1
        if done.returncode != COULD_NOT_START or not sentence:
            bad.append(f"{mutation.words}: exit {done.returncode}")
        shutil.rmtree(folder.parent)
    outcome.expect(f"one sentence and exit 3 at each of {len(chosen)} starts", not bad, bad or "so")


def _at_reload(scene: Scene, outcome: FaultOutcome) -> None:
    """A running server is given damaged folders; its clients notice nothing."""
    wanted = list(mutations(scene.bundle, scene.times(40, 10), seed=3))[:: 4 if not scene.short else 5]
    served_folder = scene.new_folder() / "served"
    shutil.copytree(scene.bundle.directory, served_folder)
    good = scene.new_folder() / "good"
    shutil.copytree(served_folder, good)
    with scene.serve(model=served_folder) as served:
        with Load(served.url, scene.rows, rate=200.0) as clients:
            refused = 0
            for mutation in wanted:
                mutation.apply(served_folder)
                refused += _refuses(served)
                shutil.rmtree(served_folder)
                shutil.copytree(good, served_folder)
        failures = total(scrape(served.url), "hotrow_model_reloads_total", result="failed")
        taken = not _refuses(served)
    outcome.add_logged(clients.records, served.logs)
    outcome.figures["reloads of damaged folders"] = f"{len(wanted)}, of which {refused} refused"
    outcome.expect("the good folder taken afterwards", taken)
    outcome.expect("every refusal counted", failures == refused, f"{failures:g} of {refused}")
    outcome.expect(
        "0 responses but 200 meanwhile", not outcome.failed and not outcome.shed, dict(outcome.failed) or "0"
    )
    outcome.expect_exact_log()


def _refuses(served: Served) -> bool:
    """Tell the server to reload; whether it refused."""
    try:
        RunningServer(served.pid, served.url).reload()
    except ServerError:
        return True
    return False


def reload_storm(scene: Scene, outcome: FaultOutcome) -> None:
    """Two models in turn: 100 reloads of 1 worker, 20 of 2, by publication and SIGHUP."""
    other = another(scene)
    rows = scored([scene.bundle, other], [row.fields for row in scene.rows])
    for workers, times in ((1, scene.times(100, 4)), (2, scene.times(20, 2))):
        _storm(scene, outcome, (scene.bundle, other), rows, workers, times)
    outcome.expect(
        "0 responses but 200", not outcome.failed and not outcome.shed, dict(outcome.failed) or "0"
    )
    outcome.expect_exact_log()


def _storm(
    scene: Scene,
    outcome: FaultOutcome,
    bundles: tuple[Bundle, Bundle],
    rows: list[ReferenceRow],
    workers: int,
    times: int,
) -> None:
    folder = scene.new_folder() / "served"
    shutil.copytree(bundles[0].directory, folder)
    warm = max(2, times // 10)
    with scene.serve(workers=workers, model=folder) as served:
        server, base_mb, slowest = RunningServer(served.pid, served.url), 0.0, 0.0
        with Load(served.url, rows, clients=16, rate=500.0) as clients:
            for i in range(times + warm):
                if i == warm:
                    base_mb = served.rss_mb()
                publish(bundles[(i + 1) % 2].directory, folder)
                began = time.monotonic()
                server.reload()
                slowest = max(slowest, time.monotonic() - began)
            wait_until(lambda: len(served.workers()) == workers, "the old workers to end", 30.0)
            grown_mb = served.rss_mb() - base_mb
        code = served.end()
    outcome.add_logged(clients.records, served.logs)
    models = Counter(response.model for response in clients.records.responses.values())
    words = f"{times} reloads, {workers} worker" + ("s" if workers > 1 else "")
    outcome.figures[words] = ", ".join(
        f"{count:,} answers of {model}" for model, count in sorted(models.items())
    )
    outcome.figures[f"slowest reload, {workers} at work"] = f"{slowest:.1f} s"
    outcome.expect(f"responses of both models ({words})", len(models) == 2, dict(models))
    outcome.expect_at_most(f"memory grown ({words})", grown_mb, GROWTH_MB, "MB")
    outcome.expect("exit code 0", code == 0, code)


def another(scene: Scene) -> Bundle:
    """A model of the same features and name with half of the trees."""
    import lightgbm

    from export.lightgbm.model import convert_lightgbm

    bundle = scene.bundle
    booster = lightgbm.Booster(model_file=str(bundle.directory / bundle.manifest["source"]["file"]))
    half = booster.model_to_string(num_iteration=max(1, booster.num_trees() // 2))
    return write_conversion(
        scene.new_folder() / "other",
        convert_lightgbm(half),
        schema=bundle.schema,
        name=bundle.name,
        version=f"{bundle.version}-half",
        decision=bundle.decision,
        golden=[dict(golden.fields) for golden in bundle.golden_rows()],
    )
