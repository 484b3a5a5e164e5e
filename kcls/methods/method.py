"""What a training method is to ``kcls train``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras


@dataclass(frozen=True)
class Watched:
    """The validation metric that tells which epoch was the best.

    Attributes:
        metric: its name, such as top1, or loss.
        direction: whether the highest or the lowest value is the best.
    """

    metric: str
    direction: Literal["max", "min"]

    @property
    def key(self) -> str:
        """The metric's name in an epoch's row."""
        return f"val_{self.metric}"

    def rank(self, row: Mapping[str, Any]) -> tuple[float, float]:
        """How good an epoch was, from its row: higher is better; among equals, the lower validation loss is."""
        value = row[self.key]
        return (value if self.direction == "max" else -value, -row["val_loss"])


class Method(keras.Model):
    """Trains a flat network, in ``kcls train`` and in one's own ``fit``; as it stands, on labels and nothing else.

    A method overrides the step that is its own: ``call``, ``compute_loss``, ``compute_metrics`` or ``train_step``. It
    may hold further networks, such as a teacher.

    Args:
        network: a model of ``create_model``: what is trained, saved, evaluated and exported.

    Attributes:
        watched: what the best epoch is the best of.
    """

    watched = Watched("top1", "max")

    def __init__(self, network: keras.Model):
        super().__init__(name=network.name)
        self.network = network

    def call(self, x, training=None):
        """Returns what the network makes of images."""
        return self.network(x, training=training)
