import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import orjson
import pytest

from server.api.code_samples import examples as samples
from server.api.openapi import document
from server.errors import BundleError
from server.explain.explainer import Explainer
from server.explain.reasons import ReasonTexts
from server.explain.recourse import Recourse
from server.log.mask import Masking
from server.model.bundle import Bundle, check_descriptions, write_bundle
from server.model.predictor import Predictor
from server.model.schema import Feature, Kind, Row
from server.scoring.service import watched_groups
from tests.support.bundles import CREDIT, edit
from tests.support.servers import run
from ui.cases.examples import examples_of
from ui.cases.grids import Grids
from ui.drawing.verdict import verdict_of
from ui.tabs.form import form_html
from ui.tabs.model import model_html
from ui.words.labels import Labels
from ui.words.wording import Wording


@pytest.fixture
def copy(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "copy"))


def test_bundle_loads_as_it_was_written(bundle: Path) -> None:
    loaded = Bundle.load(bundle)
    assert loaded.exact
    assert len(list(loaded.golden_rows())) >= 200
    assert Predictor(loaded).check_golden_rows() >= 200


@pytest.mark.parametrize("name", ["model.onnx", "parity.json", "golden.jsonl", "model.txt"])
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["model.onnx", "parity.json", "golden.jsonl"])
def test_edited_file_is_named(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        Bundle.load(copy)


def test_truncated_manifest_is_refused(copy: Path) -> None:
    manifest = (copy / "bundle.json").read_bytes()
    (copy / "bundle.json").write_bytes(manifest[: len(manifest) // 2])
    with pytest.raises(BundleError, match="readable JSON"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b'{"format":2}', b'{"format":1}', b'{"format":1,"files":{}}']
)
def test_manifest_of_another_form_is_refused(copy: Path, content: bytes) -> None:
    (copy / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match="expected"):
        Bundle.load(copy)


def test_symlink_is_refused(copy: Path, three: Path) -> None:
    (copy / "model.onnx").unlink()
    (copy / "model.onnx").symlink_to(three / "model.onnx")
    with pytest.raises(BundleError, match="to be a file"):
        Bundle.load(copy)


def test_pipe_is_refused_and_not_waited_for(copy: Path) -> None:
    (copy / "model.onnx").unlink()
    os.mkfifo(copy / "model.onnx")
    with pytest.raises(BundleError, match="to be a file"):
        Bundle.load(copy)


def test_file_larger_than_any_model_is_refused_unread(copy: Path) -> None:
    """A sparse file of 10 GB takes no room on the disk, and would take it all in memory."""
    os.truncate(copy / "golden.jsonl", 10_000_000_000)
    with pytest.raises(BundleError, match="at most 1073741824 bytes"):
        Bundle.load(copy)


def test_what_was_verified_is_served_whatever_the_folder_becomes(copy: Path) -> None:
    loaded = Bundle.load(copy)
    shutil.rmtree(copy)
    assert Predictor(loaded).check_golden_rows() >= 200
    assert loaded.read_json("parity.json")["total"]["rows"] > 0


def test_weights_in_another_file_are_refused(copy: Path) -> None:
    model = onnx.load_from_string((copy / "model.onnx").read_bytes())
    weights = model.graph.initializer.add(name="w", data_type=onnx.TensorProto.DOUBLE, dims=[1])
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../etc/passwd")
    edit(copy, "model.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match="external data"):
        Predictor(Bundle.load(copy))


def test_path_in_the_manifest_is_refused(copy: Path) -> None:
    manifest = orjson.loads((copy / "bundle.json").read_bytes())
    manifest["files"]["../outside"] = "0" * 64
    (copy / "bundle.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(BundleError, match="plain file names"):
        Bundle.load(copy)


def test_leaf_changed_by_one_bit_fails_the_golden_rows(copy: Path) -> None:
    model = onnx.load_from_string((copy / "model.onnx").read_bytes())
    (leaves,) = (a for a in model.graph.node[0].attribute if a.name == "leaf_weights")
    data = bytearray(leaves.t.raw_data)
    for i in range(0, len(data), 8):
        data[i] ^= 1
    leaves.t.raw_data = bytes(data)
    edit(copy, "model.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match="golden row"):
        Predictor(Bundle.load(copy)).check_golden_rows()


def test_link_that_gives_no_probabilities_is_refused_in_one_sentence(copy: Path) -> None:
    change(copy, "link.name", "identity")
    with pytest.raises(BundleError) as caught:
        Predictor(Bundle.load(copy)).check_golden_rows()
    words = str(caught.value)
    assert words.startswith("expected a probability between 0 and 1 from the model, got -")
    assert words.endswith(f"export it again with the link it needs (golden row 1 of {copy})")


def test_golden_row_that_the_features_do_not_take_is_named_with_the_feature(copy: Path) -> None:
    change(copy, "features.1.categories", ["none"])
    with pytest.raises(BundleError, match=r"golden row .* that its features do not take \(/"):
        Predictor(Bundle.load(copy)).check_golden_rows()


def test_graph_of_another_width_is_refused(copy: Path, wide: Path) -> None:
    edit(copy, "model.onnx", (wide / "model.onnx").read_bytes())
    with pytest.raises(BundleError, match=r"to take features .*\[N, 3\]"):
        Predictor(Bundle.load(copy))


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x07"])
def test_file_that_is_no_graph_is_refused(copy: Path, content: bytes) -> None:
    edit(copy, "model.onnx", content)
    with pytest.raises(BundleError, match="ONNX Runtime can load"):
        Predictor(Bundle.load(copy))


def test_golden_rows_must_be_there(copy: Path) -> None:
    edit(copy, "golden.jsonl", b"")
    with pytest.raises(BundleError, match="golden rows"):
        Predictor(Bundle.load(copy)).check_golden_rows()


def test_folder_that_is_no_bundle_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="other files"):
        write_bundle(tmp_path, {}, {})
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_failed_write_leaves_the_old_bundle(copy: Path) -> None:
    before = (copy / "bundle.json").read_bytes()
    with pytest.raises(OSError, match="File name too long"):
        write_bundle(copy, {}, {"x" * 300: b""})
    assert (copy / "bundle.json").read_bytes() == before
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "edited", "empty", "file"])
def test_server_says_one_sentence_and_exits_3(copy: Path, damage: str) -> None:
    if damage == "missing":
        shutil.rmtree(copy)
    elif damage == "file":
        shutil.rmtree(copy)
        copy.write_text("x")
    elif damage == "truncated":
        (copy / "model.onnx").write_bytes((copy / "model.onnx").read_bytes()[:100])
    elif damage == "edited":
        first, *others = (copy / "golden.jsonl").read_bytes().splitlines(keepends=True)
        golden = orjson.loads(first) | {"margin": "0x1.5p+9"}
        edit(copy, "golden.jsonl", orjson.dumps(golden) + b"\n" + b"".join(others))
    else:
        (copy / "model.onnx").write_bytes(b"")
    result = run("-m", "server", "--model", str(copy), "--port", "0", HOTROW_LOG_MODE="off")
    assert result.returncode == 3
    assert result.stderr.startswith("expected ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def change(copy: Path, where: str, value: Any) -> None:
    """Write another value at a dotted place of the manifest, as somebody does by hand."""
    manifest = orjson.loads((copy / "bundle.json").read_bytes())
    target = manifest
    *path, last = (int(step) if step.isdigit() else step for step in where.split("."))
    for step in path:
        target = target[step]
    target[last] = value
    (copy / "bundle.json").write_bytes(orjson.dumps(manifest))


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("decision.threshold", "0.09", "at decision.threshold: expected float, got str"),
        ("decision.threshold", None, "at decision.threshold: expected float, got null"),
        ("decision.threshold", [0.1], "at decision.threshold"),
        ("decision.threshold", 2.0, "at decision.threshold"),
        ("decision.threshold", True, "at decision.threshold"),
        ("decision.below", 5, "at decision.below"),
        ("decision.below", "", "at decision.below"),
        ("decision.below", "a\nb", "at decision.below"),
        ("decision.below", "x" * 3_000_000, "at decision.below"),
        ("decision.below", "decline", "expected two decisions"),
        ("decision.treshold", 0.1, "got treshold"),
        ("decision", [], "at decision"),
        ("link.scale", "1", "positive number as the scale"),
        ("link.scale", 0, "positive number as the scale"),
        ("link.divisor", 0, "positive number as the divisor"),
        ("link.divisor", True, "positive number as the divisor"),
        ("link.sclae", 2.0, "got 'sclae'"),
        ("link.name", ["logistic"], "a link named"),
        ("link", "logistic", "at link"),
        ("exact", "yes", "at exact"),
        ("precision", "float16", "at precision"),
        ("features", {}, "at features"),
        ("features.0", 1, r"at features\[0\]"),
        ("features.0.minimum", "18", "at feature 'income'"),
        ("features.0.minimum", 2e6, "at most the maximum"),
        ("features.0.kind", "money", "at feature 'income'"),
        ("features.0.nullable", "no", "at feature 'income'"),
        ("features.0.colour", "red", "got colour"),
        ("features.1.categories", [], "expected categories of a category"),
        ("features.1.categories", ["a", "a"], "each category once"),
        ("features.1.categories", ["a", 7], "at feature 'contract'"),
        ("name", "..", "the name"),
        ("name", "n" * 100_000, "the name"),
        ("version", 1, "the version"),
        ("classes", ["a", "b"], "a multiclass model"),
        ("exact", False, "no member 'bound'"),
        ("title", 5, "at title: expected str, got int"),
        ("translations", {"fr": []}, "at translations"),
        ("translations", {"fr": {"wording": [1]}}, r"at translations.*wording: expected object"),
        ("translations", {"fr": {"features": {"income": "revenu"}}}, "at translations"),
        ("examples", 5, "at examples"),
        ("examples", [{}], r"at examples\[0\]"),
        ("evaluation", "x", "at evaluation"),
        ("wording", [], "at wording"),
        ("source.file", "../../x", "at source.file: expected one of the files with a hash"),
        ("source.file", "/etc/passwd", "at source.file"),
        ("features.0.default", -1, "at feature 'income': expected a default that is a number between"),
        ("features.0.default", "x", "at feature 'income': expected a default"),
        ("features.1.default", "other", "at feature 'contract': expected a default that is one of"),
        ("features.2.default", "x", "at feature 'owner': expected a default that is 0, 1, true or false"),
        ("features.0.personal", "secret", "expected personal to be one of keep, drop, hash, bucket"),
        ("features.0.actionable", "Yes", "expected actionable to be one of"),
        ("features.0.monotone", "rising", "expected monotone to be one of up, down"),
        ("features.0.missing", "most", "expected missing to be one of highest, lowest"),
        ("features.1.unknown", "refuse", "expected unknown to be one of missing, infrequent"),
        ("examples", [{"name": "a", "title": "b", "row": {}}], "at examples: a is no row of the features"),
        ("groups", [1], r"at groups\[0\]"),
        ("wording", {"probability": 5}, "at wording.probability: expected str, got int"),
        ("translations", {"fr": {"features": {"income": {"label": 5}}}}, "at translations"),
        (
            "translations",
            {"fr": {"features": {"contract": {"category_labels": ["un"]}}}},
            "at translations.fr.features.contract: expected a label for each category",
        ),
        ("evaluation", {"held_out": {"rows": "x"}}, "at evaluation.held_out.rows: expected int"),
        (
            "evaluation",
            {"held_out": {"rows": 1, "curves": {"cost": [{"threshold": 0.5, "cost": 1}]}}},
            r"at evaluation.held_out: expected cost beside curves\.cost",
        ),
        (
            "evaluation",
            {
                "held_out": {
                    "rows": 1,
                    "groups_by_limit": {
                        "limits": [0.1, 0.2],
                        "groups": {
                            "age": {
                                "old": {
                                    "rows": 1,
                                    "defaults": 0,
                                    "false_positive": [1],
                                    "true_positive": [0, 0],
                                }
                            }
                        },
                    },
                }
            },
            r"at evaluation.held_out.groups_by_limit: expected a count for each of limits, got another",
        ),
    ],
)
def test_manifest_of_another_type_or_range_is_refused_in_one_sentence(
    copy: Path, where: str, value: Any, words: str
) -> None:
    change(copy, where, value)
    with pytest.raises(BundleError, match=words) as caught:
        Predictor(Bundle.load(copy))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("kind", "low", "high", "example"),
    [("integer", 0.5, 3.5, 1), ("integer", -9.5, -2.5, -3), ("number", 0.5, 3.5, 0.5)],
)
def test_range_gives_an_example_in_it(kind: Kind, low: float, high: float, example: float) -> None:
    assert Feature("x", kind, minimum=low, maximum=high, nullable=False).example == example


