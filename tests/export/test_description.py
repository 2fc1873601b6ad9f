"""The description file: written complete, read strictly, and the same bundle each time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd  # type: ignore[import-untyped]  # ships no types
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from export.arguments import parse
from export.command import export
from export.errors import ExportRefused
from export.forest.conversion import Conversion
from export.lightgbm.model import convert_lightgbm
from export.reading.describe import apply_entries, document_of, entries
from export.reading.description import (
    DOCUMENT,
    check_document,
    check_examples,
    check_names,
    checked_policy,
    json_schema,
    weighed,
    written,
)
from export.reading.usual import with_limits
from export.sklearn.model import convert_sklearn
from server.errors import BundleError, HotrowError, UnacceptableRow
from server.model.bundle import Bundle, Decision
from server.model.predictor import Predictor
from server.model.schema import Feature, Inferred, Matrix, Schema
from tests.support.export_models import WIDTH, rows, target, train_lightgbm, train_xgboost
from tests.support.export_models import export as export_conversion

FEATURES = [
    Feature("income", default=3.5, nullable=False, inferred=Inferred("integer", 0.0, 1e-05)),
    Feature("answer", "category", categories=("no", "yes", "3", "null"), label='Réponse: "a" # b'),
]


def command(*arguments: Any) -> None:
    export(parse([str(argument) for argument in arguments]), ordinary_rows=3000)


def test_what_is_written_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    path.write_text(written("churn", "1", Decision(), (), FEATURES, {"wording": {"case": "client"}}))
    document = document_of(path)
    check_document(document)
    assert (document["name"], document["version"], document["threshold"]) == ("churn", "1", 0.5)
    assert [entry["name"] for entry in entries(path)] == ["income", "answer"]
    assert entries(path)[0]["inferred"] == {"kind": "integer", "minimum": 0.0, "maximum": 1e-05}
    assert entries(path)[1]["categories"] == ["no", "yes", "3", "null"]
    assert all(f"# {member}:" in path.read_text() for member in DOCUMENT if member != "features")


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("nmae", "x", "did you mean name"),
        ("name", "a/b", "letters, digits"),
        ("version", 2, "in quotes"),
        ("threshold", "0.1", "a probability"),
        ("threshold", 1.5, "a probability"),
        ("decisions", ["a"], "two different texts"),
        ("classes", ["a", "a"], "different texts"),
        ("costs", {"false_negative": 1}, "positive numbers"),
        ("wording", {"titel": "x"}, "texts as title"),
        ("examples", [{"name": "x"}], "name, title and row"),
        ("features", {}, "a list of the features"),
        ("context", [{"label": "x"}], "asked for, never scored"),
        ("groups", "x", "a list of the features or context"),
        ("policy", [], "bands, needed, checks"),
    ],
)
def test_a_member_that_is_wrong_is_one_sentence(member: str, value: Any, words: str) -> None:
    with pytest.raises(ExportRefused, match=words):
        check_document({member: value})


def test_both_a_threshold_and_costs_are_refused() -> None:
    with pytest.raises(ExportRefused, match="got both"):
        check_document({"threshold": 0.1, "costs": {"false_negative": 9, "false_positive": 1}})


def test_a_threshold_and_costs_imply_each_other() -> None:
    by_threshold = weighed(Decision(), 0.2, None)
    assert (by_threshold.cost_false_negative, by_threshold.cost_false_positive) == (4.0, 1.0)
    assert weighed(Decision(), None, {"false_negative": 4, "false_positive": 1}).threshold == 0.2
    assert weighed(Decision(threshold=0.3), None, None) == Decision(threshold=0.3)
    assert weighed(Decision(), None, None).cost_false_positive == 0.0  # nobody said: a page shows none


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2\n", "- 1\n  - 2: x: y\n"])
def test_yaml_that_is_none_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(ExportRefused, match="to be YAML"):
        document_of(tmp_path / "d.yaml")


def test_exporting_twice_with_a_description_gives_the_same_bundle(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.txt").write_text(train_lightgbm({"objective": "binary"}, "binary", 5))
    command(tmp_path / "m.txt", "--description")
    text = capfd.readouterr().out.replace('label: ""', "").replace("threshold: 0.5", "threshold: 0.25")
    text = text.replace('- name: "Column_0"', '- name: "Column_0"\n  protected: true\n  actionable: no')
    (tmp_path / "d.yaml").write_text(text)
    for out in ("one", "two"):
        command(
            tmp_path / "m.txt", "--describe", tmp_path / "d.yaml", "--out", tmp_path / out,
            "--allow-protected", "permitted here",
        )  # fmt: skip
    one, two = Bundle.load(tmp_path / "one"), Bundle.load(tmp_path / "two")
    assert one.digest == two.digest
    assert (one.decision.threshold, one.decision.cost_false_negative) == (0.25, 3.0)
    assert (one.schema["Column_0"].protected, one.schema["Column_0"].actionable) == (True, "no")
    command(tmp_path / "one", "--out", tmp_path / "again")
    assert orjson.dumps(Bundle.load(tmp_path / "again").manifest["features"]) == orjson.dumps(
        one.manifest["features"]
    )


def test_a_name_and_version_stand_for_one_content(tmp_path: Path) -> None:
    text = train_lightgbm({"objective": "binary"}, "binary", 5)
    (tmp_path / "m.txt").write_text(text)
    first = [str(tmp_path / "m.txt"), "--out", str(tmp_path / "bundle")]
    export(parse(first), ordinary_rows=300)
    export(parse(first), ordinary_rows=300)  # the same content
    before = (tmp_path / "bundle" / "bundle.json").read_bytes()
    other = [*first, "--threshold", "0.3"]
    with pytest.raises(BundleError, match=r"other content under m@1, which stands at .*--version"):
        export(parse(other), ordinary_rows=300)
    assert (tmp_path / "bundle" / "bundle.json").read_bytes() == before
    export(parse([*other, "--version", "2"]), ordinary_rows=300)
    export(parse([*first, "--threshold", "0.4", "--version", "2", "--replace"]), ordinary_rows=300)
    assert Bundle.load(tmp_path / "bundle").decision.threshold == 0.4


#: A value of no member's type, and one that is another's.
WRONG: tuple[Any, ...] = (
    None,
    True,
    7,
    -1.5,
    "x\x00",
    "no such word",
    [],
    [1],
    {},
    {"a": 1},
    [[]],
    [{"name": 1}],
)


def everything() -> dict[str, Any]:
    """A description that says all there is to say."""
    return {
        "name": "m", "version": "1", "decisions": ["no", "yes"], "threshold": 0.2,
        "policy": {
            "bands": [
                {"below": 0.1, "decision": "no"}, {"below": 0.2, "decision": "ask"}, {"decision": "yes"},
            ],
            "needed": {"known_at_least": 1}, "checks": [{"feature": "Column_0", "at_most": 9.0}],
            "unusual": {"limits": {"Column_0": [-1, 2.5]}, "outside": [0.1, 0.9], "inputs": 1, "then": "ask"},
        },
        "wording": {"case": "client"}, "translations": {}, "context": [{"name": "sex", "label": "Sex"}],
        "groups": ["sex"], "examples": [{"name": "a", "title": "A", "row": {"Column_0": 1.0}}],
        "features": [{
            "name": "Column_0", "kind": "number", "label": "L", "help": "H", "unit": "u", "group": "g",
            "minimum": -9.0, "maximum": 9.0, "default": 1.0, "nullable": True, "unknown": "refuse",
            "inferred": {"minimum": 0.0}, "protected": True, "actionable": "up", "monotone": "up",
            "personal": "hash", "reason": {"up": {"code": "R1", "text": {"en": "high"}}},
        }],
    }  # fmt: skip


def changed() -> Iterator[tuple[str, Any]]:
    """The document with one member misspelt, removed or of a wrong type, members inside of others too."""
    for path in paths(everything()):
        for change in ("misspelt", "removed", *WRONG):
            document = everything()
            place: Any = document
            for step in path[:-1]:
                place = place[step]
            was = place[path[-1]]
            if change == "misspelt" and isinstance(place, dict):
                place[path[-1] + "_"] = place.pop(path[-1])
            elif change == "misspelt":
                continue
            elif change == "removed":
                del place[path[-1]]
            elif change is not was:
                place[path[-1]] = change
            yield f"{path}: {change!r}", document


def paths(value: Any) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (key,)
        yield from ((key, *rest) for rest in paths(inner))


def test_whatever_is_changed_is_taken_or_refused_in_one_sentence(tmp_path: Path) -> None:
    conversion = convert_lightgbm(train_lightgbm({"objective": "binary"}, "binary", 2))
    path, refused = tmp_path / "d.json", 0
    for where, document in changed():
        path.write_bytes(orjson.dumps(document))
        try:
            described(path, conversion)
        except HotrowError as refusal:
            refused += 1
            said = str(refusal)
            if not said.startswith("expected ") or len(said.splitlines()) != 1:
                pytest.fail(f"{where}: {said}")
        else:
            assert "misspelt" not in where, where
    assert refused > 300


def described(path: Path, conversion: Conversion) -> None:
    """What a command reads of a description, in its order."""
    document = document_of(path)
    check_document(document)
    schema = Schema(apply_entries(conversion.schema.features, entries(path)))
    if document.get("policy"):
        document["policy"] = with_limits(document["policy"], schema.features, None)
    checked_policy(document, weighed(Decision(), document.get("threshold"), document.get("costs")), schema)
    check_names(document, schema)
    check_examples(document, schema)


NUMBERS = (Feature("income"), Feature("age", inferred=Inferred("integer")), Feature("owner", "flag"))


def seen() -> Matrix:
    return np.column_stack([np.arange(1001.0), np.append(np.arange(1000.0) % 50, np.nan), np.zeros(1001)])


@pytest.mark.parametrize(
    ("unusual", "limits"),
    [
        ({"outside": [0.01, 0.99]}, {"income": [10.0, 990.0], "age": [0.0, 49.0]}),
        ({"outside": [0, 1], "limits": ["income"]}, {"income": [0.0, 1000.0]}),
        ({"limits": {"income": [3, 4]}}, {"income": [3, 4]}),
    ],
)
def test_limits_of_what_is_usual_are_read_off_the_data(
    unusual: dict[str, Any], limits: dict[str, Any], tmp_path: Path
) -> None:
    """Written by hand in YAML, as the comment of the description has it."""
    (tmp_path / "d.yaml").write_text(f"policy:\n  unusual: {orjson.dumps(unusual).decode()}\n")
    document = document_of(tmp_path / "d.yaml")
    check_document(document)
    policy = with_limits(document["policy"], NUMBERS, seen())
    assert policy["unusual"] == {**unusual, "limits": limits}
    checked_policy({"policy": policy}, Decision(), Schema(NUMBERS))


@pytest.mark.parametrize(
    ("unusual", "data", "words"),
    [
        ({"outside": [0.01, 0.99]}, None, "expected --data, of which the quantiles"),
        ({"then": "refer"}, seen(), "unusual to have limits by feature"),
        ({"outside": [0.9, 0.1]}, seen(), "two quantiles from 0 to 1 that rise"),
        ({"outside": [1, 99]}, seen(), "two quantiles from 0 to 1 that rise"),
        ({"outside": [0.1, 0.9], "limits": ["incom"]}, seen(), "did you mean income"),
        ({"outside": [0.1, 0.9], "limits": ["owner"]}, seen(), "numbers among the inputs"),
        ({"outside": [0.1, 0.9], "limits": "income"}, seen(), "or a list of features"),
    ],
)
def test_limits_that_cannot_be_read_off_are_said(
    unusual: dict[str, Any], data: Matrix | None, words: str
) -> None:
    with pytest.raises(ExportRefused, match=words):
        with_limits({"unusual": unusual}, NUMBERS, data)


def test_the_schema_of_the_document_takes_what_the_command_takes() -> None:
    from jsonschema import Draft202012Validator  # here: it takes 4 s of CPU to load

    written_schema = orjson.loads(Path("docs/generated/description.schema.json").read_bytes())
    assert written_schema == json_schema(), (
        "run `python -m export.reading.description > docs/generated/description.schema.json`"
    )
    validator = Draft202012Validator(written_schema)
    assert not list(validator.iter_errors(everything()))
    document = everything() | {"nmae": "x"}
    assert [error.validator for error in validator.iter_errors(document)] == ["additionalProperties"]


def test_an_evaluation_of_classes_in_float32_has_scikit_learns_log_loss(tmp_path: Path) -> None:
    """Their sums are not 1 to the bit, of which nothing is said: a warning would end this test."""
    parameters = {"objective": "multi:softprob", "num_class": 3}
    train_xgboost(parameters, "classes", 5).save_model(tmp_path / "m.json")
    matrix = rows(200, seed=3)
    true = target(matrix, "classes").astype(int)
    lines = [",".join([*(f"f{i}" for i in range(WIDTH)), "kind"])]
    for values, kind in zip(matrix, true, strict=True):
        lines.append(",".join(["" if v != v else repr(v) for v in values.tolist()] + ["abc"[kind]]))
    (tmp_path / "held.csv").write_text("\n".join(lines))
    command(
        tmp_path / "m.json", "--classes", "a,b,c", "--evaluate", tmp_path / "held.csv",
        "--target", "kind", "--out", tmp_path / "b",
    )  # fmt: skip
    bundle = Bundle.load(tmp_path / "b")
    predictor = Predictor(bundle)
    outputs = predictor.output_array(predictor.margins(matrix)).astype(np.float64)
    shares = outputs / outputs.sum(axis=1, keepdims=True)
    figures = bundle.manifest["evaluation"]["classes"]
    assert figures["rows"] == 200
    assert figures["log_loss"] == pytest.approx(log_loss(true, shares), abs=2e-6)
    assert "| log loss |" in bundle.read("MODEL_CARD.md").decode()


def test_an_evaluation_gives_any_bundle_figures_groups_and_a_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.txt").write_text(train_lightgbm({"objective": "binary"}, "binary", 5))
    matrix = rows(400, seed=3)
    lines = [",".join([*(f"Column_{i}" for i in range(WIDTH)), "bad"])]
    for values, outcome in zip(matrix, target(matrix), strict=True):
        lines.append(",".join(["" if v != v else repr(v) for v in values.tolist()] + ["ny"[int(outcome)]]))
    (tmp_path / "held.csv").write_text("\n".join(lines))
    (tmp_path / "d.yaml").write_text("groups: [Column_4]\ncosts: {false_negative: 4, false_positive: 1}\n")
    command(
        tmp_path / "m.txt", "--describe", tmp_path / "d.yaml", "--evaluate", tmp_path / "held.csv",
        "--target", "bad", "--out", tmp_path / "b",
    )  # fmt: skip
    bundle = Bundle.load(tmp_path / "b")
    figures = bundle.manifest["evaluation"]["held_out"]
    assert (bundle.decision.threshold, figures["rows"]) == (0.2, 400)
    assert figures["auc"] > 0.8
    assert sum(part["rows"] for part in figures["groups"]["Column_4"].values()) == 400
    by_limit = figures["groups_by_limit"]
    assert 0.2 in by_limit["limits"]
    assert set(by_limit["groups"]["Column_4"]) == set(figures["groups"]["Column_4"])
    card = bundle.read("MODEL_CARD.md").decode()
    assert "| auc |" in card
    # Five trees tell little: at these costs everybody is refused, which is said.
    warned = "Every one of the 400 rows of held.csv by the score is decided positive: "
    assert warned in card
    assert warned in capsys.readouterr().err
    (tmp_path / "d.yaml").write_text("threshold: 0.5\n")
    command(
        tmp_path / "m.txt", "--describe", tmp_path / "d.yaml", "--evaluate", tmp_path / "held.csv",
        "--target", "bad", "--out", tmp_path / "told_apart",
    )  # fmt: skip
    assert "Every one" not in Bundle.load(tmp_path / "told_apart").read("MODEL_CARD.md").decode()
    with pytest.raises(ExportRefused, match="expected a column worse"):
        command(tmp_path / "m.txt", "--evaluate", tmp_path / "held.csv", "--target", "worse", "--out",
                tmp_path / "c")  # fmt: skip


def test_an_encoder_that_takes_unknown_texts_says_so(tmp_path: Path) -> None:
    frame = pd.DataFrame({"city": ["a", "b", "c"] * 20, "x": np.arange(60.0)})
    prepare = ColumnTransformer(
        [("t", OneHotEncoder(handle_unknown="ignore"), ["city"])], remainder="passthrough"
    )
    model = Pipeline([("p", prepare), ("m", LogisticRegression())]).fit(frame, frame.x % 2)
    conversion = convert_sklearn(model, "source.joblib", b"x")
    conversion = replace(conversion, features=tuple(replace(f, nullable=False) for f in conversion.features))
    bundle = export_conversion(tmp_path, conversion)
    assert bundle.schema["city"].unknown == "missing"
    answer, _ = Predictor(bundle).predict(bundle.schema.encode({"city": "elsewhere", "x": 3.0}))
    expected = model.predict_proba(pd.DataFrame({"city": ["elsewhere"], "x": [3.0]}))[0, 1]
    assert answer == pytest.approx(expected, rel=1e-12)
    (refusing,) = apply_entries([bundle.schema["city"]], [{"name": "city", "unknown": "refuse"}])
    with pytest.raises(UnacceptableRow, match="not acceptable"):
        Schema([refusing]).encode({"city": "elsewhere"})
