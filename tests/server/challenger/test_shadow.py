"""What a challenger's process makes of what was answered, for every task, without the process."""

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from server.challenger.shadow import Shadow
from server.log.challengers import Challengers
from server.log.ring import NO_MARGIN, Ring, ring_bytes
from server.model.bundle import Bundle
from server.model.predictor import Predictor
from server.scoring.one_row import make_scorer
from tests.support.bundles import ROW, THREE_FEATURES, edit, rewritten, sample_rows
from tests.support.monitored import house_bundle, houses

SLOTS = {"same": 1, "flipped": 2, "rejected": 3, "shed": 4}


def shadowed(
    champion: Bundle, challenger: Bundle, rows: list[dict[str, Any]], folder: Path
) -> tuple[list[dict[str, Any]], list[float]]:
    """The lines and the counts of rows that were answered one by one, and then the first two as a batch."""
    memory = os.memfd_create("ring")
    os.ftruncate(memory, ring_bytes(2**20))
    ring = Ring(mmap.mmap(memory, 0))
    counts = memoryview(mmap.mmap(-1, 4096)).cast("d")
    plan = {"champion": champion.label, "slots": SLOTS, "file": str(folder / "c.ndjson"), "file_bytes": 0}
    shadow = Shadow(challenger, ring, plan, counts)
    scorer, put, sent = make_scorer(champion, lambda *_: None), ring.writer(), list[bytes]()
    for number, row in enumerate(rows):
        scorer.respond(orjson.dumps(row), sent.append, 0)
        told = sent[-1][:-1] + b',"trace_id":"ab"}'
        assert put(1, 0, 0, number, NO_MARGIN, 0.0, b"", told, orjson.dumps(row))
    two = [orjson.loads(content) for content in sent[:2]]
    members = [("probability", "probabilities"), ("decision", "decisions"), ("prediction", "predictions")]
    batch = {many: [one[name] for one in two] for name, many in members if name in two[0]}
    if "probabilities" in two[0]:
        batch["probabilities"] = [one["probabilities"] for one in two]
    text = orjson.dumps({"id": "b-1", "model": champion.label, **batch})
    assert put(1, 0, 0, 9, NO_MARGIN, 0.0, b"", text, orjson.dumps({"rows": rows[:2]}))
    while shadow.work():
        pass
    lines = [orjson.loads(line) for line in (folder / "c.ndjson").read_bytes().splitlines()]
    os.close(memory)
    return lines, list(map(float, counts[1:5]))


def test_file_that_somebody_took_away_is_begun_again(three: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(three)
    memory = os.memfd_create("ring")
    os.ftruncate(memory, ring_bytes(2**16))
    ring = Ring(mmap.mmap(memory, 0))
    os.close(memory)
    put, file = ring.writer(), tmp_path / "c.ndjson"
    plan = {"champion": "three@0", "slots": SLOTS, "file": str(file), "file_bytes": 1}
    shadow = Shadow(bundle, ring, plan, memoryview(mmap.mmap(-1, 4096)).cast("d"))

    def written(number: int) -> str:
        told = {"id": f"a-{number}", "probability": 0.5, "decision": "x"}
        assert put(1, 0, 0, number, NO_MARGIN, 0.0, b"", orjson.dumps(told), orjson.dumps(ROW))
        assert shadow.work()
        (line,) = file.read_bytes().splitlines()
        return str(orjson.loads(line)["id"])

    assert [written(0), written(1)] == ["a-0", "a-1"]
    assert b'"a-0"' in (tmp_path / "c.1.ndjson").read_bytes()  # it was large
    file.unlink()
    assert written(2) == "a-2"


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_lines_say_both_for_every_task(task: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if task == "binary":
        one = Bundle.load(request.getfixturevalue("three"))
        rows = sample_rows(THREE_FEATURES, 30, seed=5)
    else:
        one, rows = house_bundle(tmp_path / "one", task), houses(30, seed=5)
    two = Bundle.load(rewritten(one.directory, tmp_path / "two", version="2"))
    lines, counts = shadowed(one, two, rows, tmp_path)
    assert counts == [32.0, 0.0, 0.0, 0.0]
    predictor = Predictor(two)
    ids = [line["id"] for line in lines]
    assert (ids[-2:], len(set(ids))) == (["b-1/0", "b-1/1"], 32)
    for line, row in zip(lines, [*rows, *rows[:2]], strict=True):
        output, outcome = predictor.predict(two.schema.encode(row))
        assert line["challenger_score"] == line["score"] == np.max(output)
        assert line["challenger_decision"] == line["decision"] == two.outcomes[outcome]
        assert (line["model"], line["challenger"]) == (one.label, two.label)
    assert [line.get("trace_id") for line in lines] == ["ab"] * 30 + [None] * 2


def test_row_that_the_challenger_does_not_take_is_counted(three: Path, tmp_path: Path) -> None:
    one = Bundle.load(three)
    rows = [{"income": 5.0}, {"income": 6.0, "owner": True}, {"income": 7.0}]
    folder = rewritten(three, tmp_path / "two", version="2")
    golden = (folder / "golden.jsonl").read_bytes().splitlines()
    edit(folder, "golden.jsonl", b"\n".join(g for g in golden if "owner" in orjson.loads(g)["row"]) + b"\n")
    manifest = orjson.loads((folder / "bundle.json").read_bytes())
    for feature in manifest["features"]:
        if feature["name"] == "owner":
            feature["nullable"] = False
    (folder / "bundle.json").write_bytes(orjson.dumps(manifest))
    lines, counts = shadowed(one, Bundle.load(folder), rows, tmp_path)
    assert counts == [2.0, 0.0, 3.0, 0.0]
    assert len(lines) == 2


def test_the_slowest_is_shed_alone_and_one_that_cannot_start_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a queue of its own: of two that take nothing, whose one is read here, the other sheds."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "none"))
    metrics = os.memfd_create("metrics")
    os.ftruncate(metrics, 4096)
    counts = memoryview(mmap.mmap(metrics, 0)).cast("d")
    config = {"server": "8000", "directory": str(tmp_path), "retention": {"file_bytes": 0}}
    challengers = Challengers(config, metrics, counts)
    quick_slots = {name: slot + 4 for name, slot in SLOTS.items()}
    plans = [
        {"champion": "m@1", "label": "m@2", "slots": SLOTS},
        {"champion": "m@1", "label": "m@3", "slots": quick_slots},
    ]
    slow, quick = challengers.of({"challengers": plans, "folder": "m"})
    for number in range(70):
        for challenger in (slow, quick):
            challenger.offer(1, [(0, 0, b"{}", number, NO_MARGIN, b"x" * 2**16)])
        taken = quick.ring.take(2**20)
        quick.ring.done(taken.read, 0)
    challengers.look_after()
    assert counts[4] > 0  # four of four and a half megabytes
    assert counts[8] == 0
    assert challengers.of({"challengers": plans[1:], "folder": "m"}) == [quick]
    slow.offer(1, [(0, 0, b"{}", 0, NO_MARGIN, b"{}")])  # of an instance that was opened before: not kept
    assert challengers.of({"challengers": [], "folder": "m"}) == []
    challengers.finish()
