"""Members of a row that the model drops: taken whatever they hold, logged nowhere, named in the document."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.harness.scrape import scrape, total
from server.api.batch_bodies import text_rows
from server.errors import BundleError, MalformedBody, SettingsError, UnacceptableRow
from server.log.mask import Masking
from server.model.bundle import Bundle
from server.model.decoder import row_decoder
from server.scoring.row_context import context_of_parameters, flat_row
from tests.support.bundles import ROW, rewritten
from tests.support.servers import eventually, exchange, post, serving

pytestmark = pytest.mark.whole

#: One that is no name of Python's and one that the server itself knows.
IGNORED = ("note", "joined at", "id")
VALUES: list[Any] = ["Ann", None, True, 7, 1.5, [1, {"a": []}], {"b": None}, ""]


@pytest.fixture(scope="module")
def ignoring(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rewritten(three, tmp_path_factory.mktemp("ignoring") / "bundle", ignored=IGNORED)


@pytest.fixture(scope="module", params=["strict", "async"])
def served(
    request: pytest.FixtureRequest, ignoring: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("ignored")
    with serving(ignoring, folder, log_mode=request.param) as server:
        yield server.url, folder


def test_any_value_of_an_ignored_member_is_taken_and_changes_nothing(served: tuple[str, Path]) -> None:
    url, folder = served
    rows = [{**ROW, "note": value, "joined at": value} for value in VALUES]
    answers = exchange(url, *(post("/predict", orjson.dumps(row)) for row in [ROW, *rows]))
    assert {answer.status for answer in answers} == {200}
    assert len({orjson.loads(answer.body)["probability"] for answer in answers}) == 1
    eventually(lambda: _logged(folder).count(b'"income"') == len(answers))
    logged = _logged(folder)
    assert b"note" not in logged
    assert b"Ann" not in logged


def _logged(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in (folder / "logs").glob("*.jsonl"))


def test_batches_tensors_and_ids_take_them_too(served: tuple[str, Path]) -> None:
    url, _ = served
    rows = [{**ROW, "note": "Ann", "id": "first"}, {**ROW, "id": 2}]
    inputs = [
        {"name": "income", "datatype": "FP64", "shape": [1], "data": [2500.5]},
        {"name": "contract", "datatype": "BYTES", "shape": [1], "data": ["fixed-term"]},
        {"name": "owner", "datatype": "BOOL", "shape": [1], "data": [True]},
        {"name": "note", "datatype": "BYTES", "shape": [1, 2], "data": ["Ann", "Lee"]},
    ]
    one, many, tensors = exchange(
        url,
        post("/predict", orjson.dumps(rows[0])),
        post("/predict/batch", orjson.dumps({"rows": rows})),
        post("/v2/models/three/infer", orjson.dumps({"inputs": inputs})),
    )
    assert (one.status, many.status, tensors.status) == (200, 200, 200)
    probability = orjson.loads(one.body)["probability"]
    assert orjson.loads(one.body)["row_id"] == "first"
    assert orjson.loads(many.body)["probabilities"] == [probability] * 2
    assert orjson.loads(tensors.body)["outputs"][0]["data"] == [probability]


def test_other_names_are_still_refused_and_the_document_names_these(served: tuple[str, Path]) -> None:
    url, _ = served
    problem, document = exchange(
        url,
        post("/predict", orjson.dumps({**ROW, "notes": 1})),
        b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    assert (problem.status, b"/notes" in problem.body) == (422, True)
    row = orjson.loads(document.body)["components"]["schemas"]["Row"]
    assert row["properties"]["note"] == {"description": "Not used by the model."}
    assert "note" not in row["required"]


def test_decoder_and_schema_agree(ignoring: Path) -> None:
    schema = Bundle.load(ignoring).schema
    decode = row_decoder(schema)
    for value in VALUES:
        row = {**ROW, "note": value, "id": value}
        assert decode(orjson.dumps(row)) == schema.encode(row) == schema.encode(ROW)


def test_a_feature_is_not_ignored(ignoring: Path) -> None:
    manifest = orjson.loads((ignoring / "bundle.json").read_bytes())
    with pytest.raises(ValueError, match="no feature"):
        Bundle.from_manifest(ignoring, manifest | {"ignored": ["income"]})


CONTEXT = [
    {"name": "sex", "kind": "category", "categories": ["f", "m"], "personal": "keep"},
    {"name": "case"},
]


@pytest.fixture(scope="module")
def with_context(three: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rewritten(three, tmp_path_factory.mktemp("context") / "bundle", context=CONTEXT)


@pytest.mark.parametrize("mode", ["strict", "async"])
def test_context_is_taken_logged_and_changes_no_bit(with_context: Path, tmp_path: Path, mode: str) -> None:
    rows: list[dict[str, Any]] = [
        ROW, {**ROW, "sex": "f", "case": 7}, {**ROW, "sex": "m", "case": "A-1"}, {**ROW, "sex": None},
        {**ROW, "case": True},
    ]  # fmt: skip
    padded = orjson.dumps({**ROW, "case": "long"})[:-1] + b" " * 5000 + b"}"
    with serving(with_context, tmp_path, log_mode=mode) as server:
        bodies = [*map(orjson.dumps, rows), padded]
        answers = exchange(server.url, *(post("/predict", body) for body in bodies))

        def counted(group: str) -> float:
            return total(scrape(server.url), "hotrow_group_decisions_total", field="sex", group=group)

        eventually(lambda: (counted("f"), counted("m")) == (1.0, 1.0))
    assert {answer.status for answer in answers} == {200}
    assert len({orjson.loads(answer.body)["probability"] for answer in answers}) == 1
    logged = [
        orjson.loads(line)["input"]
        for file in (tmp_path / "logs").glob("*.jsonl")
        for line in file.read_bytes().splitlines()
    ]
    told = [(line.get("sex"), line.get("case")) for line in logged]
    assert told == [(None, None), ("f", 7), ("m", "A-1"), (None, None), (None, True), (None, "long")]
    assert all(line["income"] == ROW["income"] for line in logged)


@given(
    st.fixed_dictionaries(
        {"income": st.floats(0, 1e6)}, optional={"owner": st.booleans(), "contract": st.just("none")}
    ),
    st.dictionaries(
        st.sampled_from(["sex", "case"]),
        st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=200),
    ),
    st.randoms(),
)
def test_context_of_any_value_at_any_place_changes_no_bit_of_what_is_scored(
    with_context: Path, row: dict[str, Any], context: dict[str, Any], random: Random
) -> None:
    decode = row_decoder(Bundle.load(with_context).schema)
    members = [*(row | context).items()]
    random.shuffle(members)
    assert decode(orjson.dumps(dict(members))) == decode(orjson.dumps(row))


def test_context_that_no_log_could_hold_is_refused_by_name(with_context: Path) -> None:
    """On the typed way and in words alike: what is long, an object, or no number of any reader's."""
    bundle = Bundle.load(with_context)
    decode = row_decoder(bundle.schema)
    for value in (["a"], {"b": 1}, "x" * 201):
        with pytest.raises(UnacceptableRow) as refusal:
            decode(orjson.dumps({**ROW, "case": value}))
        assert [error.pointer for error in refusal.value.errors] == ["/case"]
        assert "a text of at most 200 characters" in refusal.value.errors[0].detail
    for text in (b"1e999", b"NaN", b'"\xff"'):
        with pytest.raises(MalformedBody):
            decode(orjson.dumps(ROW)[:-1] + b',"case":' + text + b"}")
    assert decode(orjson.dumps({**ROW, "case": "x" * 200})) == decode(orjson.dumps(ROW))
    with pytest.raises(UnacceptableRow):
        decode(orjson.dumps({**ROW, "sexx": 1}))


