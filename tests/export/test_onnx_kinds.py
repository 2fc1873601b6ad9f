"""ONNX files as other tools write them: old versions, float16, one fixed row, columns by name, labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import orjson
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportRefused
from export.forest.evidence import Evidence
from export.onnx.model import convert_onnx
from export.onnx.options import OnnxOptions
from server.model.decoder import row_decoder
from server.model.predictor import Predictor
from tests.support.export_models import export

WEIGHTS = np.array([[0.5], [-1.0], [0.25]], dtype=np.float32)
ROW = {"f0": 1.0, "f1": 0.5, "f2": -2.0}


def graph(
    nodes: Sequence[onnx.NodeProto],
    *,
    outputs: int = 1,
    element: int = TensorProto.FLOAT,
    weights: Any = WEIGHTS,
    rows: Any = "N",
    **model: Any,
) -> bytes:
    """A file of `x` [rows, 3] -> `scores` [rows, outputs] with the weights `w`."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", element, [rows, 3])],
        [helper.make_tensor_value_info("scores", element, [rows, outputs])],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = model.pop("opsets", [helper.make_opsetid("", 17)])
    return bytes(helper.make_model(made, opset_imports=opsets, **model).SerializeToString())


def matmul(output: str = "scores") -> onnx.NodeProto:
    return helper.make_node("MatMul", ["x", "w"], [output])


def wide(columns: int) -> Any:
    return np.concatenate([WEIGHTS * (1 - 2 * i) for i in range(columns)], axis=1)


def answer(folder: Path, content: bytes, row: dict[str, Any] = ROW, **options: Any) -> Any:
    evidence = options.pop("evidence", Evidence())
    bundle = export(folder, convert_onnx(content, OnnxOptions(**options), evidence=evidence))
    output, index = Predictor(bundle).predict(row_decoder(bundle.schema)(orjson.dumps(row)))
    return output, bundle.outcomes[index]


def test_a_row_has_the_answer_it_has_alone_whatever_stands_beside_it(tmp_path: Path) -> None:
    """ONNX Runtime's LinearClassifier adds a row's products in another order where rows come together."""
    random = np.random.default_rng(0)
    node = helper.make_node(
        "LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", post_transform="SOFTMAX",
        coefficients=random.normal(size=60).tolist(), intercepts=[0.5, 0.0, -0.5],
        classlabels_ints=[0, 1, 2], multi_class=1,
    )  # fmt: skip
    made = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 20])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
         helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    content = helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()
    bundle = export(tmp_path, convert_onnx(content, OnnxOptions()))
    assert (bundle.exact, bundle.row_by_row) == (True, True)
    predictor = Predictor(bundle)
    rows = 100 * random.normal(size=(300, 20)).astype(np.float32).astype(np.float64)
    alone = np.array([predictor.row_margins(row.tobytes()) for row in rows])
    assert np.array_equal(predictor.margins(rows), alone)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    own = [session.run(["scores"], {"x": row[None].astype(np.float32)})[0][0] for row in rows]
    assert np.array_equal(alone, np.array(own, dtype=np.float64))
    together = session.run(["scores"], {"x": rows.astype(np.float32)})[0]
    assert not np.array_equal(alone, together.astype(np.float64))  # else this test would hold anything


@pytest.mark.parametrize("ir_version", [3, 4, 8])
def test_any_ir_version_is_served(ir_version: int, tmp_path: Path) -> None:
    content = graph([matmul()], ir_version=ir_version, opsets=[helper.make_opsetid("", 9)])
    assert answer(tmp_path, content) == (-0.5, "")


