"""The ways of quantizing after training: what is stored in them, and that they stay on the fast road of a device."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tiny import build, images, jitter, settle

from kcls.data.preprocess import Preprocess
from kcls.errors import KclsError
from kcls.exporting.conversion import Mixed, convert
from kcls.exporting.tflite import make_tflite
from kcls.quantization import edge_form

NAMES = tuple(map(str, range(5)))
INT8, FLOAT = schema.TensorType.INT8, schema.TensorType.FLOAT32
INT8_KERNELS = [(kind, INT8, INT8) for kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
KINDS = {v: name for name, v in vars(schema.BuiltinOperator).items() if name.isupper()}


def network(label):
    """A tiny network whose statistics are settled, and four images of whole numbers."""
    model = jitter(build(label))
    squares = images(model, 4)
    settle(model, squares)
    return model, squares.round().astype("uint8")


def operators(contents):
    """Name, type of the input and type of the output of each operator of a file."""
    tree = schema.ModelT.InitFromPackedBuf(bytearray(contents), 0)
    (graph,) = tree.subgraphs
    return [
        (
            KINDS[tree.operatorCodes[op.opcodeIndex].builtinCode],
            *(graph.tensors[t].type for t in (op.inputs[0], op.outputs[0])),
        )
        for op in graph.operators
    ]


def graphs(contents):
    """How many pieces of a file the delegate runs."""
    interpreter = Interpreter(model_content=contents)
    interpreter.allocate_tensors()
    return [op["op_name"] for op in interpreter._get_ops_details()].count("DELEGATE")


def answers(contents, squares):
    interpreter = Interpreter(model_content=contents)
    interpreter.allocate_tensors()
    (image,), (score,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for square in squares:
        interpreter.set_tensor(image["index"], square[np.newaxis])
        interpreter.invoke()
        found.append(interpreter.get_tensor(score["index"])[0])
    return np.array(found)


@pytest.mark.parametrize(
    "label", ["vit", *(pytest.param(n, marks=pytest.mark.heavy) for n in ("swin", "convnext", "mobilenet_v3", "bit"))]
)
def test_mixed_is_one_graph_of_int8_kernels_and_float_between_them(label):
    model, squares = network(label)
    contents = convert(model, squares.shape[1], "mixed", squares)
    assert graphs(contents) == 1
    found = operators(contents)
    kernels = [op for op in found if op[0] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    assert kernels and {(takes, gives) for _, takes, gives in kernels} == {(INT8, INT8)}
    between = [op for op in found if op not in kernels and op[0] not in ("QUANTIZE", "DEQUANTIZE", "CAST", "RESHAPE")]
    assert not [op for op in between if INT8 in op[1:]]
    assert ("SOFTMAX", FLOAT, FLOAT) in found


def test_layers_of_mixed_stay_in_float_when_they_are_named():
    model, squares = network("cifar")
    mixed = Mixed(edge_form(model), squares.shape[1], squares)
    layers = mixed.layers()
    kernels = [op for op in operators(mixed.file()) if op in INT8_KERNELS]
    assert len(layers) == len(kernels) == len(set(layers))
    found = operators(mixed.file(layers[1:3]))
    assert len([op for op in found if op in INT8_KERNELS]) == len(layers) - 2
    whole = answers(convert(model, squares.shape[1], "none"), squares)
    # All of them in float is the float file, but for the batch norms, which are folded at another place.
    np.testing.assert_allclose(answers(mixed.file(layers), squares), whole, atol=1e-4)


def test_dynamic_int8_computes_depthwise_convolutions_in_float_in_one_graph():
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(256, 3, activation="relu")(image)  # kernels of 1,024 numbers and more are stored in int8
    x = keras.layers.DepthwiseConv2D(3, activation="relu")(x)
    model = jitter(keras.Model(image, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x))))
    squares = images(model, 4).round().astype("uint8")
    contents, whole = (convert(model, 8, quantize) for quantize in ("dynamic", "none"))
    assert graphs(contents) == 1
    assert ("DEQUANTIZE", INT8, FLOAT) in operators(contents) and len(contents) < 0.5 * len(whole)
    # Steps of 8 bits of three kernels, a share of 1 / 127 of each at most.
    np.testing.assert_allclose(answers(contents, squares), answers(whole, squares), atol=0.03)


def test_what_has_no_kernel_of_16_bits_is_refused_by_its_name():
    model, squares = network("vit")
    with pytest.raises(KclsError, match="LiteRT cannot run .*'int16x8': .*SQUARED_DIFFERENCE|SquaredDifference"):
        make_tflite(model, NAMES, Preprocess(squares.shape[1]), "int16x8", squares)


def test_int16x8_has_activations_of_16_bits():
    model, squares = network("cifar")
    contents = convert(model, squares.shape[1], "int16x8", squares)
    assert ("CONV_2D", schema.TensorType.INT16, schema.TensorType.INT16) in operators(contents)
    whole = answers(convert(model, squares.shape[1], "none"), squares)
    assert np.abs(answers(contents, squares) - whole).max() < 0.05 < np.abs(whole - 1 / 5).max()