def test_ignored_column_of_a_csv_body_is_passed_over(ignoring: Path) -> None:
    schema = Bundle.load(ignoring).schema
    body = f"income,{schema.ignored[0]},contract\n2500.5,x,none\n".encode()
    (row,) = asyncio.run(text_rows("text/csv", body, schema, 10, 1000, 10_000)).texts
    decode = row_decoder(schema)
    assert decode(row) == decode(orjson.dumps({"income": 2500.5, "contract": "none"}))


def test_context_is_columns_of_a_csv_body(with_context: Path) -> None:
    schema = Bundle.load(with_context).schema
    body = b"income,case,contract,sex\n2500.5,007,fixed-term,f\n100,,none,\n"
    rows = asyncio.run(text_rows("text/csv", body, schema, 10, 1000, 10_000)).texts
    assert [orjson.loads(row) for row in rows] == [
        {"income": 2500.5, "case": "007", "contract": "fixed-term", "sex": "f"},
        {"income": 100, "contract": "none"},
    ]
    decode = row_decoder(schema)
    assert decode(rows[0]) == decode(orjson.dumps({"income": 2500.5, "contract": "fixed-term"}))
    with pytest.raises(UnacceptableRow, match="got others"):
        asyncio.run(text_rows("text/csv", body.replace(b"case", b"kase"), schema, 10, 1000, 10_000))


