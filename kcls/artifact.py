"""Anything on disk that classifies, opened the same way: a run, a ``.keras`` file, a SavedModel, a TFLite file.

A TFLite file is run by ai-edge-litert, without TensorFlow.
"""

import json
import os
import struct
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kcls.backend import quiet_stderr, require_tensorflow
from kcls.data.preprocess import Preprocess
from kcls.errors import KclsError
from kcls.run import Run, is_run

LABELS_NAME = "labels.txt"  # in a TFLite file and in a SavedModel's assets.extra
CONFIG_NAME = "kcls.json"  # beside it: what Preprocess needs


class Classifier(ABC):
    """Images in, one probability a class out.

    Attributes:
        class_names: in the order of the probabilities.
    """

    class_names: tuple[str, ...]

    @abstractmethod
    def classify(self, images: Sequence[Image.Image]) -> np.ndarray:
        """RGB Pillow images of any size -> probabilities float32 (B, C)."""


class SquareClassifier(Classifier):
    """A classifier that is fed with preprocessed squares."""

    preprocess: Preprocess

    @abstractmethod
    def probabilities(self, squares: np.ndarray) -> np.ndarray:
        """Preprocessed images uint8 (B, S, S, 3) -> probabilities float32 (B, C)."""

    def classify(self, images: Sequence[Image.Image]) -> np.ndarray:
        """See ``Classifier.classify``."""
        return self.probabilities(np.stack([self.preprocess.pillow(image) for image in images]))


class KerasClassifier(SquareClassifier):
    """The model of a finished run."""

    def __init__(self, run: Run):
        run.require_finished()
        require_tensorflow()
        import keras
        import tensorflow as tf

        try:
            self.model = keras.models.load_model(run.model_file, compile=False)
        except Exception as error:  # Keras raises many kinds for a damaged file
            raise KclsError(f"cannot read the model {run.model_file}: {error}") from None
        self.preprocess = Preprocess.from_recipe(run.recipe.data)
        self.class_names = run.class_names
        size = self.preprocess.image_size
        squares = tf.TensorSpec((None, size, size, 3), tf.uint8)  # one trace for any number of images
        self._forward = tf.function(lambda x: self.model(tf.cast(x, tf.float32)), input_signature=[squares])

    def logits(self, squares: np.ndarray) -> np.ndarray:
        """Preprocessed images uint8 (B, S, S, 3) -> logits float32 (B, C)."""
        return self._forward(squares).numpy()

    def probabilities(self, squares: np.ndarray) -> np.ndarray:
        """See ``SquareClassifier.probabilities``."""
        return softmax(self.logits(squares))


class SavedModelClassifier(Classifier):
    """A SavedModel of ``kcls export``; its preprocessing is in its graph."""

    def __init__(self, path: Path):
        require_tensorflow()
        import tensorflow as tf

        try:
            self.model = tf.saved_model.load(str(path))
            self.signature = self.model.signatures["serving_default"]
            self.class_names = _lines((path / "assets.extra" / LABELS_NAME).read_bytes())
        except (OSError, KeyError, ValueError) as error:
            raise KclsError(f"{path} is not a SavedModel of kcls: {error}") from None
        self._positions = {name: i for i, name in enumerate(self.class_names)}

    def classify(self, images: Sequence[Image.Image]) -> np.ndarray:
        """See ``Classifier.classify``."""
        import tensorflow as tf

        return np.stack([self._one(tf.constant(np.asarray(image)[np.newaxis])) for image in images])

    def _one(self, image) -> np.ndarray:
        answer = self.signature(images=image)
        probabilities = np.zeros(len(self.class_names), np.float32)
        labels = [label.decode() for label in answer["labels"][0].numpy()]
        probabilities[[self._positions[label] for label in labels]] = answer["probabilities"][0].numpy()
        return probabilities


class TFLiteClassifier(SquareClassifier):
    """A TFLite file of ``kcls export``: uint8 image in, probabilities out (float, or uint8 in steps of 1/256).

    Args:
        path: the file.
        threads: of the interpreter; None is one for each core.
    """

    def __init__(self, path: Path, threads: int | None = None):
        from ai_edge_litert.interpreter import Interpreter

        try:
            contents = path.read_bytes()
        except OSError as error:
            raise KclsError(f"cannot read {path}: {error.strerror}") from None
        if contents[4:8] != b"TFL3":
            raise KclsError(f"{path} is not a TFLite model")
        try:
            with zipfile.ZipFile(path) as inside:
                self.class_names = _lines(inside.read(LABELS_NAME))
                config = json.loads(inside.read(CONFIG_NAME))
            self.preprocess = Preprocess(**config["preprocess"])
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError):
            raise KclsError(
                f"{path} holds no labels and preprocessing: it was not made by `kcls export`, or is damaged"
            ) from None
        try:
            with quiet_stderr():
                self.interpreter = Interpreter(model_content=contents, num_threads=threads or os.cpu_count())
                self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError, struct.error) as error:
            raise KclsError(f"{path} is damaged: {error}") from None
        self.input = self.interpreter.get_input_details()[0]
        self.output = self.interpreter.get_output_details()[0]

    def probabilities(self, squares: np.ndarray) -> np.ndarray:
        """See ``SquareClassifier.probabilities``; one image at a time."""
        return np.stack([self._one(square) for square in squares])

    def _one(self, square: np.ndarray) -> np.ndarray:
        self.interpreter.set_tensor(self.input["index"], square[np.newaxis])
        self.interpreter.invoke()
        values = self.interpreter.get_tensor(self.output["index"])[0]
        if values.dtype == np.uint8:
            scale, zero = self.output["quantization"]
            values = (values.astype(np.float32) - zero) * scale
        return values


def open_artifact(path: str | Path) -> Classifier:
    """Opens a run's folder, a run's ``model.keras``, a SavedModel's folder or a ``.tflite`` file.

    Raises:
        KclsError: it is none of these, is damaged, or is an unfinished run.
    """
    path = Path(path)
    if not path.exists():
        raise KclsError(f"no artifact at {path}")
    if path.suffix == ".tflite":
        return TFLiteClassifier(path)
    if is_run(path):
        return KerasClassifier(Run(path))
    if path.suffix == ".keras":
        if not is_run(path.parent):
            raise KclsError(f"{path} is not in a run's folder, so its class names and preprocessing are not known")
        return KerasClassifier(Run(path.parent))
    if (path / "saved_model.pb").is_file():
        return SavedModelClassifier(path)
    raise KclsError(f"{path} is not an artifact (a run, a .keras file, a SavedModel or a .tflite file)")


def is_artifact(path: str | Path) -> bool:
    """Whether the path looks like one: by its name, or by what is in the folder."""
    path = Path(path)
    return path.suffix in (".tflite", ".keras") or is_run(path) or (path / "saved_model.pb").is_file()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (B, C) -> probabilities (B, C)."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _lines(contents: bytes) -> tuple[str, ...]:
    return tuple(contents.decode().splitlines())
