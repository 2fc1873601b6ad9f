# ruff: noqa: E501  # tables of cases, a line each
"""A policy decides the same on every way to an answer, and a wrong one is a sentence."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.harness.subject import Subject
from server.errors import BundleError
from server.model.bundle import Bundle
from server.model.judge import Judge
from server.model.policy import Band, Check, Needed, Policy, Term, Unusual
from tests.support.bundles import ROW, tell_again
from tests.support.servers import exchange, post, run, serving

NAMES = ("a", "b", "c", "d")
VALUES = st.one_of(st.just(math.nan), st.floats(-1e6, 1e6), st.sampled_from((0.0, 1.0, -1.0)))
NUMBERS = st.floats(-1e6, 1e6)
LIMITS = st.one_of(NUMBERS, st.builds(Term, st.sampled_from(NAMES), NUMBERS, NUMBERS))
THENS = st.sampled_from(("refer", "incomplete", ""))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    checks = []
    for i in range(draw(st.integers(0, 4))):
        limit, then, is_most = draw(LIMITS), draw(THENS), draw(st.booleans())
        at_most, at_least = (limit, None) if is_most else (None, limit)
        feature = draw(st.sampled_from(NAMES))
        checks.append(Check(feature, at_most, at_least, then=then, name=f"check {i}"))
    limits = {
        name: (-draw(st.floats(0, 1e6)), draw(st.floats(0, 1e6)))
        for name in draw(st.sets(st.sampled_from(NAMES)))
    }
    return Policy(
        bands=draw(st.sampled_from(((), (Band("yes", 0.2), Band("perhaps", 0.6), Band("no"))))),
        needed=draw(st.none() | st.builds(Needed, st.integers(0, 4), st.sampled_from(((), ("b",), ("a", "d"))), st.sampled_from((None, 0.1, 0.2)))),
        checks=tuple(checks),
        unusual=draw(st.none() | st.just(Unusual(limits, inputs=draw(st.integers(1, 3))))),
    )  # fmt: skip


@given(policies(), st.lists(st.tuples(st.floats(0, 1), *[VALUES] * 4), min_size=1, max_size=20))
def test_many_rows_are_judged_as_each_alone(policy: Policy, rows: list[tuple[float, ...]]) -> None:
    judge = Judge(policy, NAMES, 0.6, "yes", "no")
    matrix = np.array(rows)
    alone = [judge.verdict(row[0], np.array(row[1:]).tobytes()) for row in rows]
    many = judge.verdicts(matrix[:, 0], np.ascontiguousarray(matrix[:, 1:]))
    assert alone == many.tolist()
    assert [judge.outcome(verdict) for verdict in alone] == judge.outcomes(many).tolist()


CHECKS = (
    Check("a", at_most=Term("b", plus=-14.0), name="older"),
    Check("c", at_least=0.0, then="", name="note"),
    Check("d", at_most=5.0, then="incomplete", name="sum"),
)
POLICY = Policy(
    (Band("yes", 0.2), Band("perhaps", 0.6), Band("no")),
    Needed(3, ("a",)),
    CHECKS,
    Unusual({"a": (0.0, 100.0), "c": (-9.0, 9.0)}, inputs=2),
)


@pytest.mark.parametrize(
    ("probability", "row", "said"),
    [
        (0.1, (20, 40, 1, 1), {"decision": "yes"}),
        (0.2, (20, 40, 1, 1), {"decision": "perhaps"}),
        (0.6, (20, 40, 1, 1), {"decision": "no"}),
        (0.1, (30, 40, 1, 1), {"decision": "refer", "because": ["older"], "by_score": "yes"}),
        (0.1, (20, 40, -1, 1), {"decision": "yes", "because": ["note"]}),
        (0.7, (30, 40, -1, 9), {"decision": "refer", "because": ["older", "note", "sum"], "by_score": "no"}),
        (0.7, (20, 40, 1, 9), {"decision": "incomplete", "because": ["sum"], "by_score": "no"}),
        (0.1, (20, math.nan, 1, 1), {"decision": "yes"}),
        (0.1, (20, math.nan, 1, math.nan), {"decision": "incomplete", "because": ["needed"], "by_score": "yes"}),
        (0.1, (math.nan, 40, 1, 1), {"decision": "incomplete", "because": ["needed"], "by_score": "yes"}),
        (0.1, (-1, 40, 10, 1), {"decision": "refer", "because": ["unusual"], "by_score": "yes"}),
        (0.1, (-1, 40, 9, 1), {"decision": "yes"}),
    ],
)  # fmt: skip
def test_first_reason_with_a_decision_counts(
    probability: float, row: tuple[float, ...], said: dict[str, Any]
) -> None:
    judge = Judge(POLICY, NAMES, 0.6, "yes", "no")
    assert judge.members(judge.verdict(probability, np.array(row, dtype=float).tobytes())) == said


def test_a_score_that_is_good_enough_needs_no_more() -> None:
    judge = Judge(Policy(needed=Needed(3, ("a",), 0.1)), NAMES, 0.6, "yes", "no")
    row = np.array((math.nan, 1.0, 2.0, 3.0)).tobytes()
    assert judge.members(judge.verdict(0.05, row)) == {"decision": "yes"}
    assert judge.members(judge.verdict(0.1, row))["because"] == ["needed"]


#: As somebody writes it: of the three features of the test bundle, threshold 0.5.
WRITTEN: dict[str, Any] = {
    "bands": [{"below": 0.02, "decision": "accept"}, {"below": 0.5, "decision": "refer"}, {"decision": "decline"}],
    "needed": {"known_at_least": 2},
    "checks": [{"feature": "income", "at_least": 500, "then": "incomplete", "text": {"en": "Is that a year's?"}}],
    "unusual": {"limits": {"income": [100, 9000]}, "outside": [0.001, 0.999]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"band": []}, "unknown field band"),
        ({"bands": [{"below": 0.5, "decision": "accept"}]}, "in each band but the last"),
        ({"bands": [{"decision": "accept"}, {"below": 0.5, "decision": "decline"}]}, "in each band but the last"),
        ({"bands": [*WRITTEN["bands"][1::-1], WRITTEN["bands"][2]]}, "limits that rise"),
        ({"bands": [{"below": "0.5", "decision": "accept"}, {"decision": "decline"}]}, "| null, got str"),
        ({"bands": [{"below": 0.4, "decision": "accept"}, {"decision": "decline"}]}, "'decline' from 0.5 on"),
        ({"bands": [{"below": 0.5, "decision": "no"}, {"decision": "decline"}]}, "'accept' first"),
        ({"bands": [*WRITTEN["bands"][:1], {"below": 0.5, "decision": "accept"}, {"decision": "decline"}]}, "once"),
        ({"bands": [{"decision": "no"}], "needed": {"unless_below": 0.9}}, "in each band but the last"),
        ({"needed": {"known_at_least": 4}}, "at most 3 known inputs"),
        ({"needed": {"always": ["incom"]}}, "did you mean 'income'?"),
        ({"needed": {"known_at_least": -1}}, "0"),
        ({"needed": {"known_at_least": 2, "unless_below": 0.3}}, "unless_below to be at most 0.02"),
        ({"checks": [{"feature": "income"}]}, "at_most or at_least"),
        ({"checks": [{"feature": "income", "at_most": 1, "at_least": 0}]}, "at_most or at_least"),
        ({"checks": [{"feature": "contract", "at_most": 1}]}, "a number among the inputs"),
        ({"checks": [{"feature": "income", "at_most": {"feature": "owned"}}]}, "did you mean 'owner'?"),
        ({"checks": [{"feature": "income", "at_most": {"feature": "owner", "minus": 1}}]}, "unknown field minus"),
        ({"checks": [{"feature": "income", "at_most": "owner * 2"}]}, "got str"),
        ({"checks": [{"feature": "income", "at_most": 1}] * 2}, "a name for each check"),
        ({"checks": [{"feature": "income", "at_most": 1, "name": f"{i}"} for i in range(33)]}, "at most 32"),
        ({"unusual": {"limits": {"income": [9, 1]}}}, "the other way round"),
        ({"unusual": {"limits": {"income": [9]}}}, "length 2"),
        ({"unusual": {"limits": {"income": [1, 9]}, "inputs": 0}}, "1"),
    ],
)  # fmt: skip
def test_wrong_policy_is_a_sentence(three: Path, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(BundleError) as refused:
        Bundle.load(with_policy(three, tmp_path / "bundle", WRITTEN | change))
    message = str(refused.value)
    assert "at policy" in message
    assert words in message.replace("`", "")
    assert "\n" not in message


def with_policy(three: Path, folder: Path, policy: dict[str, Any]) -> Path:
    shutil.copytree(three, folder)
    manifest = orjson.loads((folder / "bundle.json").read_bytes())
    manifest["decision"] = {"threshold": 0.5, "below": "accept", "otherwise": "decline"}
    manifest["policy"] = policy
    (folder / "bundle.json").write_bytes(orjson.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def policed(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = with_policy(three, tmp_path_factory.mktemp("policed") / "bundle", WRITTEN)
    tell_again(folder)
    return folder


@pytest.fixture(scope="module")
def subject(policed: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(policed, tmp_path_factory.mktemp("policy")) as subject:
        yield subject


APPLICANT = ROW | {"owner": 1}
ROWS: list[dict[str, Any]] = [
    APPLICANT,
    APPLICANT | {"income": 400.0},
    {"income": 2000.0},
    APPLICANT | {"income": 50.0},
    APPLICANT | {"income": 9500.0},
]


def single(subject: Subject, row: dict[str, Any]) -> dict[str, Any]:
    (answer,) = exchange(subject.url, post("/predict", orjson.dumps(row)))
    assert answer.status == 200, answer.body
    found: dict[str, Any] = orjson.loads(answer.body)
    return found


def test_every_route_and_file_says_what_predict_says(policed: Path, subject: Subject, tmp_path: Path) -> None:
    answers = [single(subject, row) for row in ROWS]
    assert [answer.get("because") for answer in answers] == [
        None, ["income"], ["needed"], ["income", "unusual"], ["unusual"],
    ]  # fmt: skip
    decisions = [answer["decision"] for answer in answers]
    assert decisions[1:] == ["incomplete", "incomplete", "incomplete", "refer"]
    because = [answer.get("because", []) for answer in answers]
    by_score = [answer.get("by_score", answer["decision"]) for answer in answers]

    (many,) = exchange(subject.url, post("/predict/batch", orjson.dumps({"rows": ROWS})))
    batch = orjson.loads(many.body)
    assert (batch["decisions"], batch["because"], batch["by_score"]) == (decisions, because, by_score)

    kinds = {"income": "FP64", "contract": "BYTES", "owner": "FP64"}
    known = [row for row in ROWS if len(row) == 3]  # in JSON a tensor of numbers cannot lack one
    inputs = [
        {"name": name, "datatype": kind, "shape": [len(known)], "data": [row[name] for row in known]}
        for name, kind in kinds.items()
    ]
    (tensors,) = exchange(subject.url, post("/v2/models/three/infer", orjson.dumps({"inputs": inputs})))
    assert tensors.status == 200, tensors.body
    outputs = {output["name"]: output["data"] for output in orjson.loads(tensors.body)["outputs"]}
    assert outputs["decision"] == [decisions[i] for i in (0, 1, 3, 4)]
    assert outputs["because"] == [";".join(because[i]) for i in (0, 1, 3, 4)]

    source, scored = tmp_path / "rows.jsonl", tmp_path / "scored.jsonl"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in ROWS))
    done = run("-m", "server.batch", "--nice", "0", "--model", str(policed), str(source), str(scored))
    assert done.returncode == 0, done.stderr
    lines = [orjson.loads(line) for line in scored.read_bytes().splitlines()]
    assert [line["decision"] for line in lines] == decisions
    assert [line["because"] for line in lines] == [";".join(reasons) for reasons in because]
    assert [line["by_score"] for line in lines] == by_score


def test_decisions_of_a_policy_are_counted_by_their_names(subject: Subject) -> None:
    single(subject, ROW | {"income": 400.0})
    (page,) = exchange(subject.url, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b'hotrow_predictions_total{decision="incomplete",model="three@1"}' in page.body
