"""TFLite: one uint8 square in, probabilities out, builtin operators only; float or quantized after training."""

import io
import tempfile
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kcls import labels
from kcls.backend import quiet_stderr
from kcls.data.archive import add_config
from kcls.data.preprocess import Preprocess
from kcls.errors import KclsError
from kcls.exporting.metadata import add_metadata, describe
from kcls.quantization import edge_form, is_quantization_aware, unknown_ranges
from kcls.weights.digest import weights_sha256


def write_tflite(
    model: keras.Model,
    class_names: tuple[str, ...],
    preprocess: Preprocess,
    path: Path,
    quantize: str,
    calibration: Iterable[np.ndarray] = (),
) -> None:
    """Writes what ``make_tflite`` makes."""
    path.write_bytes(make_tflite(model, class_names, preprocess, quantize, calibration))


def make_tflite(
    model: keras.Model,
    class_names: tuple[str, ...],
    preprocess: Preprocess,
    quantize: str,
    calibration: Iterable[np.ndarray] = (),
) -> bytes:
    """Converts ``model`` to a TFLite file with labels and preprocessing inside.

    Args:
        model: images 0..255 -> logits.
        class_names: in the order of the logits.
        preprocess: how a client must resize an image.
        quantize: ``none`` (float32), ``float16`` (weights), ``dynamic`` (int8 weights, float between the layers) or
            ``int8`` (everything), the only one for a model of ``quantize_aware``.
        calibration: uint8 squares (S, S, 3) of the training set, needed for ``int8``: they set the ranges, which a
            model of ``quantize_aware`` has learnt already.

    Raises:
        KclsError: the converter failed, or made something other than one uint8 image of 0..255 in; or a model of
            ``quantize_aware`` has no ranges yet or is to be quantized otherwise.
    """
    digest = weights_sha256(model)
    if is_quantization_aware(model):
        _check_aware(model, quantize)
    elif quantize == "int8":
        model = edge_form(model)
    try:
        contents = _convert(model, preprocess.image_size, quantize, calibration)
    except Exception as error:  # the converter raises many kinds
        raise KclsError(f"TFLite cannot express {model.name} with quantize {quantize!r}: {error}") from error
    _check_input(contents)
    description = describe(model.name, f"Image classifier of {len(class_names)} classes.", labels.FILE_NAME)
    whole = io.BytesIO(add_metadata(contents, description))
    add_config(whole, class_names, preprocess, digest)
    return whole.getvalue()


def _check_aware(model: keras.Model, quantize: str) -> None:
    if quantize != "int8":
        raise KclsError(
            f"{model.name} is quantization-aware, so its file is int8, not {quantize!r}; "
            "for another kind, export kcls.quantization.plain(model)"
        )
    if unknown := unknown_ranges(model):
        raise KclsError(
            f"{model.name} has learnt no range for {len(unknown)} activations, such as {unknown[0]}: "
            "train it first, or use kcls.quantization.calibrate"
        )


def _convert(model: keras.Model, size: int, quantize: str, calibration: Iterable[np.ndarray]) -> bytes:
    """The bare file: one uint8 image (1, size, size, 3) in, probabilities out."""
    full_int8 = quantize == "int8"

    def classify(image):
        return tf.nn.softmax(model(tf.cast(image, tf.float32), training=False))

    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec((1, size, size, 3), tf.float32 if full_int8 else tf.uint8, name="image")
    archive.add_endpoint("serving_default", classify, input_signature=[spec])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if full_int8:
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        if full_int8 and not is_quantization_aware(model):  # whose ranges are in the graph
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: _representative(calibration)
        with quiet_stderr():
            return converter.convert()


def _representative(squares: Iterable[np.ndarray]):
    """The calibration images, each with a black and a white corner.

    The input's range is then exactly 0..255, so that a pixel's byte is its quantized value.
    """
    for square in squares:
        image = square[np.newaxis].astype(np.float32)
        image[0, 0, 0], image[0, -1, -1] = 0, 255
        yield [image]


def _check_input(contents: bytes) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=contents)
    (image,) = interpreter.get_input_details()
    scale, zero = image["quantization"]
    if image["dtype"] != np.uint8 or (scale and (abs(scale - 1) > 1e-6 or zero != 0)):
        raise KclsError(f"the converter made an input of {image['dtype']} with scale {scale} and zero point {zero}")
