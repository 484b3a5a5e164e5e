"""What is minimised and what is watched."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("kcls")
class CrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy of integer labels (B,) and logits (B, C), with label smoothing.

    Szegedy et al. 2016, arXiv:1512.00567, section 7: the target is 1 - s + s/C for the label and s/C elsewhere.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """The loss of each image, (B,)."""
        target = ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            target, y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def make_metrics() -> list[keras.metrics.Metric]:
    """Top-1 and the plain cross-entropy; as weighted metrics they are exact on padded batches too."""
    return [
        keras.metrics.SparseCategoricalAccuracy(name="top1"),
        keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"),
    ]


def measured(logs: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a model in the words of an epoch's row.

    ``objective`` is what was minimised: with label smoothing, or with whatever a method adds. ``loss`` is the plain
    cross-entropy; where a method measures none, the objective again.
    """
    values = {name: float(value) for name, value in logs.items()}
    objective = values.pop("loss")
    return {"loss": values.pop("cross_entropy", objective), "objective": objective, **values}


def validated(row: Mapping[str, Any]) -> list[str]:
    """Names of the metrics of an epoch's row that were measured in training and in validation, loss first."""
    return [name for name in row if f"val_{name}" in row]
