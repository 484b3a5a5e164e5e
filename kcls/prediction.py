"""Prediction: image files to labels with probabilities."""

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from kcls.artifact import Classifier, open_artifact
from kcls.data.decode import SUFFIXES, read_image
from kcls.errors import DataError, RecipeError
from kcls.run import Run


@dataclass(frozen=True)
class Prediction:
    """The answer for one image: its most probable labels, or why there is none.

    Attributes:
        image: the path as found.
        labels: (class name, probability), the most probable first; empty if the image could not be read.
        error: what was wrong with the image, None if nothing was.
    """

    image: str
    labels: tuple[tuple[str, float], ...] = ()
    error: str | None = None


def predict(
    artifact: Classifier | Run | str | Path, images: Iterable[str | Path], *, top_k: int = 5
) -> Iterator[Prediction]:
    """Classifies files, folders of images (with their subfolders) and glob patterns, in the given order.

    An image that cannot be read is answered with its error, and the others are done.

    Args:
        artifact: a run, a SavedModel, a TFLite file, or an opened one.
        images: what to classify.
        top_k: how many labels each image gets, at most the number of classes.

    Raises:
        KclsError: the artifact cannot be opened.
        RecipeError: ``top_k`` is below 1.
    """
    if top_k < 1:
        raise RecipeError(f"top_k must be 1 or more, not {top_k}")
    if isinstance(artifact, Run):
        artifact = artifact.path
    classifier = artifact if isinstance(artifact, Classifier) else open_artifact(artifact)
    return _predictions(classifier, _expand(images), top_k)


def _predictions(classifier: Classifier, found: Iterator[Prediction], top_k: int) -> Iterator[Prediction]:
    while batch := list(islice(found, classifier.batch_size)):
        prepared: dict[int, np.ndarray] = {}  # as small as the model sees them: photos are large
        for i, item in enumerate(batch):
            try:
                if not item.error:
                    prepared[i] = classifier.prepare(read_image(item.image))
            except DataError as error:
                batch[i] = Prediction(item.image, error=str(error).removeprefix(f"{item.image}: "))
        if prepared:
            probabilities = classifier.probabilities(list(prepared.values()))
            for i, row in zip(prepared, probabilities, strict=True):
                best = np.argsort(-row, kind="stable")[:top_k]
                batch[i] = Prediction(batch[i].image, tuple((classifier.class_names[j], float(row[j])) for j in best))
        yield from batch


def _expand(images: Iterable[str | Path]) -> Iterator[Prediction]:
    """A prediction without labels for every file; with an error where there is none."""
    for image in images:
        path = Path(image)
        if path.is_dir():
            files = sorted(str(f) for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
            nothing = f"the folder holds no image ({', '.join(SUFFIXES)})"
        elif path.exists() or not glob.has_magic(str(image)):
            files, nothing = [str(image)], ""  # a missing file gets its error when it is read
        else:
            files = sorted(f for f in glob.glob(str(image), recursive=True) if Path(f).is_file())
            nothing = "no file matches the pattern"
        yield from (Prediction(file) for file in files)
        if not files:
            yield Prediction(str(image), error=nothing)
