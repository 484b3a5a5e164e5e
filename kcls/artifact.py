"""Anything that classifies, opened the same way: a run, a ``.keras`` file, a SavedModel, a TFLite file, and the
pretrained weights of other libraries.

A TFLite file is run by ai-edge-litert, without TensorFlow.
"""

import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from kcls import labels
from kcls.backend import quiet_stderr, require_tensorflow
from kcls.data.archive import read_config
from kcls.data.decode import decode_tensor
from kcls.data.preprocess import Preprocess
from kcls.errors import KclsError
from kcls.formats import FORMATS, PAGE_MODEL
from kcls.run import finished_run, is_run
from kcls.weights.source import is_source

if TYPE_CHECKING:
    import keras


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (B, C) -> probabilities (B, C)."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class Classifier(ABC):
    """Images in, one probability a class out.

    Attributes:
        class_names: in the order of the probabilities.
        batch_size: how many prepared images to hand over at once; 1 if each may have its own size.
        least_probability: of a class whose probability is given as 0, in ``logits``.
        origin: where weights of another library came from and what was guessed of them, for people; else empty.
    """

    class_names: tuple[str, ...]
    batch_size = 32
    least_probability = float(np.finfo(np.float32).tiny)
    origin = ""

    @abstractmethod
    def prepare(self, image: Image.Image) -> np.ndarray:
        """An RGB Pillow image of any size -> what ``probabilities`` takes."""

    @abstractmethod
    def view(self, contents):
        """The same in TensorFlow: an encoded image (scalar string tensor) -> what ``probabilities`` takes."""

    @abstractmethod
    def probabilities(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """Prepared images -> probabilities float32 (B, C)."""

    def logits(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """Prepared images -> logits float32 (B, C).

        Of a classifier that gives probabilities only, their logarithms: softmax and temperature do the same to them.
        A probability of 0, which is one that was too small to be told from 0, counts as ``least_probability``, so
        that its logarithm, and the loss of an image of that class, is finite. In float32 that is the smallest normal
        number, 1.2e-38. In uint8 it is half a step shared by all classes, 1 / (512 C): it ranks below a probability
        that is given, and all of an image's zeros together add no more than the half step that was rounded off, so
        they move the loss of an image whose class is given by .002 at most.
        """
        return np.log(np.maximum(self.probabilities(prepared), np.float32(self.least_probability)))

    def classify(self, images: Sequence[Image.Image]) -> np.ndarray:
        """RGB Pillow images of any size -> probabilities float32 (B, C)."""
        return self.probabilities([self.prepare(image) for image in images])


class SquareClassifier(Classifier):
    """A classifier whose prepared images are preprocessed squares, uint8 (S, S, 3)."""

    preprocess: Preprocess

    def prepare(self, image: Image.Image) -> np.ndarray:
        """See ``Classifier.prepare``."""
        return self.preprocess.pillow(image)

    def view(self, contents):
        """See ``Classifier.view``."""
        return self.preprocess.view(contents)


class KerasClassifier(SquareClassifier):
    """A Keras model, as it is in a run or filled from pretrained weights.

    Args:
        model: squares float32 (B, S, S, 3), RGB 0..255 -> logits (B, C).
        class_names: C, in the order of the logits.
        preprocess: how an image becomes a square.
        origin: see ``Classifier``.
    """

    def __init__(self, model: "keras.Model", class_names: tuple[str, ...], preprocess: Preprocess, origin: str = ""):
        import tensorflow as tf

        self.model, self.class_names, self.preprocess, self.origin = model, class_names, preprocess, origin
        size = preprocess.image_size
        squares = tf.TensorSpec((None, size, size, 3), tf.uint8)  # one trace for any number of images
        self._forward = tf.function(lambda x: self.model(tf.cast(x, tf.float32)), input_signature=[squares])

    def logits(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """See ``Classifier.logits``: the network's own."""
        return self._forward(np.asarray(prepared)).numpy()

    def probabilities(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """See ``Classifier.probabilities``."""
        return softmax(self.logits(prepared))


class SavedModelClassifier(Classifier):
    """A SavedModel of ``kcls export``; its preprocessing is in its graph, so a prepared image has any size."""

    batch_size = 1

    def __init__(self, path: Path):
        require_tensorflow()
        import tensorflow as tf

        try:
            self.model = tf.saved_model.load(str(path))
            self.signature = self.model.signatures["serving_default"]
            names = (path / "assets.extra" / labels.FILE_NAME).read_text(encoding="utf-8")
        except (OSError, KeyError, ValueError) as error:
            raise KclsError(f"{path} is not a SavedModel of kcls: {error}") from None
        self.class_names = labels.from_text(names)
        self._positions = {name: i for i, name in enumerate(self.class_names)}

    def prepare(self, image: Image.Image) -> np.ndarray:
        """See ``Classifier.prepare``."""
        return np.asarray(image)

    def view(self, contents):
        """See ``Classifier.view``."""
        return decode_tensor(contents)

    def probabilities(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """See ``Classifier.probabilities``."""
        return np.stack([self._one(image) for image in prepared])

    def _one(self, image: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        answer = self.signature(images=tf.constant(image[np.newaxis]))
        order = [self._positions[label.decode()] for label in answer["labels"][0].numpy()]
        probabilities = np.zeros(len(self.class_names), np.float32)
        probabilities[order] = answer["probabilities"][0].numpy()
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
        self.class_names, self.preprocess = config = read_config(path)
        try:
            with quiet_stderr():
                self.interpreter = Interpreter(model_content=contents, num_threads=threads or os.cpu_count())
                self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError, struct.error) as error:
            raise KclsError(f"{path} is damaged: {error}") from None
        self.input = self.interpreter.get_input_details()[0]
        self.output = self.interpreter.get_output_details()[0]
        _check_shapes(path, tuple(self.input["shape"][1:]), tuple(self.output["shape"][1:]), *config)
        if self.input["dtype"] != np.uint8:
            raise KclsError(f"{path} takes {self.input['dtype'].__name__}, not bytes: it was not made by kcls")
        if self.output["dtype"] == np.uint8:
            self.least_probability = self.output["quantization"][0] / 2 / len(self.class_names)

    def probabilities(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """See ``Classifier.probabilities``; one image at a time."""
        return np.stack([self._one(square) for square in prepared])

    def _one(self, square: np.ndarray) -> np.ndarray:
        self.interpreter.set_tensor(self.input["index"], square[np.newaxis])
        self.interpreter.invoke()
        values = self.interpreter.get_tensor(self.output["index"])[0]
        if values.dtype == np.uint8:
            scale, zero = self.output["quantization"]
            values = (values.astype(np.float32) - zero) * scale
        return values


def open_web_page(path: Path, **options: int | None) -> TFLiteClassifier:
    """The model of a web page of ``kcls export``; ``options`` are those of ``TFLiteClassifier``."""
    return TFLiteClassifier(path / PAGE_MODEL, **options)


def _check_shapes(
    file: Path, takes: tuple[int, ...], gives: tuple[int, ...], class_names: tuple[str, ...], preprocess: Preprocess
) -> None:
    """Raises a KclsError if a model and what lies beside it in its file are of different sizes."""
    size, classes = preprocess.image_size, len(class_names)
    if takes != (size, size, 3) or gives != (classes,):
        raise KclsError(
            f"{file} contradicts itself: its model takes {takes} and gives {gives}, "
            f"but its labels and preprocessing are of {size} px and {classes} classes"
        )


def open_keras(file: Path) -> KerasClassifier:
    """The finished model of a run: a ``.keras`` file with its class names and preprocessing inside.

    Raises:
        KclsError: it is damaged, or was not made by kcls.
    """
    class_names, preprocess = read_config(file)
    require_tensorflow()
    from kcls.weights.own import open_model

    model = open_model(file)
    _check_shapes(file, model.input_shape[1:], model.output_shape[1:], class_names, preprocess)
    return KerasClassifier(model, class_names, preprocess)


def open_source(source: str) -> KerasClassifier:
    """Pretrained weights of another library with what makes them a classifier, see ``kcls.load_model``.

    Raises:
        KclsError: they cannot be had, do not say which network they are of, or do not fit it; or nothing says what
            their classes are called.
    """
    require_tensorflow()
    from kcls.pretrained import open_pretrained

    opened = open_pretrained(source)
    return KerasClassifier(opened.model, opened.class_names, opened.preprocess, origin=str(opened.found))


def open_artifact(path: str | Path) -> Classifier:
    """Opens a run's folder, its ``model.keras``, an exported file of any of the ``FORMATS``, or pretrained weights.

    Args:
        path: of what is on disk, or a source such as ``package/efficientnet_lite0``, see ``kcls.load_model``. What is
            on disk comes first.

    Raises:
        KclsError: it is none of these, is damaged, or is an unfinished run; weights cannot be had or used.
    """
    if is_source(str(path)):
        return open_source(str(path))
    path = Path(path)
    if not path.exists():
        raise KclsError(f"no artifact at {path}")
    if _is_keras(path):
        return open_keras(path)
    if is_run(path):
        return open_keras(finished_run(path).model_file)
    for format in FORMATS.values():
        if format.recognises(path):
            return format.open(path)
    kinds = [f"a {format.title}" for format in FORMATS.values()]
    raise KclsError(f"{path} is not an artifact (a run, a .keras file, {' or '.join(kinds)})")


def is_artifact(path: str | Path) -> bool:
    """Whether the path looks like one: by its name, or by what is in the folder."""
    if is_source(str(path)):
        return True
    path = Path(path)
    return _is_keras(path) or is_run(path) or any(format.recognises(path) for format in FORMATS.values())


def _is_keras(path: Path) -> bool:
    return path.suffix == ".keras"
