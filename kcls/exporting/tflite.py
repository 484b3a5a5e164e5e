"""TFLite: one uint8 square in, probabilities out, builtin operators only; float or quantized after training."""

import io
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from kcls import labels
from kcls.backend import quiet_stderr
from kcls.data.archive import add_config
from kcls.data.preprocess import Preprocess
from kcls.errors import KclsError
from kcls.exporting.conversion import convert
from kcls.exporting.metadata import add_metadata, describe
from kcls.quantization import is_quantization_aware, quantization_of, unknown_ranges
from kcls.weights.digest import weights_sha256


def write_tflite(
    model: keras.Model,
    class_names: tuple[str, ...],
    preprocess: Preprocess,
    path: Path,
    quantize: str,
    calibration: Sequence[np.ndarray] = (),
    in_float: Sequence[str] = (),
) -> None:
    """Writes what ``make_tflite`` makes."""
    path.write_bytes(make_tflite(model, class_names, preprocess, quantize, calibration, in_float))


def make_tflite(
    model: keras.Model,
    class_names: tuple[str, ...],
    preprocess: Preprocess,
    quantize: str,
    calibration: Sequence[np.ndarray] = (),
    in_float: Sequence[str] = (),
) -> bytes:
    """Converts ``model`` to a TFLite file with labels and preprocessing inside.

    Args:
        model: images 0..255 -> logits.
        class_names: in the order of the logits.
        preprocess: how a client must resize an image.
        quantize: what is stored, and computed, in fewer bits.

            - ``none``: nothing, it is float32.
            - ``float16``: weights are stored so.
            - ``dynamic``: int8 weights; an image's own range is measured before each layer. No calibration.
            - ``mixed``: int8 convolutions and dense layers, float32 between them. See ``conversion.Mixed``.
            - ``int8``: everything, input and output too.
            - ``int16x8``: int8 weights, int16 activations, for hardware that has them; slow on a CPU.

            A model of ``quantize_aware`` has only the one that it was made for, ``int8`` or ``mixed``.
        calibration: uint8 squares (S, S, 3) of the training set, needed for ``mixed``, ``int8`` and ``int16x8``: they
            set the ranges, which a model of ``quantize_aware`` has learnt already.
        in_float: of ``mixed``: layers that stay in float32, see ``conversion.Mixed.layers``.

    Raises:
        KclsError: the converter failed, or made something that does not take one uint8 image of 0..255 or that LiteRT
            cannot run; or a model of ``quantize_aware`` has no ranges yet or is to be quantized otherwise.
    """
    digest = weights_sha256(model)
    if is_quantization_aware(model):
        _check_aware(model, quantize)
    try:
        contents = convert(model, preprocess.image_size, quantize, calibration, in_float)
    except Exception as error:  # the converter raises many kinds
        raise KclsError(f"TFLite cannot express {model.name} with quantize {quantize!r}: {error}") from error
    _check(contents, f"{model.name} with quantize {quantize!r}")
    description = describe(model.name, f"Image classifier of {len(class_names)} classes.", labels.FILE_NAME)
    whole = io.BytesIO(add_metadata(contents, description))
    add_config(whole, class_names, preprocess, digest)
    return whole.getvalue()


def _check_aware(model: keras.Model, quantize: str) -> None:
    if quantize != quantization_of(model):
        raise KclsError(
            f"{model.name} is quantization-aware, so its file is {quantization_of(model)}, not {quantize!r}; "
            "for another kind, export kcls.quantization.plain(model)"
        )
    if unknown := unknown_ranges(model):
        raise KclsError(
            f"{model.name} has learnt no range for {len(unknown)} activations, such as {unknown[0]}: "
            "train it first, or use kcls.quantization.calibrate"
        )


def _check(contents: bytes, what: str) -> None:
    """Raises a KclsError if a file does not take bytes, or LiteRT cannot run it."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=contents)
    (image,) = interpreter.get_input_details()
    scale, zero = image["quantization"]
    if image["dtype"] != np.uint8 or (scale and (abs(scale - 1) > 1e-6 or zero != 0)):
        raise KclsError(f"the converter made an input of {image['dtype']} with scale {scale} and zero point {zero}")
    try:
        with quiet_stderr():
            interpreter.allocate_tensors()
            interpreter.invoke()
    except RuntimeError as error:  # an operator that has no kernel of this kind
        raise KclsError(f"LiteRT cannot run {what}: {str(error).strip()}") from None
