"""The description file: written complete, read strictly, and the same bundle each time."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from export.__main__ import parse
from export.command import export
from export.errors import ExportRefused
from export.reading.describe import document_of, entries
from export.reading.description import DOCUMENT, check_document, weighed, written
from server.errors import BundleError
from server.model.bundle import Bundle, Decision
from server.model.schema import Feature, Inferred
from tests.support.export_models import train_lightgbm

FEATURES = [
    Feature("income", default=3.5, nullable=False, inferred=Inferred("integer", 0.0, 1e-05)),
    Feature("answer", "category", categories=("no", "yes", "3", "null"), label='Réponse: "a" # b'),
]


def command(*arguments: Any) -> None:
    export(parse([str(argument) for argument in arguments]))


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
        command(tmp_path / "m.txt", "--describe", tmp_path / "d.yaml", "--out", tmp_path / out)
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