def test_range_without_a_value_is_refused(copy: Path) -> None:
    change(copy, "features.0.kind", "integer")
    change(copy, "features.0.minimum", 0.2)
    change(copy, "features.0.maximum", 0.8)
    with pytest.raises(BundleError, match="expected a range with a value in it"):
        Bundle.load(copy)


#: In place of each member of the shipped model's manifest in turn.
EDITS: tuple[Any, ...] = (None, True, -1, 0.5, 10**30, "", "x", [], ["x"], {}, {"x": 1}, [[]])


def test_whatever_a_manifest_says_is_refused_when_it_is_read_or_can_be_used() -> None:
    """One edit in 41, for the time of the test; what is read is never found wrong by who uses it."""
    whole = Bundle.load(CREDIT)
    predictor = Predictor(whole)
    rows = [whole.schema.encode(golden.fields) for golden in whole.golden_rows()][:1]
    places = list(places_in({name: value for name, value in whole.manifest.items() if name != "files"}))
    refused = 0
    for place, value in itertools.islice(itertools.product(places, EDITS), 0, None, 41):
        manifest = edited(whole.manifest, place, value)
        try:
            bundle = Bundle.from_manifest(CREDIT, manifest, "", whole.contents)
            check_descriptions(bundle, manifest)
        except (KeyError, TypeError, ValueError):
            refused += 1
            continue
        if bundle.schema.names == whole.schema.names:
            use(bundle, predictor, rows)
    assert refused > 50