def test_a_domain_that_no_node_uses_does_not_matter(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft.nchwc", 1)]
    assert answer(tmp_path, graph([matmul()], ir_version=8, opsets=opsets)) == (-0.5, "")


def test_a_batch_fixed_to_one_row_is_freed(tmp_path: Path) -> None:
    assert answer(tmp_path, graph([matmul()], rows=1, ir_version=8)) == (-0.5, "")


def test_a_batch_that_cannot_be_freed_is_refused_with_what_to_do() -> None:
    flat = numpy_helper.from_array(np.array([1, 1]), "flat")
    nodes = [
        helper.make_node("Constant", [], ["flat"], value=flat),
        matmul("raw"),
        helper.make_node("Reshape", ["raw", "flat"], ["scores"]),
    ]
    with pytest.raises(ExportRefused, match="dynamic batch axis"):
        convert_onnx(graph(nodes, rows=1, ir_version=8), OnnxOptions())


def test_float16_is_served_within_its_digits(tmp_path: Path) -> None:
    half = TensorProto.FLOAT16
    content = graph([matmul()], element=half, weights=WEIGHTS.astype(np.float16), ir_version=8)
    assert answer(tmp_path, content) == (-0.5, "")


@pytest.mark.parametrize("columns", [2, 3])
def test_logits_are_refused_with_what_to_do(columns: int, tmp_path: Path) -> None:
    content = graph([matmul()], outputs=columns, weights=wide(columns), ir_version=8)
    with pytest.raises(ExportRefused, match=r"logits.*softmax"):
        answer(tmp_path, content)


def test_one_logit_is_no_probability(tmp_path: Path) -> None:
    content = graph([matmul()], ir_version=8)
    with pytest.raises(ExportRefused, match=r"logits.*--task regression"):
        answer(tmp_path, content, task="binary")
    assert answer(tmp_path, content, task="regression") == (-0.5, "")


def test_two_targets_are_no_regression() -> None:
    content = graph([matmul()], outputs=2, weights=wide(2), ir_version=8)
    with pytest.raises(ExportRefused, match="one value a row for --task regression, got 2"):
        convert_onnx(content, OnnxOptions(task="regression"))


def test_independent_labels_are_no_classes(tmp_path: Path) -> None:
    nodes = [matmul("raw"), helper.make_node("Sigmoid", ["raw"], ["scores"])]
    with pytest.raises(ExportRefused, match="add up to 1"):
        answer(tmp_path, graph(nodes, outputs=3, weights=wide(3), ir_version=8))


def classifier(**labels: Any) -> bytes:
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        coefficients=[-0.5, 1.0, -0.25, 0.5, -1.0, 0.25],
        intercepts=[0.0, 0.0],
        post_transform="SOFTMAX",
        **labels,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return graph([node], outputs=2, ir_version=8, opsets=opsets)


def test_labels_of_the_graph_are_the_decisions(tmp_path: Path) -> None:
    content = classifier(classlabels_strings=["default", "paid"])
    probability, decision = answer(tmp_path, content)
    assert (0.0 < probability < 0.5, decision) == (True, "default")


def columns() -> bytes:
    """Two columns by name, a whole number and a number, as converters of data frames write them."""
    made = helper.make_graph(
        [
            helper.make_node("Cast", ["age"], ["age_float"], to=TensorProto.FLOAT),
            helper.make_node("Concat", ["age_float", "income"], ["both"], axis=1),
            helper.make_node("ReduceSum", ["both", "axes"], ["scores"], keepdims=1),
        ],
        "g",
        [
            helper.make_tensor_value_info("age", TensorProto.INT64, ["N", 1]),
            helper.make_tensor_value_info("income", TensorProto.FLOAT, ["N", 1]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.array([1]), "axes")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_several_inputs_are_features_by_name(tmp_path: Path) -> None:
    assert answer(tmp_path, columns(), {"income": 0.5, "age": 30}) == (30.5, "")
    assert [f.kind for f in convert_onnx(columns(), OnnxOptions()).features] == ["integer", "number"]


def texts() -> bytes:
    encoder = helper.make_node(
        "LabelEncoder",
        ["city"],
        ["scores"],
        domain="ai.onnx.ml",
        keys_strings=["Bonn", "Kyiv"],
        values_floats=[1.5, 2.5],
        default_float=-1.0,
    )
    made = helper.make_graph(
        [encoder],
        "g",
        [helper.make_tensor_value_info("city", TensorProto.STRING, ["N", 1])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString())


def test_an_input_of_texts_is_a_category_of_the_schema(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match=r'"name": "city", "kind": "category"'):
        convert_onnx(texts(), OnnxOptions())
    evidence = Evidence(categories={"city": ("Kyiv", "Bonn")})
    assert answer(tmp_path, texts(), {"city": "Bonn"}, evidence=evidence) == (1.5, "")
