"""The gate: every exported file is opened again and run on held-out images, and refused if it is not as good."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from kcls.artifact import Classifier, KerasClassifier, TFLiteClassifier
from kcls.data.preprocess import Preprocess
from kcls.data.sources import open_split, reading
from kcls.errors import GateError
from kcls.recipe import DataSection

MOST_IMAGES = 2000  # held-out images to compare on
SAME = 2e-3  # probabilities that a float file may be off: rounding of the resize and of float32 sums
TIMED_CALLS = 50


class HeldOut:
    """Images that were not trained on, with their labels and the model's own answers.

    Args:
        data: the recipe's data section; its test split is taken, else its val split.
        model: what the files were made from.
    """

    def __init__(self, data: DataSection, model: KerasClassifier):
        self.split = "test" if data.test else "val"
        opened = open_split(data, self.split, raw=True)
        # An even choice over the whole split, which may be sorted by class.
        chosen = set(np.linspace(0, opened.count - 1, min(opened.count, MOST_IMAGES)).astype(int).tolist())
        self.images: list[Image.Image] = []
        labels = []
        stream = iter(opened.examples())
        while (example := reading(opened, lambda: next(stream, None))) is not None:
            if int(example[0]) in chosen:
                self.images.append(Image.fromarray(example[1].numpy()))
                labels.append(int(example[2]))
        self.labels = np.array(labels)
        preprocess = Preprocess.from_recipe(data)
        squares = np.stack([preprocess.tensor(np.asarray(image)).numpy() for image in self.images])
        self.expected = np.concatenate(
            [model.probabilities(part) for part in np.array_split(squares, len(squares) // 64 + 1)]
        )


def inspect(file: Classifier, held_out: HeldOut, *, exact: bool, max_drop: float) -> dict[str, Any]:
    """Compares a file with the model it was made from.

    Args:
        file: the opened file.
        held_out: what to compare on.
        exact: whether the file must give the model's own probabilities; else it may lose ``max_drop`` of top-1.
        max_drop: a fraction.

    Returns:
        ``split``, ``count``, ``top1_model``, ``top1``, ``agreement`` (share of equal answers), ``max_difference``
        (of a probability) and ``latency_ms`` (median of one image, one thread for TFLite).

    Raises:
        GateError: the file is worse than the limit allows.
    """
    answers = np.concatenate([file.classify([image]) for image in held_out.images])
    mine, theirs = answers.argmax(-1), held_out.expected.argmax(-1)
    report: dict[str, Any] = {
        "split": held_out.split,
        "count": len(mine),
        "top1_model": float((theirs == held_out.labels).mean()),
        "top1": float((mine == held_out.labels).mean()),
        "agreement": float((mine == theirs).mean()),
        "max_difference": float(np.abs(answers - held_out.expected).max()),
        "latency_ms": _latency(file, held_out.images[0]),
    }
    drop = report["top1_model"] - report["top1"]
    if exact and report["max_difference"] > SAME:
        raise GateError(
            f"the file's probabilities differ from the model's by {report['max_difference']:.4f}, more than {SAME}; "
            f"the answers agree on {report['agreement']:.2%} of {report['count']} {held_out.split} images"
        )
    if drop > max_drop + 1e-9:
        raise GateError(
            f"the file's top-1 is {report['top1']:.4f}, the model's {report['top1_model']:.4f} on {report['count']} "
            f"{held_out.split} images: a drop of {drop:.4f}, and max_drop allows {max_drop:g}"
        )
    return report


def _latency(file: Classifier, image: Image.Image) -> float:
    """Milliseconds of one answer, the median of many; of the network alone for a file that is fed with squares."""
    call: Callable[[], Any]
    if isinstance(file, TFLiteClassifier):
        square = file.preprocess.pillow(image)[np.newaxis]
        call = lambda: file.probabilities(square)  # noqa: E731
    else:
        call = lambda: file.classify([image])  # noqa: E731
    seconds = []
    for _ in range(TIMED_CALLS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds) * 1000)
