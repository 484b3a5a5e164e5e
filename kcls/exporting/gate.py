"""The gate: what an exported file answers for held-out images beside what the model answers, and how fast it is."""

import time
from typing import Any

import numpy as np

from kcls.artifact import Classifier, softmax
from kcls.data.opening import check_not_trained_on
from kcls.data.source import Data, Source
from kcls.errors import GateError
from kcls.predictions import Predictions, predict_split

MOST_IMAGES = 2000  # held-out images to compare on
SAME = 2e-3  # probabilities that a float file may be off: rounding of the resize and of float32 sums
TIMED_CALLS = 50


def open_held_out(data: Data, trained: dict[str, str]) -> Source:
    """Images that were not trained on: the recipe's test split, else its val split.

    Args:
        data: the recipe's data.
        trained: fingerprints of the splits of the training.
    """
    role = "test" if data.section.test else "val"
    check_not_trained_on(data, role, trained)
    return data.split(role)


def predict_held_out(classifier: Classifier, split: Source) -> Predictions:
    """The answers for at most ``MOST_IMAGES``, an even choice over the whole split, which may be sorted by class."""
    return predict_split(classifier, split, every=-(-split.count // MOST_IMAGES))


def compare(file: Predictions, model: Predictions, split: str, limits: tuple[float, float] | None) -> dict[str, Any]:
    """Compares a file with the model it was made from.

    Args:
        file: the answers of the file, which gives probabilities: its logits are their logarithms.
        model: those of the model for the same images.
        split: the name of their split or folder.
        limits: of a quantized file: the top-1 that it may lose, if the images have labels, and the share of them for
            which it must give the model's answer; None for a float file, which must give the model's probabilities.

    Returns:
        ``split``, ``count``, ``top1_model``, ``top1`` (both None without labels), ``agreement`` (share of equal
        answers) and ``max_difference`` (of a probability).

    Raises:
        GateError: the file is worse than the limit allows.
    """
    images = f"{len(file.labels)} images of {split}"
    if not np.isfinite(file.logits).all() or not np.isfinite(model.logits).all():
        raise GateError(f"the file's or the model's probabilities are not all finite on {images}")
    report: dict[str, Any] = {
        "split": split,
        "count": len(file.labels),
        "top1_model": model.top1,
        "top1": file.top1,
        "agreement": float((file.answers == model.answers).mean()),
        "max_difference": float(np.abs(np.exp(file.logits) - softmax(model.logits)).max()),
    }
    if limits is None:
        _check_exact(report, images)
    else:
        _check_limits(report, images, *limits)
    return report


def _check_exact(report: dict[str, Any], images: str) -> None:
    if report["max_difference"] > SAME:
        raise GateError(
            f"the file's probabilities differ from the model's by {report['max_difference']:.4f}, "
            f"more than {SAME}; the answers agree on {report['agreement']:.2%} of {images}"
        )


def _check_limits(report: dict[str, Any], images: str, max_drop: float, min_agreement: float) -> None:
    drop = 0 if report["top1"] is None else report["top1_model"] - report["top1"]
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


def latency_ms(file: Classifier, contents) -> float:
    """Milliseconds of one answer, the median of many; of the network alone for a file that is fed with squares."""
    prepared = [file.view(contents).numpy()]
    seconds = []
    for _ in range(TIMED_CALLS):
        began = time.perf_counter()
        file.probabilities(prepared)
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds) * 1000)
