"""The converter: a network becomes the bare bytes of a TFLite file, in float or quantized after training.

One uint8 image (1, S, S, 3) in, the probabilities (1, C) out, builtin operators only.
"""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import flatbuffers
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from kcls.backend import quiet_stderr
from kcls.quantization import edge_form, is_quantization_aware

KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_OTHERS = [name for name in vars(schema.BuiltinOperator) if name.isupper() and name not in KERNELS]
_INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def convert(
    model: keras.Model, size: int, quantize: str, calibration: Sequence[np.ndarray] = (), in_float: Sequence[str] = ()
) -> bytes:
    """The file of ``model``, images 0..255 -> logits.

    Args:
        model: an ordinary network, or one of ``quantize_aware``, for ``int8``.
        size: S.
        quantize: see ``make_tflite``.
        calibration: uint8 squares (S, S, 3) that set ranges.
        in_float: see ``Mixed.file``.
    """
    aware = is_quantization_aware(model)
    if quantize in ("int8", "mixed") and not aware:
        model = edge_form(model)
    if quantize == "mixed":
        return Mixed(model, size, calibration).file(in_float)
    full_int8 = quantize == "int8"
    with _converter(model, size, tf.float32 if full_int8 else tf.uint8) as converter:
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int16x8":
            converter.target_spec.supported_ops = [_INT16, tf.lite.OpsSet.TFLITE_BUILTINS]
            converter.representative_dataset = lambda: ([square[np.newaxis]] for square in calibration)
        if full_int8:
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        if full_int8 and not aware:  # whose ranges are in the graph
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: _from_black_to_white(calibration)
        with quiet_stderr():
            contents = converter.convert()
    return float_depthwise(contents) if quantize == "dynamic" else contents


class Mixed:
    """Files of one network in which convolutions and dense layers are int8, and everything between them float32.

    What is between them, such as a layer norm, GELU, softmax or a residual sum, needs no range and no kernel that a
    delegate lacks, so that any network is one graph there. The network is calibrated once.

    Args:
        model: images 0..255 -> logits.
        size: S.
        calibration: uint8 squares (S, S, 3) that set the ranges.
    """

    def __init__(self, model: keras.Model, size: int, calibration: Sequence[np.ndarray]):
        def squares():
            return ([square[np.newaxis]] for square in calibration)

        with _converter(model, size, tf.uint8) as converter, quiet_stderr(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = squares
            self._debugger = tf.lite.experimental.QuantizationDebugger(
                converter=converter,
                debug_dataset=squares,
                debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_OTHERS),
            )

    def layers(self) -> list[str]:
        """The layers with a kernel, by the names of their outputs in the file, in the order of computation."""
        tree = schema.ModelT.InitFromPackedBuf(bytearray(self.file()), 0)
        (graph,) = tree.subgraphs
        kernels = [op for op in graph.operators if _is(tree, op, *KERNELS)]
        return [graph.tensors[op.outputs[0]].name.decode() for op in kernels]

    def file(self, in_float: Sequence[str] = ()) -> bytes:
        """The file in which the layers ``in_float`` stay in float32, too."""
        self._debugger.options.denylisted_nodes = list(in_float)
        with quiet_stderr():
            return self._debugger.get_nondebug_quantized_model()


@contextmanager
def _converter(model: keras.Model, size: int, dtype) -> Iterator[tf.lite.TFLiteConverter]:
    """A converter of one image of ``dtype`` in and probabilities out, for the time of the block."""

    def classify(image):
        return tf.nn.softmax(model(tf.cast(image, tf.float32), training=False))

    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec((1, size, size, 3), dtype, name="image")
    archive.add_endpoint("serving_default", classify, input_signature=[spec])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        yield converter


def _from_black_to_white(squares: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The calibration images, each with a black and a white corner.

    The input's range is then exactly 0..255, so that a pixel's byte is its quantized value.
    """
    for square in squares:
        image = square[np.newaxis].astype(np.float32)
        image[0, 0, 0], image[0, -1, -1] = 0, 255
        yield [image]


def float_depthwise(contents: bytes) -> bytes:
    """A file of dynamic int8 whose depthwise convolutions compute in float, from the same int8 kernels.

    The delegate has no depthwise convolution of float images and int8 kernels: left as the converter makes them, a
    MobileNet falls into 16 graphs and is slower than in float.
    """
    tree = schema.ModelT.InitFromPackedBuf(bytearray(contents), 0)
    (graph,) = tree.subgraphs
    found = [op for op in graph.operators if _is(tree, op, "DEPTHWISE_CONV_2D") and _is_dynamic(graph, op)]
    if not found:
        return contents
    code = _add_code(tree, schema.BuiltinOperator.DEQUANTIZE, version=5)  # of a scale a channel
    for operator in found:
        kernel, restored, step = graph.tensors[operator.inputs[1]], schema.TensorT(), schema.OperatorT()
        restored.name, restored.shape, restored.type = kernel.name + b"_float", kernel.shape, schema.TensorType.FLOAT32
        step.opcodeIndex, step.inputs, step.outputs = code, [operator.inputs[1]], [len(graph.tensors)]
        operator.inputs[1] = len(graph.tensors)
        graph.tensors.append(restored)
        graph.operators.insert(graph.operators.index(operator), step)
    builder = flatbuffers.Builder(len(contents) + 4096)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _is(tree, operator, *names: str) -> bool:
    """Whether an operator is of one of the kinds."""
    return tree.operatorCodes[operator.opcodeIndex].builtinCode in {getattr(schema.BuiltinOperator, n) for n in names}


def _is_dynamic(graph, operator) -> bool:
    """Whether an operator takes floats, and a kernel of int8."""
    kinds = [graph.tensors[index].type for index in operator.inputs[:2]]
    return kinds == [schema.TensorType.FLOAT32, schema.TensorType.INT8]


def _add_code(tree, builtin: int, version: int) -> int:
    """The index of a new kind of operator in a file."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = version
    tree.operatorCodes.append(code)
    return len(tree.operatorCodes) - 1
