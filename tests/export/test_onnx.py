"""Any ONNX file: served as lean as it can be, with the same scores, or refused in a sentence."""

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import onnxmltools
import onnxruntime
import pytest
import skl2onnx
from onnx import TensorProto, helper, numpy_helper
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from export.errors import ExportRefused
from export.onnx.model import convert_onnx
from export.onnx.options import OnnxOptions
from export.onnx.source import open_session
from server.model.predictor import Predictor
from tests.support.export_models import WIDTH, export, parity_report, rows, train_lightgbm


def converted(*, zipmap: bool, parameters: dict[str, Any] | None = None, kind: str = "binary") -> bytes:
    """A LightGBM booster as onnxmltools' own converter writes it."""
    booster = lightgbm.Booster(model_str=train_lightgbm(parameters or {"objective": "binary"}, kind, 30))
    types = [("input", FloatTensorType([None, WIDTH]))]
    model = onnxmltools.convert_lightgbm(booster, initial_types=types, zipmap=zipmap)
    return bytes(model.SerializeToString())


def linear(element: int = TensorProto.FLOAT, **changes: Any) -> onnx.ModelProto:
    """A graph of one matrix product: `x` [N, 3] -> `y` [N, 1]."""
    dtype = helper.tensor_dtype_to_np_dtype(element)
    graph = helper.make_graph(
        changes.get("nodes", [helper.make_node("MatMul", ["x", "w"], ["y"])]),
        "linear",
        changes.get("inputs", [helper.make_tensor_value_info("x", element, changes.get("shape", ["N", 3]))]),
        [helper.make_tensor_value_info("y", element, ["N", 1])],
        [numpy_helper.from_array(np.array([[0.5], [-2.0], [0.25]], dtype=dtype), "w")],
    )
    opsets = changes.get("opsets", [helper.make_opsetid("", 18)])
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("zipmap", [True, False])
def test_onnxmltools_graphs_lose_label_and_zipmap_and_keep_every_bit(zipmap: bool, tmp_path: Path) -> None:
    content = converted(zipmap=zipmap)
    bundle = export(tmp_path, convert_onnx(content, OnnxOptions()))
    served = onnx.load(bundle.graph_path)
    assert (bundle.task, bundle.exact, parity_report(bundle)["exact"]) == ("binary", True, True)
    assert [output.name for output in served.graph.output] == ["margin"]
    assert "ZipMap" not in {node.op_type for node in served.graph.node}
    matrix = rows(20)
    (scores,) = open_session(converted(zipmap=False)).run(
        ["probabilities"], {"input": matrix.astype(np.float32)}
    )
    assert Predictor(bundle).margins(matrix).tolist() == scores[:, 1].tolist()


def test_several_classes_are_served_with_their_names(tmp_path: Path) -> None:
    content = converted(zipmap=True, parameters={"objective": "multiclass", "num_class": 3}, kind="classes")
    bundle = export(tmp_path, convert_onnx(content, OnnxOptions(classes=("low", "middle", "high"))))
    assert (bundle.task, bundle.classes) == ("multiclass", ("low", "middle", "high"))


@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_a_plain_graph_of_either_precision_is_a_regression(element: int, tmp_path: Path) -> None:
    content = linear(element).SerializeToString()
    bundle = export(tmp_path, convert_onnx(content, OnnxOptions(names=("a", "b", "c"))))
    assert (bundle.task, bundle.schema.names) == ("regression", ("a", "b", "c"))
    row = bundle.schema.encode({"a": 1.0, "b": 2.0, "c": 4.0})
    assert Predictor(bundle).margin(row) == -2.5


def test_a_graph_that_takes_no_missing_value_demands_every_feature(tmp_path: Path) -> None:
    bundle = export(tmp_path, convert_onnx(linear().SerializeToString(), OnnxOptions()))
    assert not any(feature.nullable for feature in bundle.schema.features)


