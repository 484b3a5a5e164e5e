"""Several right answers for an image, as in Beyer et al., "Are we done with ImageNet?", arXiv:2006.07159 (ReaL)."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kcls.errors import DataError, near
from kcls.labels import positions

LabelSets = list[frozenset[int]]
"""The right classes of each image, in the images' order; none of an image that is left out."""


def read_label_sets(file: str | Path, names: Sequence[str], class_names: tuple[str, ...]) -> LabelSets:
    """Reads which classes are right for each image.

    Args:
        file: a JSON object, from an image's path in its folder or its file name to a list of classes; or the paper's
            own ``real.json``, a list of such lists, whose entry i is of ``ILSVRC2012_val_{i+1:08d}.JPEG``. A class is
            its index, its name or, of ImageNet's, its synset.
        names: of the images.
        class_names: of the artifact.

    Raises:
        DataError: the file cannot be read, does not know an image, or names a class that is not there.
    """
    known, classes = _read(file), positions(class_names)
    files = Counter(Path(name).name for name in names)
    sets = []
    for name in names:
        key = name if name in known else Path(name).name
        if key not in known:
            raise DataError(f"{file} does not know the image {name}")
        if key != name and files[key] > 1:
            raise DataError(f"{file} names {key}, and {files[key]} images are called so: name them by their paths")
        if not isinstance(known[key], list):
            raise DataError(f"{file}: {key} must have a list of classes, not {known[key]!r}")
        sets.append(frozenset(_index(each, classes, len(class_names), f"{file}: {key}") for each in known[key]))
    return sets


def _read(file: str | Path) -> dict[str, Any]:
    """What the file says of each image, by its path or file name."""
    try:
        value = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}") from None
    if isinstance(value, list):
        return {f"ILSVRC2012_val_{i:08d}.JPEG": classes for i, classes in enumerate(value, 1)}
    if not isinstance(value, dict):
        raise DataError(f"{file} must hold an object {{image: [class, ...]}} or a list of lists, not {value!r:.40}")
    return value


def _index(given: Any, classes: dict[str, int], count: int, where: str) -> int:
    """The place of a class among the logits."""
    if isinstance(given, str):
        if given not in classes:
            raise DataError(f"{where}: the model has no class {given!r}{near(given, classes)}")
        return classes[given]
    if type(given) is not int or not 0 <= given < count:
        raise DataError(f"{where}: a class is a name or an index from 0 to {count - 1}, not {given!r}")
    return given


def summarize_sets(answers: np.ndarray, sets: LabelSets) -> dict[str, Any]:
    """``real_top1``, the share of the images whose answer is in their set, and ``real_count``, how many have one.

    Raises:
        DataError: no image has.
    """
    hits = [answer in right for answer, right in zip(answers.tolist(), sets, strict=True) if right]
    if not hits:
        raise DataError("the label sets of all these images are empty")
    return {"real_top1": float(np.mean(hits)), "real_count": len(hits)}