def use(bundle: Bundle, predictor: Predictor, rows: Sequence[Row]) -> None:
    """Everything that is made of a bundle's manifest, for the API and the page."""
    document(bundle)
    samples(bundle)
    watched_groups(bundle)
    Masking({}, b"key").rules(bundle)
    Recourse(bundle, predictor, Explainer(bundle, predictor))
    texts = ReasonTexts(bundle)
    for row, language in itertools.product(rows, texts.languages):
        texts.principal(memoryview(row).cast("d").tolist(), [1.0] * len(bundle.schema), 99, language)
    words, labels, names = Wording.of(bundle), Labels.of(bundle), bundle.schema.names
    form_html(bundle.schema, examples_of(predictor), words.case, labels, names, bundle.context)
    model_html(predictor, dict.fromkeys(names, 0.0), Grids(predictor))
    verdict_of(bundle).idle()


def places_in(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to each member, and to the first element of each list."""
    if above:
        yield above
    members = (
        value.items() if isinstance(value, dict) else enumerate(value[:1] if type(value) is list else ())
    )
    for name, member in members:
        yield from places_in(member, (*above, name))


def edited(manifest: dict[str, Any], place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at a place."""
    copied: dict[str, Any] = orjson.loads(orjson.dumps(manifest))
    target: Any = copied
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    return copied


@pytest.mark.parametrize("bound", [0.0, 1e-12, 1e300])
def test_bound_that_the_parity_report_did_not_find_is_refused(copy: Path, bound: float) -> None:
    change(copy, "exact", False)
    change(copy, "bound", bound)
    with pytest.raises(BundleError, match=r"expected exact True and a bound of 0, .*parity\.json"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("link.scale", 2.0),
        ("link.divisor", 3),
        ("link.name", "identity"),
        ("link.name", "log1p_exp"),
        ("decision.threshold", 0.999),
        ("decision.otherwise", "rejected"),
        ("task", "regression"),
        ("features.1.categories", ["none", "fixed-term", "permanent"]),
        ("features.1.nullable", False),
    ],
)
def test_manifest_that_answers_otherwise_than_the_model_fails_the_golden_rows(
    copy: Path, where: str, value: Any
) -> None:
    change(copy, where, value)
    with pytest.raises(BundleError, match=r"golden|expected row") as caught:
        Predictor(Bundle.load(copy)).check_golden_rows()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line", [b"1", b"{", b'{"row":{}}', b'{"row":{},"margin":1,"probability":2,"decision":3}']
)
def test_golden_row_that_is_none_is_named(copy: Path, line: bytes) -> None:
    edit(copy, "golden.jsonl", line)
    with pytest.raises(BundleError, match="in line 1 of"):
        Predictor(Bundle.load(copy)).check_golden_rows()
