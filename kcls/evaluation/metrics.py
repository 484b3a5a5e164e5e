"""Numbers from predictions, in NumPy and float64."""

from typing import Any

import numpy as np

from kcls.predictions import Predictions


def summarize(predictions: Predictions, top_k: int) -> dict[str, Any]:
    """The numbers of all images together.

    ``count``, ``loss`` (cross-entropy), ``top1``, ``top<k>``, ``macro_precision``, ``macro_recall``, ``macro_f1``;
    all but count and loss are fractions 0..1. A mean over classes (``macro``) is over those that occur. Without labels
    there is the count alone.
    """
    if not predictions.labelled:
        return {"count": len(predictions.names)}
    places = ranks(predictions)
    summary: dict[str, Any] = {"count": len(places), "loss": cross_entropy(predictions)}
    for k in sorted({1, top_k}):
        summary[f"top{k}"] = float((places < k).mean())
    rows = [row for row in per_class(predictions) if row["count"]]
    for name in ("precision", "recall", "f1"):
        summary[f"macro_{name}"] = float(np.mean([row[name] for row in rows]))
    return summary


def cross_entropy(predictions: Predictions) -> float:
    """Mean of -log softmax(logits)[label], natural logarithm."""
    logits, labels = predictions.logits.astype(np.float64), predictions.labels
    top = logits.max(-1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(-1))
    return float((log_sum - logits[np.arange(len(labels)), labels]).mean())


def ranks(predictions: Predictions) -> np.ndarray:
    """Place of the label among the classes, 0 for the highest logit; of equal logits the lower class comes first.

    So a model that answers the same for everything is not right everywhere, as ``in_top_k`` would have it.
    """
    logits, labels = predictions.logits, predictions.labels
    own = logits[np.arange(len(labels)), labels][:, np.newaxis]
    higher = (logits > own).sum(-1)
    equal_before = ((logits == own) & (np.arange(logits.shape[1]) < labels[:, np.newaxis])).sum(-1)
    return higher + equal_before


def confusion_matrix(predictions: Predictions) -> np.ndarray:
    """Counts (C, C): row is the true class, column the predicted one."""
    classes = len(predictions.class_names)
    pairs = predictions.labels * classes + predictions.answers
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def per_class(predictions: Predictions) -> list[dict[str, Any]]:
    """Count, precision, recall and F1 of each class; 0 where a class never occurs or is never predicted."""
    confusion = confusion_matrix(predictions)
    hits = np.diag(confusion).astype(float)
    true, predicted = confusion.sum(1), confusion.sum(0)
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    recall = np.divide(hits, true, out=np.zeros_like(hits), where=true > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(hits), where=both > 0)
    return [
        {"class": name, "count": int(n), "precision": float(p), "recall": float(r), "f1": float(f)}
        for name, n, p, r, f in zip(predictions.class_names, true, precision, recall, f1, strict=True)
    ]