def test_context_that_is_a_feature_stops_the_bundle(three: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="fields that are no features, got income"):
        rewritten(three, tmp_path / "b", context=[{"name": "income"}])


def test_context_is_masked_as_its_description_says(with_context: Path) -> None:
    bundle = Bundle.load(with_context)
    assert Masking({"sex": "drop"}).rules(bundle)["sex"] == "drop"
    assert Masking({"case": "hash"}, b"k" * 32).hidden(bundle) >= {"case"}
    with pytest.raises(SettingsError, match="drop or hash for case, got bucket"):
        Masking({"case": "bucket"}).rules(bundle)


def test_context_in_an_object_of_its_own_is_the_same_row(with_context: Path, tmp_path: Path) -> None:
    """By every route: what is scored and logged is as if the fields stood in the row."""
    inside = {**ROW, "_context": {"sex": "f", "case": "A-1"}}
    wrapped = orjson.dumps(inside)
    tensors = {
        "parameters": {"context.sex": "f", "context.case": "A-1", "timeout": 9_000_000},
        "inputs": [{"name": "income", "datatype": "FP64", "shape": [2], "data": [2500.5, 100.0]}],
    }
    table = b"income,contract,owner,context.sex,context.case\n2500.5,fixed-term,true,f,A-1\n"
    with serving(with_context, tmp_path) as server:
        one, explained, json, lines, csv, infer, bare = exchange(
            server.url,
            post("/predict", wrapped),
            post("/explain", wrapped),
            post("/predict/batch", orjson.dumps([inside, inside])),
            post("/predict/batch", wrapped + b"\n", content_type="application/x-ndjson"),
            post("/predict/batch", table, content_type="text/csv"),
            post("/v2/models/three/infer", orjson.dumps(tensors)),
            post("/predict", orjson.dumps(ROW)),
        )
    answers = (one, explained, json, lines, csv, infer, bare)
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 200, 200, 200]
    probability = orjson.loads(bare.body)["probability"]
    assert orjson.loads(one.body)["probability"] == probability
    assert orjson.loads(json.body)["probabilities"] == [probability] * 2
    logged = [
        orjson.loads(line)["input"]
        for file in (tmp_path / "logs").glob("*.jsonl")
        for line in file.read_bytes().splitlines()
    ]
    rows = [row for line in logged for row in line.get("rows", [line])]
    assert [(row.get("sex"), row.get("case")) for row in rows] == [("f", "A-1")] * 8 + [(None, None)]
    assert not any("_context" in row for row in rows)


@given(
    st.dictionaries(st.sampled_from(["sex", "case"]), st.none() | st.booleans() | st.text(max_size=200)),
    st.floats(0, 1e6),
    st.integers(0, 2),
)
def test_context_in_an_object_changes_no_bit_of_what_is_scored(
    with_context: Path, context: dict[str, Any], income: float, place: int
) -> None:
    schema = Bundle.load(with_context).schema
    members = [b'"income":%b' % orjson.dumps(income), b'"contract":"none"']
    members.insert(place, b'"_context":' + orjson.dumps(context))
    flat = flat_row(b"{%b}" % b" , ".join(members), schema)
    assert row_decoder(schema)(flat) == schema.encode({"income": income, "contract": "none"})
    assert orjson.loads(flat) == {"income": income, "contract": "none", **context}


@pytest.mark.parametrize(
    ("context", "where", "why"),
    [
        (["f"], "/_context", "an object of at most 2048 bytes"),
        ({"case": "x" * 2050}, "/_context", "an object of at most 2048 bytes"),
        ({"kase": 1}, "/_context/kase", "one of sex, case"),
        ({"case": [1]}, "/_context/case", "a text of at most 200 characters"),
        (None, "/_context", "an object of at most 2048 bytes"),
    ],
)
def test_what_is_no_context_is_refused_by_name(
    with_context: Path, context: Any, where: str, why: str
) -> None:
    schema = Bundle.load(with_context).schema
    with pytest.raises(UnacceptableRow) as refusal:
        flat_row(orjson.dumps({**ROW, "sex": "m", "_context": context}), schema)
    assert [error.pointer for error in refusal.value.errors] == [where]
    assert why in refusal.value.errors[0].detail
    with pytest.raises(UnacceptableRow):  # of a field that is there twice too
        flat_row(orjson.dumps({**ROW, "case": [1], "_context": {"case": 1}}), schema)
    head = orjson.dumps({"parameters": {"context.kase": 1}})
    with pytest.raises(UnacceptableRow):
        context_of_parameters(head, schema)
    assert flat_row(b'{"_context":', schema) == b'{"_context":'  # the decoder words it
