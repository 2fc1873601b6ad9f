"""Weights in another file are found in whatever way the bytes say it."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from server.model.external_data import has_external_data


def model(tensor: TensorProto, *, deep: bool = False) -> bytes:
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    nodes = [helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)] if deep else []
    graph = helper.make_graph(nodes, "location", [], [], [] if deep else [tensor])
    return bytes(helper.make_model(graph).SerializeToString())


def external() -> TensorProto:
    tensor = numpy_helper.from_array(np.ones(2, dtype=np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    return tensor


@pytest.mark.parametrize("deep", [False, True])
def test_external_data_is_found_in_a_graph_and_in_a_branch(deep: bool) -> None:
    assert has_external_data(model(external(), deep=deep))


def test_a_length_written_longer_than_needed_changes_nothing() -> None:
    entry = b"\x0a\x08location\x12\x05w.bin"
    longer = b"\x0a\x88\x00location\x12\x05w.bin"
    tensor = b"\x08\x02\x6a" + bytes([len(longer)]) + longer + b"\x70\x01"
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    content = b"\x08\x0a\x3a" + bytes([len(graph)]) + graph
    assert entry not in content
    assert has_external_data(content)


@pytest.mark.parametrize("deep", [False, True])
def test_a_name_that_says_location_is_no_external_data(deep: bool) -> None:
    tensor = numpy_helper.from_array(np.ones(2, dtype=np.float32), "location")
    assert not has_external_data(model(tensor, deep=deep))


@pytest.mark.parametrize(
    "content", [b"location", b"\x3a\xff\x01location", b"\x0b\x08location", b"\xff" * 20 + b"location"]
)
def test_what_cannot_be_read_is_not_trusted(content: bytes) -> None:
    assert has_external_data(content)
