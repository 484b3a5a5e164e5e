"""The converter: a network becomes the bare bytes of a TFLite file, in float or quantized after training.

One uint8 image (1, S, S, 3) in, the probabilities (1, C) out, builtin operators only.
"""

import tempfile
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from kcls.backend import quiet_stderr
from kcls.exporting.rewrite import KERNELS, Rewriting
from kcls.quantization import (
    calibrate,
    can_be_aware,
    edge_form,
    is_quantization_aware,
    mixed_form,
    quantize_aware,
)

_OTHERS = [name for name in vars(schema.BuiltinOperator) if name.isupper() and name not in KERNELS]
_INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def convert(
    model: keras.Model, size: int, quantize: str, calibration: Sequence[np.ndarray] = (), in_float: Sequence[str] = ()
) -> bytes:
    """The file of ``model``, images 0..255 -> logits.

    Args:
        model: an ordinary network, or one of ``quantize_aware``, for ``int8`` or ``mixed``.
        size: S.
        quantize: see ``make_tflite``.
        calibration: uint8 squares (S, S, 3) that set ranges.
        in_float: see ``Mixed.file``.
    """
    aware = is_quantization_aware(model)
    if quantize == "mixed":
        return Mixed(model, size, calibration).file(in_float)
    if quantize == "int8" and not aware:
        model = edge_form(model)
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
    return Rewriting(contents).float_depthwise() if quantize == "dynamic" else contents


class Mixed:
    """Files of one network in which convolutions and dense layers are int8, and everything between them float32.

    What is between them, such as a layer norm, GELU, softmax or a residual sum, needs no range and no kernel that a
    delegate lacks, so that any network is one graph there. The network is calibrated once.

    The converter alone would fuse normalizations with kernels and hand scales on through reshapes: a ViT of digits then
    agreed with itself on 92.8 % of 359 images, and does on 98.3 % with the ranges of ``quantize_aware``.

    Args:
        model: images 0..255 -> logits; one of ``quantize_aware`` has learnt its ranges.
        size: S.
        calibration: uint8 squares (S, S, 3) that set the ranges of an ordinary network.
    """

    def __init__(self, model: keras.Model, size: int, calibration: Sequence[np.ndarray]):
        if can_be_aware(model, "mixed"):
            model = quantize_aware(model, quantize="mixed")
            calibrate(model, np.stack(calibration))
        learned: dict[str, tuple] = {}
        if is_quantization_aware(model):
            model, learned = mixed_form(model)
            calibration = [np.zeros((size, size, 3), np.uint8)]  # whose ranges are replaced
        else:
            model = edge_form(model)

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
        self._without_range: list[str] = []
        if learned:
            calibrated = Rewriting(self._debugger.calibrated_model)
            found = {name: layer_of(name, model.name, learned) for name in calibrated.outputs(KERNELS)}
            self._without_range = [name for name, layer in found.items() if layer is None]
            ranges = {name: learned[layer] for name, layer in found.items() if layer}
            self._debugger.calibrated_model = calibrated.set_ranges(ranges)

    def layers(self) -> list[str]:
        """The layers with a kernel, by the names of their outputs in the file, in the order of computation."""
        return [name for name in Rewriting(self.file()).outputs(KERNELS) if name not in self._without_range]

    def file(self, in_float: Sequence[str] = ()) -> bytes:
        """The file in which the layers ``in_float`` stay in float32, too."""
        self._debugger.options.denylisted_nodes = [*self._without_range, *in_float]
        with quiet_stderr():
            return self._debugger.get_nondebug_quantized_model()


def layer_of(tensor: str, model: str, layers: Collection[str]) -> str | None:
    """The last of some layers that a tensor of a file came from: its name holds those of all that was fused.

    Args:
        tensor: its name, ``model_1/stem_conv_1/convolution;model_1/stem_norm_1/...``, numbered or not.
        model: the name of the network.
        layers: the names to look for, in order.
    """
    parts = {part for place in tensor.split(";") for part in place.split("/")}
    if f"{model}_1" in parts:
        parts = {part.removesuffix("_1") for part in parts}
    return next((name for name in reversed(list(layers)) if name in parts), None)


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
