"""The gate: every exported file is opened again and run on held-out images, and refused if it is not as good."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from kcls.artifact import Classifier, KerasClassifier
from kcls.data.decode import decode_tensor
from kcls.data.opening import check_not_trained_on
from kcls.data.reading import reading
from kcls.data.source import Data
from kcls.data.stream import examples
from kcls.errors import GateError

MOST_IMAGES = 2000  # held-out images to compare on
SAME = 2e-3  # probabilities that a float file may be off: rounding of the resize and of float32 sums
TIMED_CALLS = 50


class HeldOut:
    """Images that were not trained on, in their own sizes; read anew in each pass, as they may be large.

    Args:
        data: the recipe's data; its test split is taken, else its val split.
        trained: fingerprints of the splits of the training.
        model: what the files were made from.

    Attributes:
        labels: of each image, (N,).
        expected: the model's own probabilities, (N, C).
    """

    def __init__(self, data: Data, trained: dict[str, str], model: KerasClassifier):
        self.split = "test" if data.section.test else "val"
        check_not_trained_on(data, self.split, trained)
        self._data = data.split(self.split)
        # An even choice over the whole split, which may be sorted by class.
        self._every = -(-self._data.count // MOST_IMAGES)
        labels, expected = [], []
        for image, label in self:
            square = model.preprocess.tensor(np.asarray(image)).numpy()
            labels.append(label)
            expected.append(model.probabilities([square])[0])
        self.labels, self.expected = np.array(labels), np.stack(expected)

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        stream = iter(examples(self._data, decode_tensor, every=self._every))
        while (example := reading(self._data, lambda: next(stream, None))) is not None:
            yield Image.fromarray(example[0].numpy()), int(example[1])


def inspect(file: Classifier, held_out: HeldOut, limits: tuple[float, float] | None = None) -> dict[str, Any]:
    """Compares a file with the model it was made from.

    Args:
        file: the opened file.
        held_out: what to compare on.
        limits: of a quantized file: the top-1 that it may lose, and the share of the images for which it must give
            the model's answer; None for a float file, which must give the model's own probabilities.

    Returns:
        ``split``, ``count``, ``top1_model``, ``top1``, ``agreement`` (share of equal answers), ``max_difference``
        (of a probability) and ``latency_ms`` (median of one image, one thread for TFLite).

    Raises:
        GateError: the file is worse than the limit allows.
    """
    answers = np.concatenate([file.classify([image]) for image, _ in held_out])
    mine, theirs = answers.argmax(-1), held_out.expected.argmax(-1)
    report: dict[str, Any] = {
        "split": held_out.split,
        "count": len(mine),
        "top1_model": float((theirs == held_out.labels).mean()),
        "top1": float((mine == held_out.labels).mean()),
        "agreement": float((mine == theirs).mean()),
        "max_difference": float(np.abs(answers - held_out.expected).max()),
        "latency_ms": _latency(file, next(iter(held_out))[0]),
    }
    images = f"{report['count']} {held_out.split} images"
    if not np.isfinite(answers).all() or not np.isfinite(held_out.expected).all():
        raise GateError(f"the file's or the model's probabilities are not all finite on {images}")
    if limits is None:
        if report["max_difference"] > SAME:
            raise GateError(
                f"the file's probabilities differ from the model's by {report['max_difference']:.4f}, "
                f"more than {SAME}; the answers agree on {report['agreement']:.2%} of {images}"
            )
        return report
    max_drop, min_agreement = limits
    drop = report["top1_model"] - report["top1"]
    if drop > max_drop + 1e-9:
        raise GateError(
            f"the file's top-1 is {report['top1']:.4f}, the model's {report['top1_model']:.4f} on {images}: "
            f"a drop of {drop:.4f}, and max_drop allows {max_drop:g}"
        )
    if report["agreement"] < min_agreement:
        raise GateError(
            f"the file gives the model's answer for {report['agreement']:.2%} of {images}, "
            f"and min_agreement asks for {min_agreement:.2%}"
        )
    return report


def _latency(file: Classifier, image: Image.Image) -> float:
    """Milliseconds of one answer, the median of many; of the network alone for a file that is fed with squares."""
    prepared = [file.prepare(image)]
    seconds = []
    for _ in range(TIMED_CALLS):
        began = time.perf_counter()
        file.probabilities(prepared)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds) * 1000)
