"""The networks that were made for phones run there in int8 as one graph, with nothing left to slower kernels."""

import pytest
from ai_edge_litert.interpreter import Interpreter
from tiny import build, images, jitter, settle

from kcls.data.preprocess import Preprocess
from kcls.exporting.tflite import make_tflite


def int8_operations(label):
    """The operations of a tiny network's int8 file as XNNPACK has it: those it took, and a DELEGATE for each graph."""
    model = jitter(build(label, image_size=64))  # the last map is then larger than a pixel, and the pool does something
    squares = images(model, 4)
    settle(model, squares)
    names = tuple(map(str, range(model.output.shape[-1])))
    contents = make_tflite(model, names, Preprocess(64), "int8", squares.astype("uint8"))
    interpreter = Interpreter(model_content=contents)
    interpreter.allocate_tensors()
    return interpreter._get_ops_details()


@pytest.mark.heavy
@pytest.mark.parametrize("label", ["efficientnet_lite", "mobilenet_v4", "mobilenet_v4_fused"])
def test_all_from_the_bytes_of_the_image_to_the_logits_is_one_graph_of_the_delegate(label):
    operations = int8_operations(label)
    graph, *others = [op for op in operations if op["op_name"] == "DELEGATE"]
    assert not others, f"{len(others)} more graphs"
    first, *_, last = (op for op in operations if op["op_name"] == "QUANTIZE")
    (softmax,) = [op for op in operations if op["op_name"] == "SOFTMAX"]
    assert set(first["outputs"]) <= set(graph["inputs"]) and set(softmax["inputs"]) == set(graph["outputs"])
    assert set(last["inputs"]) == set(softmax["outputs"])
    assert not [op["op_name"] for op in operations if "RELU" in op["op_name"]], "an activation is not part of its layer"
