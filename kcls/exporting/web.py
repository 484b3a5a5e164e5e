"""A web page: a folder for any static server, in which the model classifies in the browser, without a network."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from kcls import shipped
from kcls.data.archive import config_files
from kcls.data.preprocess import Preprocess
from kcls.exporting.tflite import write_tflite
from kcls.formats import PAGE_MODEL
from kcls.weights.digest import weights_sha256


def write_web_page(
    model: keras.Model,
    class_names: tuple[str, ...],
    preprocess: Preprocess,
    folder: Path,
    quantize: str,
    calibration: Sequence[np.ndarray] = (),
    in_float: Sequence[str] = (),
) -> None:
    """Writes a folder with the page, the runtime that it needs, and the model with its labels and preprocessing.

    Args:
        model: see ``make_tflite``, as the others.
        class_names: in the order of the logits.
        preprocess: how the page resizes an image.
        folder: which is made.
        quantize: of the model.
        calibration: for some quantizations.
        in_float: for ``mixed``.
    """
    shutil.copytree(shipped.WEB_PAGE, folder)
    write_tflite(model, class_names, preprocess, folder / PAGE_MODEL, quantize, calibration, in_float)
    for name, text in config_files(class_names, preprocess, weights_sha256(model)).items():
        (folder / name).write_text(text, encoding="utf-8")