def test_absent_is_nan_or_zero_as_asked(tmp_path: Path) -> None:
    content = linear().SerializeToString()
    zero = export(tmp_path / "zero", convert_onnx(content, OnnxOptions(absent_is_zero=True)))
    assert Predictor(zero).margin(zero.schema.encode({"f0": 1.0})) == 0.5
    trees = convert_onnx(converted(zipmap=False), OnnxOptions())
    filled = convert_onnx(converted(zipmap=False), OnnxOptions(absent_is_zero=True))
    row = np.full((1, WIDTH), np.nan)
    assert trees.source.margins(row) != filled.source.margins(row)
    assert filled.source.margins(row) == trees.source.margins(np.zeros((1, WIDTH)))


def _external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.ClearField("raw_data")


def _deep_external(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["unused"], value=numpy_helper.from_array(np.zeros(3)))
    node.attribute[0].t.data_location = TensorProto.EXTERNAL
    node.attribute[0].t.external_data.add(key="location", value="weights.bin")
    branch = helper.make_graph(
        [node], "branch", [], [helper.make_tensor_value_info("unused", TensorProto.DOUBLE, [3])]
    )
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))


def _custom(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node.append(helper.make_node("Exec", ["x"], ["z"], domain="com.example"))


def _image(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 3, 8, 8]))


def _integers(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([[1], [2], [3]]), "w"))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


def _future(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def _functions(model: onnx.ModelProto) -> None:
    model.functions.add(name="f", domain="")


REFUSED = {
    "external data": (_external, "external data"),
    "external data in a branch": (_deep_external, "external data"),
    "custom domain": (_custom, "com.example"),
    "an image": (_image, r"of the shape \[N, F\] or \[N\], got z"),
    "integers": (_integers, "output"),
    "wrong opset": (_future, "expected a"),
    "functions": (_functions, "functions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_by_name(name: str) -> None:
    damage, words = REFUSED[name]
    model = linear()
    damage(model)
    with pytest.raises(ExportRefused, match=words):
        convert_onnx(model.SerializeToString(), OnnxOptions())


def test_a_graph_without_a_width_needs_names() -> None:
    content = linear(shape=["N", "F"]).SerializeToString()
    with pytest.raises(ExportRefused, match="number of features"):
        convert_onnx(content, OnnxOptions())
    assert convert_onnx(content, OnnxOptions(names=("a", "b", "c"))).names == ("a", "b", "c")


def test_a_task_that_does_not_fit_the_scores_is_refused() -> None:
    with pytest.raises(ExportRefused, match="--task multiclass"):
        convert_onnx(linear().SerializeToString(), OnnxOptions(task="multiclass"))


def test_where_classes_are_equally_likely_the_graphs_own_label_is_answered(tmp_path: Path) -> None:
    matrix = np.nan_to_num(rows(300)).astype(np.float32)
    forest = RandomForestClassifier(4, random_state=0).fit(
        matrix[:200], np.random.default_rng(1).random(200) > 0.5
    )
    content = skl2onnx.to_onnx(forest, matrix[:1], options={"zipmap": False}).SerializeToString()
    labels, probabilities = onnxruntime.InferenceSession(content).run(None, {"X": matrix})
    assert (probabilities[:, 1] == 0.5).any()
    predictor = Predictor(export(tmp_path, convert_onnx(content, OnnxOptions())))
    decided = [predictor.predict(row.astype(np.float64).tobytes())[1] for row in matrix]
    assert np.array_equal(decided, labels)
    assert predictor.bundle.read_json("parity.json")["classes"]["rows"] > 1000


def test_a_row_without_probabilities_is_not_asked_for_its_class(tmp_path: Path) -> None:
    """A product of three classes overflows in float32: the graph labels the row, its softmax is NaN."""
    matrix = np.nan_to_num(rows(300)).astype(np.float32)
    model = LogisticRegression(max_iter=1000).fit(matrix, np.digitize(matrix[:, 0], [-0.5, 0.5]))
    content = skl2onnx.to_onnx(model, matrix[:1], options={"zipmap": False}).SerializeToString()
    (beyond,) = onnxruntime.InferenceSession(content).run(
        ["probabilities"], {"X": np.full((1, matrix.shape[1]), 3e38, np.float32)}
    )
    assert np.isnan(beyond).all()
    report = export(tmp_path, convert_onnx(content, OnnxOptions())).read_json("parity.json")
    assert report["classes"]["classes_differ"] == 0
