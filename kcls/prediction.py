"""Prediction: images to labels with probabilities."""

import glob
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from kcls.artifact import Classifier, open_artifact
from kcls.data.decode import SUFFIXES, decode_pillow, read_image, to_rgb
from kcls.errors import DataError, RecipeError
from kcls.run import Run


@dataclass(frozen=True)
class Prediction:
    """The answer for one image: its most probable labels, or why there is none.

    Attributes:
        image: the path as found, or which of the given images it is.
        labels: (class name, probability), the most probable first; empty if the image could not be read.
        error: what was wrong with the image, None if nothing was.
    """

    image: str
    labels: tuple[tuple[str, float], ...] = ()
    error: str | None = None


Picture = str | Path | bytes | Image.Image | np.ndarray
"""One image: the path of a file, ``-`` for standard input, a file's bytes, or pixels, uint8 RGB (H, W, 3)."""


def predict(
    artifact: Classifier | Run | str | Path, images: Picture | Iterable[Picture], *, top_k: int = 5
) -> Iterator[Prediction]:
    """Classifies images in the given order: files, folders (with their subfolders), glob patterns, bytes, pixels.

    An image that cannot be read is answered with its error, and the others are done.

    Args:
        artifact: a run, a SavedModel, a TFLite file, a source of pretrained weights (see ``kcls.load_model``), or an
            opened one.
        images: what to classify, one or many; a path may also be a folder or a glob pattern.
        top_k: how many labels each image gets, at most the number of classes.

    Raises:
        KclsError: the artifact cannot be opened.
        RecipeError: ``top_k`` is below 1, or something is no image.
    """
    if top_k < 1:
        raise RecipeError(f"top_k must be 1 or more, not {top_k}")
    if isinstance(artifact, Run):
        artifact = artifact.path
    classifier = artifact if isinstance(artifact, Classifier) else open_artifact(artifact)
    return _predictions(classifier, _expand(_many(images)), top_k)


def _many(images: Picture | Iterable[Picture]) -> Iterable[Picture]:
    """The images, where one may come alone: a text is a path and no sequence of letters."""
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim > 3 else [images]
    return [images] if isinstance(images, str | Path | bytes | Image.Image) else images


Found = tuple[str, Callable[[], Image.Image]]
"""An image's name, and what reads it or raises a DataError."""


def _predictions(classifier: Classifier, found: Iterator[Found], top_k: int) -> Iterator[Prediction]:
    while batch := list(islice(found, classifier.batch_size)):
        answers: dict[int, Prediction] = {}
        prepared: dict[int, np.ndarray] = {}  # as small as the model sees them: photos are large
        for i, (name, read) in enumerate(batch):
            try:
                prepared[i] = classifier.prepare(read())
            except DataError as error:
                answers[i] = Prediction(name, error=str(error).removeprefix(f"{name}: "))
        if prepared:
            probabilities = classifier.probabilities(list(prepared.values()))
            for i, row in zip(prepared, probabilities, strict=True):
                best = np.argsort(-row, kind="stable")[:top_k]
                answers[i] = Prediction(batch[i][0], tuple((classifier.class_names[j], float(row[j])) for j in best))
        yield from (answers[i] for i in range(len(batch)))


def _expand(images: Iterable[Picture]) -> Iterator[Found]:
    """Every single image."""
    for number, image in enumerate(images, 1):
        if isinstance(image, str | Path) and str(image) != "-":
            yield from _files(image)
        elif isinstance(image, Picture):
            name = "standard input" if isinstance(image, str | Path) else f"image {number}"
            yield name, partial(_open, image, name)
        else:
            raise RecipeError(f"image {number} is a {type(image).__name__}, not a path, bytes or pixels")


def _files(path: str | Path) -> Iterator[Found]:
    """The files that a path means: itself, those of a folder, or those that match a pattern."""
    if Path(path).is_dir():
        files = sorted(str(f) for f in Path(path).rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
        nothing = f"the folder holds no image ({', '.join(SUFFIXES)})"
    elif Path(path).exists() or not glob.has_magic(str(path)):
        files, nothing = [str(path)], ""  # a missing file gets its error when it is read
    else:
        files = sorted(f for f in glob.glob(str(path), recursive=True) if Path(f).is_file())
        nothing = "no file matches the pattern"
    yield from ((file, partial(read_image, file)) for file in files)
    if not files:
        yield str(path), partial(_refuse, nothing)


def _refuse(reason: str) -> Image.Image:
    raise DataError(reason)


def _open(image: Picture, name: str) -> Image.Image:
    """What is not a file of its own, as an RGB image."""
    if isinstance(image, str | Path):
        return decode_pillow(sys.stdin.buffer.read(), name)
    if isinstance(image, bytes):
        return decode_pillow(image, name)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
            raise DataError(f"{name}: pixels are uint8 (H, W, 3), not {image.dtype} {image.shape}")
        return Image.fromarray(image)
    return to_rgb(image)
