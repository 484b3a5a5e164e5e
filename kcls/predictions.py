"""Predictions: what a model answers for every image of a split, from which every number about it is made."""

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kcls.artifact import Classifier
from kcls.errors import DataError, KclsError
from kcls.files import replacing

if TYPE_CHECKING:
    from kcls.data.source import Source

FILE_NAME = "predictions.npz"


@dataclass(frozen=True, eq=False)
class Predictions:
    """The answers of one artifact for N images of C classes.

    Attributes:
        logits: float32 (N, C). Of an artifact that gives probabilities, their logarithms: see ``Classifier.logits``.
        labels: the true classes, int64 (N,), 0 to C - 1; all -1 if nothing says them.
        names: of the images, N: see ``Source.names``.
        class_names: C, in the order of the logits.
    """

    logits: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    class_names: tuple[str, ...]

    def __post_init__(self):
        shape = (len(self.names), len(self.class_names))
        if self.logits.shape != shape or self.labels.shape != shape[:1]:
            raise KclsError(
                f"{shape[0]} images of {shape[1]} classes need logits {shape} and labels {shape[:1]}, "
                f"not {self.logits.shape} and {self.labels.shape}"
            )

    @cached_property
    def answers(self) -> np.ndarray:
        """The class with the highest logit of each image, (N,); of equal ones the lower."""
        return self.logits.argmax(-1)

    @cached_property
    def labelled(self) -> bool:
        """Whether the true classes are known."""
        return bool((self.labels >= 0).all())

    @cached_property
    def top1(self) -> float | None:
        """Share of the images whose answer is the label, 0..1; None without labels."""
        return float((self.answers == self.labels).mean()) if self.labelled else None

    def save(self, path: Path) -> None:
        """Writes them to one ``.npz`` file, whole or not at all; ``numpy.load`` reads it without kcls."""
        with replacing(path) as temporary:
            names, class_names = np.array(self.names), np.array(self.class_names)
            np.savez(temporary, logits=self.logits, labels=self.labels, names=names, class_names=class_names)

    @classmethod
    def load(cls, path: str | Path) -> "Predictions":
        """What ``save`` wrote.

        Raises:
            KclsError: there is no such file, or it holds no predictions.
        """
        try:
            with np.load(path) as file:
                names, class_names = (tuple(file[key].tolist()) for key in ("names", "class_names"))
                return cls(file["logits"], file["labels"], names, class_names)
        except OSError as error:
            raise KclsError(f"cannot read {path}: {error.strerror or error}") from None
        except (zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError, EOFError) as error:
            raise KclsError(f"{path} holds no predictions, or is damaged: {error}") from None


def predict_split(classifier: Classifier, source: "Source", *, batch_size: int = 128, every: int = 1) -> Predictions:
    """Reads a split once and lets any classifier answer each of its images, resized as the classifier wants it.

    Args:
        classifier: an opened artifact.
        source: the split.
        batch_size: images at once; a classifier that takes them one by one gets them so.
        every: 2 takes every second image only.

    Raises:
        DataError: the split has other classes, an image cannot be decoded or has no valid label, or the images are
            not as many as the split says.
    """
    import tensorflow as tf

    from kcls.data.reading import reading
    from kcls.data.stream import examples

    _check_classes(classifier.class_names, source.class_names, source.title)
    batches = examples(source, classifier.view, every=every).batch(batch_size if classifier.batch_size > 1 else 1)
    stream = batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
    parts = []
    while (batch := reading(source, lambda: next(stream, None))) is not None:
        index, images, labels = batch
        parts.append((index, classifier.logits(images), labels))
    count, expected = sum(len(part[0]) for part in parts), -(-source.count // every)
    if count != expected:
        raise DataError(f"{count} images were counted, but {source.title} has {expected}")
    index, logits, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    if source.labelled and labels.min() < 0 or labels.max() >= len(source.class_names):
        classes = len(source.class_names)
        raise DataError(f"labels run from {labels.min()} to {labels.max()}, but there are {classes} classes")
    return Predictions(logits, labels, tuple(source.names[i] for i in index), source.class_names)


def _check_classes(known: tuple[str, ...], found: tuple[str, ...], title: str) -> None:
    if found == known:
        return
    missing, new = (sorted(set(a) - set(b)) for a, b in ((known, found), (found, known)))
    said = [f"it lacks {', '.join(missing)}"] * bool(missing) + [f"it has also {', '.join(new)}"] * bool(new)
    raise DataError(f"the classes of {title} are not those of the model: {' and '.join(said) or 'their order differs'}")
