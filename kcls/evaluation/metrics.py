"""Numbers from logits and labels, in NumPy and float64."""

from typing import Any

import numpy as np


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log softmax(logits)[label], natural logarithm."""
    logits = logits.astype(np.float64)
    top = logits.max(-1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(-1))
    return float((log_sum - logits[np.arange(len(labels)), labels]).mean())


def ranks(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Place of the label among the classes, 0 for the highest logit; of equal logits the lower class comes first.

    So a model that answers the same for everything is not right everywhere, as ``in_top_k`` would have it.
    """
    own = logits[np.arange(len(labels)), labels][:, np.newaxis]
    higher = (logits > own).sum(-1)
    equal_before = ((logits == own) & (np.arange(logits.shape[1]) < labels[:, np.newaxis])).sum(-1)
    return higher + equal_before


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts (C, C): row is the true class, column the predicted one."""
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def per_class(confusion: np.ndarray, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Count, precision, recall and F1 of each class; 0 where a class never occurs or is never predicted."""
    hits = np.diag(confusion).astype(float)
    true, predicted = confusion.sum(1), confusion.sum(0)
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    recall = np.divide(hits, true, out=np.zeros_like(hits), where=true > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(hits), where=both > 0)
    return [
        {"class": name, "count": int(n), "precision": float(p), "recall": float(r), "f1": float(f)}
        for name, n, p, r, f in zip(class_names, true, precision, recall, f1, strict=True)
    ]
