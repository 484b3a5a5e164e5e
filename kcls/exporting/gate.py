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


def open_held_out(data: Data, trained: dict[str, str], role: str | None = None) -> Source:
    """Images that were not trained on.

    Args:
        data: the recipe's data.
        trained: fingerprints of the splits of the training.
        role: ``val`` or ``test``; None is the test split if there is one, else val.
    """
    role = role or ("test" if data.section.test else "val")
    check_not_trained_on(data, role, trained)
    return data.split(role)


def predict_held_out(classifier: Classifier, split: Source) -> Predictions:
    """The answers for at most ``MOST_IMAGES``, an even choice over the whole split, which may be sorted by class."""
    return predict_split(classifier, split, every=-(-split.count // MOST_IMAGES))


def compare(
    file: Predictions, model: Predictions, split: str, limits: tuple[float, float] | None, surely: bool = False
) -> dict[str, Any]:
    """The ``differences`` of a file from the model it was made from, if they are within the limits.

    Raises:
        GateError: they are not, see ``check_limits``; the message names images that the file answers otherwise.
    """
    report = differences(file, model, split)
    try:
        check_limits(report, limits, surely)
    except GateError as error:
        raise GateError(f"{error}{_flips(file, model)}") from None
    return report


def differences(file: Predictions, model: Predictions, split: str) -> dict[str, Any]:
    """What differs between the answers of a file and those of the model it was made from.

    Args:
        file: the answers of the file, which gives probabilities: its logits are their logarithms.
        model: those of the model for the same images.
        split: the name of their split or folder.

    Returns:
        ``split``, ``count``, ``top1_model``, ``top1`` (both None without labels), ``drop_interval`` (see
        ``paired_interval``, with labels only), ``agreement`` (share of equal answers) and ``max_difference`` (of a
        probability).

    Raises:
        GateError: a probability is no number.
    """
    if not np.isfinite(file.logits).all() or not np.isfinite(model.logits).all():
        count = f"{len(file.labels)} images of {split}"
        raise GateError(f"the file's or the model's probabilities are not all finite on {count}")
    report: dict[str, Any] = {
        "split": split,
        "count": len(file.labels),
        "top1_model": model.top1,
        "top1": file.top1,
        "agreement": float((file.answers == model.answers).mean()),
        "max_difference": float(np.abs(np.exp(file.logits) - softmax(model.logits)).max()),
    }
    if file.labelled:
        report["drop_interval"] = paired_interval(model.answers == model.labels, file.answers == file.labels)
    return report


def check_limits(report: dict[str, Any], limits: tuple[float, float] | None, surely: bool = False) -> None:
    """Raises a GateError if a file is worse than allowed.

    Args:
        report: its ``differences``.
        limits: of a quantized file: the top-1 that it may lose, if the images have labels, and the share of them for
            which it must give the model's answer; None for a float file, which must give the model's probabilities.
        surely: refuse a drop of top-1 only if it is more than allowed beyond the chance of the choice of the images,
            at 95 %; for the one file that was chosen on other images.
    """
    images = f"{report['count']} images of {report['split']}"
    if limits is None:
        _check_exact(report, images)
    else:
        _check_drop(report, images, *limits, surely)


def paired_interval(before: np.ndarray, after: np.ndarray) -> list[float]:
    """The 95 % interval of the share that is lost from one answer to another, for the same images.

    It is that of Agresti and Min for paired proportions (Statistics in Medicine 24, 2005): half an image is added to
    each of the four counts, so that it has a width even if nothing differs.

    Args:
        before: whether each image was right, bool (N,).
        after: the same of the other answer.

    Returns:
        Its ends, lost shares from -1 to 1.
    """
    lost, won, count = (before & ~after).sum() + 0.5, (after & ~before).sum() + 0.5, len(before) + 2
    middle = (lost - won) / count
    half = 1.96 * np.sqrt(lost + won - (lost - won) ** 2 / count) / count
    return [float(middle - half), float(middle + half)]


def check_cost(report: dict[str, Any], max_size: int | None, max_latency_ms: float | None) -> None:
    """Raises a GateError if a file is larger or slower than a limit that is not None."""
    size, latency = report["size_bytes"], report["latency_ms"]
    if max_size and size > max_size:
        raise GateError(f"the file has {size:,} bytes, and max_size allows {max_size:,}")
    if max_latency_ms and latency > max_latency_ms:
        raise GateError(f"an image takes {latency:.3g} ms here, and max_latency allows {max_latency_ms:g} ms")


def _flips(file: Predictions, model: Predictions) -> str:
    """Which images are answered otherwise, the first of them in words."""
    flipped = np.flatnonzero(file.answers != model.answers)
    names = file.class_names
    said = [f"{file.names[i]} ({names[model.answers[i]]}, now {names[file.answers[i]]})" for i in flipped[:3]]
    more = f" and {len(flipped) - 3:,} more" if len(flipped) > 3 else ""
    return f"; other answers: {', '.join(said)}{more}" if said else ""


def _check_exact(report: dict[str, Any], images: str) -> None:
    if report["max_difference"] > SAME:
        raise GateError(
            f"the file's probabilities differ from the model's by {report['max_difference']:.4f}, "
            f"more than {SAME}; the answers agree on {report['agreement']:.2%} of {images}"
        )


def _check_drop(report: dict[str, Any], images: str, max_drop: float, min_agreement: float, surely: bool) -> None:
    drop = 0 if report["top1"] is None else report["top1_model"] - report["top1"]
    least = report["drop_interval"][0] if surely and "drop_interval" in report else drop
    if least > max_drop + 1e-9:
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
